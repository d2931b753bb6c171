"""What the tests of tensor parallelism run on every rank; read there, never imported here."""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from mpviz import parallel
from mpviz.shards import Cut

TOKENS, BATCH, HIDDEN, FFN, HEADS, WORDS = 8, 3, 16, 32, 8, 24


def relative(found, expected):
    """The largest difference, against the largest value."""
    assert found.shape == expected.shape and found.dtype == expected.dtype, (found, expected)
    return ((found - expected).abs().max() / expected.abs().max()).item()


def part_of(whole, dim, group):
    """This rank's part of a tensor that is cut along dim, or whole."""
    cut = Cut("tensor", tuple(whole.shape), group.size(), dim=dim)
    return cut.part(whole, group.rank()).clone()


# ---- layers beside the same layers uncut

CUT = {  # each layer: the uncut one; then where its input and its output are cut, plain and sp
    "column": (lambda bias: nn.Linear(HIDDEN, FFN, bias), (None, -1), (0, -1)),
    "column, output gathered": (lambda bias: nn.Linear(HIDDEN, FFN, bias), (None, None), None),
    "row": (lambda bias: nn.Linear(FFN, HIDDEN, bias), (-1, None), (-1, 0)),
    "row, input whole": (lambda bias: nn.Linear(FFN, HIDDEN, bias), (None, None), None),
    "mlp": (lambda bias: parallel.MLP(HIDDEN, FFN, bias=bias), (None, None), (0, 0)),
    "attention": (
        lambda bias: parallel.SelfAttention(HIDDEN, HEADS, bias=bias),
        (None, None),
        (0, 0),
    ),
    "causal attention": (
        lambda bias: parallel.SelfAttention(HIDDEN, HEADS, causal=True, bias=bias),
        (None, None),
        (0, 0),
    ),
    "embedding": (lambda bias: nn.Embedding(WORDS, HIDDEN), (None, None), (None, 0)),
}


def cut_layer(name, uncut, group, sequence_parallel):
    options = {"sequence_parallel": sequence_parallel}
    if name.startswith("column"):
        options["gather_output"] = "gathered" in name
        return parallel.ColumnParallelLinear.from_reference(uncut, group, **options)
    if name.startswith("row"):
        options["input_is_parallel"] = "whole" not in name
        return parallel.RowParallelLinear.from_reference(uncut, group, **options)
    if name == "embedding":
        return parallel.VocabParallelEmbedding.from_reference(
            uncut, group, reduce_scatter_embeddings=sequence_parallel
        )
    kind = parallel.ParallelMLP if name == "mlp" else parallel.ParallelAttention
    return kind.from_reference(uncut, group, **options)


def differences(name, sequence_parallel, bias, dtype, group):
    """Run a layer whole and cut; by how much outputs and gradients differ."""
    torch.manual_seed(5)
    make, *places = CUT[name]
    if places[sequence_parallel] is None:
        return {}
    x_dim, y_dim = places[sequence_parallel]
    dtype = getattr(torch, dtype)
    uncut = make(bias).to(dtype)
    cut = cut_layer(name, uncut, group, sequence_parallel)
    if name == "embedding":
        x = torch.randint(WORDS, (TOKENS, BATCH))
    else:
        width = FFN if name.startswith("row") else HIDDEN
        x = torch.randn(TOKENS, BATCH, width, dtype=dtype, requires_grad=True)
    y = uncut(x)
    dy = torch.randn_like(y)
    y.backward(dy)

    x_part = part_of(x.detach(), x_dim, group).requires_grad_(x.requires_grad)
    y_part = cut(x_part)
    y_part.backward(part_of(dy, y_dim, group))
    parallel.reduce_sequence_parallel_gradients(cut, group)

    found = {"y": relative(y_part.detach(), part_of(y.detach(), y_dim, group))}
    if x.requires_grad:
        found["dx"] = relative(x_part.grad, part_of(x.grad, x_dim, group))
    for key, gradient in joined(cut, group, lambda parameter: parameter.grad).items():
        found[f"d{key}"] = relative(gradient, dict(uncut.named_parameters())[key].grad)
    return found


def joined(cut, group, of=torch.Tensor.detach):
    """Whole parameters from every rank's parts, or what belongs to them: plain torch by itself."""
    whole = {}
    for name, parameter in cut.named_parameters():
        layer = cut.get_submodule(name.rpartition(".")[0])
        parts = [torch.empty_like(parameter) for _ in range(group.size())]
        dist.all_gather(parts, of(parameter).contiguous(), group=group)
        if not isinstance(layer, parallel.RowParallelLinear):
            stacked = getattr(layer, "stacked", 1)
            stacks = zip(*(part.chunk(stacked) for part in parts), strict=True)
            whole[name] = torch.cat([torch.cat(stack) for stack in stacks])
        elif parameter.ndim == 2:
            whole[name] = torch.cat(parts, 1)
        else:  # one bias, on every rank
            assert all(torch.equal(part, parts[0]) for part in parts)
            whole[name] = parts[0]
    return whole


