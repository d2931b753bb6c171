"""What the tests of the collectives run on every rank; read there, never imported here."""

import torch
import torch.distributed as dist
from torch.autograd import gradcheck, gradgradcheck

from mpviz import parallel
from mpviz.parallel import (
    copy_to_tensor_model_parallel_region,
    gather_from_sequence_parallel_region,
    gather_from_tensor_model_parallel_region,
    reduce_from_tensor_model_parallel_region,
    reduce_scatter_to_sequence_parallel_region,
    scatter_to_sequence_parallel_region,
    scatter_to_tensor_model_parallel_region,
)

group = groups["tp"]  # noqa: F821  the ranks' own names
tp, me = group.size(), group.rank()


# ---- each operator beside a loop over all ranks' tensors


def copied(xs):
    return list(xs)


def summed(xs):
    total = torch.zeros_like(xs[0])
    for x in xs:
        total = total + x
    return [total] * tp


def split(dim):
    def parts(xs):
        size = xs[0].shape[dim] // tp
        return [x.narrow(dim, rank * size, size) for rank, x in enumerate(xs)]

    return parts


def joined(dim):
    return lambda xs: [torch.cat(xs, dim)] * tp


def summed_and_split(xs):
    return split(0)(summed(xs))


OPERATORS = {  # the function, forward and backward as loops
    "copy_to": (copy_to_tensor_model_parallel_region, copied, summed),
    "reduce_from": (reduce_from_tensor_model_parallel_region, summed, copied),
    "scatter_to": (scatter_to_tensor_model_parallel_region, split(-1), joined(-1)),
    "gather_from": (gather_from_tensor_model_parallel_region, joined(-1), split(-1)),
    "scatter_to_sequence": (scatter_to_sequence_parallel_region, split(0), joined(0)),
    "gather_from_sequence": (gather_from_sequence_parallel_region, joined(0), summed_and_split),
    "gather_from_sequence, whole": (
        lambda x, group: gather_from_sequence_parallel_region(
            x, group, tensor_parallel_output_grad=False
        ),
        joined(0),
        split(0),
    ),
    "reduce_scatter": (reduce_scatter_to_sequence_parallel_region, summed_and_split, joined(0)),
}


def of_all_ranks(shape, seed):
    # Whole numbers, so that sums are exact in any order.
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(-9, 9, shape, generator=generator).double() for _ in range(tp)]


def faults(name):
    """What an operator does otherwise than its loop."""
    operator, forward, backward = OPERATORS[name]
    xs = of_all_ranks((2 * tp, 3, 4 * tp), seed=1)
    # Transposed: not contiguous, as inputs and gradients may be.
    x = xs[me].transpose(0, 2).contiguous().transpose(0, 2).requires_grad_()
    y = operator(x, group)
    expected = forward(xs)[me]
    dys = of_all_ranks(expected.shape, seed=2)
    y.backward(dys[me].transpose(0, 2).contiguous().transpose(0, 2))
    found = {
        "forward": torch.equal(y, expected),
        "backward": torch.equal(x.grad, backward(dys)[me]),
    }
    found["input"] = torch.equal(x, xs[me])
    return [part for part, right in found.items() if not right]


# ---- gradients beside finite differences: from a whole tensor to a whole tensor


def column_then_row(x):
    weight = torch.arange(1.0, 5.0, dtype=x.dtype) * (me + 1)
    x = copy_to_tensor_model_parallel_region(x, group)
    return reduce_from_tensor_model_parallel_region((x * weight).sin(), group)


def columns(x):
    x = scatter_to_tensor_model_parallel_region(x, group)
    return gather_from_tensor_model_parallel_region(x.sin() * (me + 1), group)


def tokens(x):
    x = scatter_to_sequence_parallel_region(x, group)
    x = gather_from_sequence_parallel_region(x.sin() * (me + 1), group)
    x = reduce_scatter_to_sequence_parallel_region(x.cos() * (me + 1), group)
    return gather_from_sequence_parallel_region(x, group, tensor_parallel_output_grad=False)


def is_the_gradient(function):
    x = torch.linspace(-1, 1, 16, dtype=torch.float64).view(4, 4).requires_grad_()
    return gradcheck(function, x) and gradgradcheck(function, x)


# ---- in place


def summed_in_place():
    x = torch.full((3,), float(me + 1), requires_grad=True)
    addend = x * 1
    total = reduce_from_tensor_model_parallel_region(addend, group, inplace=True)
    total.sum().backward()
    return total.data_ptr() == addend.data_ptr(), total.tolist(), x.grad.tolist()


def summed_in_place_though_needed():
    addend = torch.ones(3, requires_grad=True) * 1
    needed = addend.sin()
    total = reduce_from_tensor_model_parallel_region(addend, group, inplace=True)
    try:
        (needed + total).sum().backward()
    except RuntimeError as error:
        return str(error)
    return "no error"


# ---- refusals


def said_alone(call):
    """How a call ends: what it raises, if anything."""
    try:
        call()
    except ValueError as error:
        return str(error)
    return "no error"


def said(call):
    """The same, if the group is good for more."""
    end, one = said_alone(call), torch.ones(1)
    dist.all_reduce(one, group=group)
    return end if one.item() == tp else "the group is broken"


def alone_in_a_group(local):
    """What the world's first rank, and the others, can do with a group of the first."""
    members = dist.new_group([0], use_local_synchronization=local)
    return said_alone(lambda: copy_to_tensor_model_parallel_region(torch.ones(1), members))


def mlp(**options):
    return parallel.ParallelMLP(8, 16, group, generator=torch.Generator(), **options)


def taking(odd, usual, unusual):
    """What one rank is given, and the others."""
    return unusual if me == odd else usual