def roundtrip(name, group):
    """Cut and join again; which parameters are not bit for bit the same."""
    uncut = CUT[name][0](True)
    seed = torch.Generator().manual_seed(3)  # ranks draw differently by themselves
    with torch.no_grad():
        for parameter in uncut.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=seed))
    cut = cut_layer(name, uncut, group, False)
    assert all(parameter.is_contiguous() for parameter in cut.parameters())
    after, before = joined(cut, group), dict(uncut.named_parameters())
    assert after.keys() == before.keys()
    return [name for name in before if not torch.equal(before[name], after[name])]


# ---- initialisation

DRAWN = {
    "column": lambda group, **o: parallel.ColumnParallelLinear(HIDDEN, FFN, group, **o),
    "stacked": lambda group, **o: parallel.ColumnParallelLinear(
        HIDDEN, 3 * FFN, group, stacked=3, **o
    ),
    "row": lambda group, **o: parallel.RowParallelLinear(FFN, HIDDEN, group, **o),
    "mlp": lambda group, **o: parallel.ParallelMLP(HIDDEN, FFN, group, **o),
    "attention": lambda group, **o: parallel.ParallelAttention(HIDDEN, HEADS, group, **o),
    "embedding": lambda group, **o: parallel.VocabParallelEmbedding(WORDS, HIDDEN, group, **o),
}


def drawn_differently(name, group):
    """Which parameters differ from those that a rank alone draws with the same seed."""
    alone = dist.new_group([dist.get_rank()], use_local_synchronization=True)
    ours, theirs = (
        joined(DRAWN[name](members, generator=torch.Generator().manual_seed(7)), members)
        for members in (group, alone)
    )
    return [key for key in ours if not torch.equal(ours[key], theirs[key])]


# ---- loss


def loss_differences(dtype, group, scale=1.0):
    torch.manual_seed(6)
    logits = scale * torch.randn(TOKENS, BATCH, WORDS, dtype=getattr(torch, dtype))
    logits.requires_grad_()
    target = torch.randint(WORDS, (TOKENS, BATCH))
    dloss = torch.randn(TOKENS, BATCH, dtype=logits.dtype)
    loss = F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none")
    loss = loss.view(TOKENS, BATCH)
    loss.backward(dloss)
    part = part_of(logits.detach(), -1, group).requires_grad_()
    ours = parallel.vocab_parallel_cross_entropy(part, target, group)
    ours.backward(dloss)
    expected = part_of(logits.grad, -1, group)
    # A part may hold next to nothing of the gradient: compared with the largest of the whole.
    error = (part.grad - expected).abs().max() / logits.grad.abs().max()
    return {"loss": relative(ours.detach(), loss.detach()), "dlogits": error.item()}


# ---- what is communicated


def transformer_layer(sequence_parallel, dtype, group):
    """Attention and MLP, forward and backward."""
    options = {"sequence_parallel": sequence_parallel, "dtype": getattr(torch, dtype)}
    attention = parallel.ParallelAttention(HIDDEN, HEADS, group, **options)
    mlp = parallel.ParallelMLP(HIDDEN, FFN, group, **options)
    tokens = TOKENS // group.size() if sequence_parallel else TOKENS
    x = torch.ones(tokens, BATCH, HIDDEN, dtype=options["dtype"], requires_grad=True)
    mlp(attention(x)).sum().backward()


def alone(name, sequence_parallel, group):
    """One layer, forward and backward, in float32."""
    cut = cut_layer(name, CUT[name][0](True), group, sequence_parallel)
    x_dim, _ = CUT[name][1 + sequence_parallel]
    width = FFN if name.startswith("row") else HIDDEN
    if name == "embedding":
        x = torch.zeros(TOKENS, BATCH, dtype=torch.int64)
    else:
        x = part_of(torch.ones(TOKENS, BATCH, width), x_dim, group).requires_grad_()
    cut(x).sum().backward()


def loss_alone(group):
    logits = torch.ones(TOKENS, WORDS // group.size(), requires_grad=True)
    target = torch.zeros(TOKENS, dtype=torch.int64)
    parallel.vocab_parallel_cross_entropy(logits, target, group).sum().backward()


def kept(name, sequence_parallel, group):
    """Numbers that a layer keeps from forward for its backward, weights left out."""
    cut = cut_layer(name, CUT[name][0](False), group, sequence_parallel)
    x_dim, _ = CUT[name][1 + sequence_parallel]
    x = part_of(torch.ones(TOKENS, BATCH, HIDDEN), x_dim, group).requires_grad_()
    weights = {parameter.data_ptr() for parameter in cut.parameters()}
    sizes = {}

    def note(tensor):
        if tensor.data_ptr() not in weights:
            sizes[tensor.data_ptr()] = tensor.untyped_storage().nbytes() // tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        cut(x)
    return sum(sizes.values())
