"""mpviz's cut layers beside Megatron's and DTensor's, on real ranks: ``tensor_ranks.py FOLDER``.

Eight ranks form groups of 1, of 2, of 4 and of 8 in turn. Every rank answers, for each case, by how
much outputs and gradients differ from the peer's.
"""

import sys
import warnings
from itertools import product
from pathlib import Path

from forked import answer  # a script finds its neighbours

RANKS = 8
TP_SIZES = (1, 2, 4, 8)
TOKENS, BATCH, HIDDEN, FFN, WORDS = 8, 3, 16, 32, 24


# ---- what all comparisons share


def relative(ours, theirs):
    """The largest difference, against the largest value; a rank's part may be next to nothing."""
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype, (ours, theirs)
    return ((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1e-3)).item()


def part_of(whole, dim, group):
    """This rank's part of a tensor that is cut along dim, or whole."""
    from mpviz.shards import Cut

    cut = Cut("tensor", tuple(whole.shape), group.size(), dim=dim)
    return cut.part(whole, group.rank()).clone()


def run(module, x, dy):
    """Forward and backward; the output, and the gradients of input and parameters by name."""
    x = x.clone().requires_grad_(x.is_floating_point())
    y = module(x)
    y.backward(dy)
    gradients = {name: parameter.grad for name, parameter in module.named_parameters()}
    return {"y": y.detach()} | ({"x": x.grad} if x.requires_grad else {}) | gradients


def errors(ours, theirs):
    assert ours.keys() == theirs.keys(), (ours.keys(), theirs.keys())
    return {name: relative(ours[name], theirs[name]) for name in ours}


def randoms(dtype, *shapes):
    import torch

    return [torch.randn(shape, dtype=dtype) for shape in shapes]


# ---- Megatron


def without_a_gpu():
    """Megatron's layers put their buffers on the current GPU; there is none."""
    import torch

    torch.cuda.current_device = lambda: "cpu"


def megatron_config(dtype, sequence_parallel, tp):
    from megatron.core import ModelParallelConfig

    return ModelParallelConfig(
        tensor_model_parallel_size=tp,
        sequence_parallel=sequence_parallel,
        params_dtype=dtype,
        use_cpu_initialization=True,
        gradient_accumulation_fusion=False,
    )


def first_of(module):
    """A module of Megatron's that gives (output, bias), as one that gives the output."""
    module.register_forward_hook(lambda _module, _given, result: result[0])
    return module


def megatron_column(dtype, bias, sequence_parallel, gathered, group):
    import torch
    from megatron.core import tensor_parallel

    from mpviz import parallel

    options = {"gather_output": gathered, "bias": bias}
    ours = parallel.ColumnParallelLinear(
        HIDDEN, FFN, group, sequence_parallel=sequence_parallel, dtype=dtype, **options
    )
    theirs = tensor_parallel.ColumnParallelLinear(
        HIDDEN,
        FFN,
        config=megatron_config(dtype, sequence_parallel, group.size()),
        init_method=torch.nn.init.zeros_,
        **options,
    )
    x, dy = randoms(dtype, (TOKENS, BATCH, HIDDEN), (TOKENS, BATCH, FFN))
    x = part_of(x, 0 if sequence_parallel else None, group)
    return ours, first_of(theirs), x, part_of(dy, None if gathered else -1, group)


def megatron_row(dtype, bias, sequence_parallel, whole, group):
    import torch
    from megatron.core import tensor_parallel

    from mpviz import parallel

    options = {"input_is_parallel": not whole, "bias": bias}
    ours = parallel.RowParallelLinear(
        FFN, HIDDEN, group, sequence_parallel=sequence_parallel, dtype=dtype, **options
    )
    theirs = tensor_parallel.RowParallelLinear(
        FFN,
        HIDDEN,
        config=megatron_config(dtype, sequence_parallel, group.size()),
        init_method=torch.nn.init.zeros_,
        skip_bias_add=False,
        **options,
    )
    x, dy = randoms(dtype, (TOKENS, BATCH, FFN), (TOKENS, BATCH, HIDDEN))
    x = part_of(x, None if whole else -1, group)
    return ours, first_of(theirs), x, part_of(dy, 0 if sequence_parallel else None, group)


def megatron_embedding(dtype, sequence_parallel, group):
    import torch
    from megatron.core import tensor_parallel

    from mpviz import parallel

    options = {"reduce_scatter_embeddings": sequence_parallel}
    ours = parallel.VocabParallelEmbedding(WORDS, HIDDEN, group, dtype=dtype, **options)
    theirs = tensor_parallel.VocabParallelEmbedding(
        WORDS,
        HIDDEN,
        config=megatron_config(dtype, sequence_parallel, group.size()),
        init_method=torch.nn.init.zeros_,
        **options,
    )
    if sequence_parallel:
        # Megatron's takes (batch, sequence) here, and gives (sequence, batch, hidden) as ours does.
        theirs.register_forward_pre_hook(lambda _module, given: (given[0].t().contiguous(),))
    words = torch.randint(WORDS, (TOKENS, BATCH))
    (dy,) = randoms(dtype, (TOKENS, BATCH, HIDDEN))
    return ours, theirs, words, part_of(dy, 0 if sequence_parallel else None, group)


def megatron_loss(dtype, group):
    """The losses are functions, so this compares them itself."""
    import torch
    from megatron.core import tensor_parallel

    from mpviz import parallel

    logits, dloss = randoms(dtype, (TOKENS, BATCH, WORDS), (TOKENS, BATCH))
    target = torch.randint(WORDS, (TOKENS, BATCH))
    part = part_of(5 * logits, -1, group)
    results = []
    for function, more in (
        (parallel.vocab_parallel_cross_entropy, (group,)),
        (tensor_parallel.vocab_parallel_cross_entropy, ()),
    ):
        mine = part.clone().requires_grad_()
        # Megatron's works in place.
        loss = function(mine * 1, target, *more)
        loss.backward(dloss)
        results.append({"y": loss.detach(), "x": mine.grad})
    return errors(*results)


def megatron_cases(group):
    """Compare all that both have; errors by case."""
    import torch

    found = {}
    for dtype, sequence_parallel in product((torch.float64, torch.float32), (False, True)):
        if sequence_parallel and group.size() == 1:
            continue  # Megatron turns it off, with a warning
        label = f"{'sequence ' if sequence_parallel else ''}{str(dtype)[6:]}"
        made = {"embedding": megatron_embedding(dtype, sequence_parallel, group)}
        for bias, whole in product((True, False), (False, True)):
            if whole and sequence_parallel:
                continue  # refused by both
            case = f"{' whole' if whole else ''}{' bias' if bias else ''}"
            made[f"column{case}"] = megatron_column(dtype, bias, sequence_parallel, whole, group)
            made[f"row{case}"] = megatron_row(dtype, bias, sequence_parallel, whole, group)
        for case, (ours, theirs, x, dy) in made.items():
            same_parameters(ours, theirs)
            found[f"{case} {label}"] = errors(run(ours, x, dy), run(theirs, x, dy))
        if not sequence_parallel and dtype == torch.float32:  # Megatron's has no other
            found[f"loss {label}"] = megatron_loss(dtype, group)
    return found


def same_parameters(ours, theirs):
    """Give Megatron's layer our weights; and both a bias other than zero, the same everywhere."""
    import torch

    with torch.no_grad():
        if getattr(ours, "bias", None) is not None:
            ours.bias.normal_()
        for mine, its in zip(ours.parameters(), theirs.parameters(), strict=True):
            its.copy_(mine)


# ---- DTensor


def dtensor_cases(group):
    """Compare all that both have; errors by case."""
    import torch
    from torch.distributed.device_mesh import DeviceMesh

    mesh = DeviceMesh.from_group(group, "cpu")
    found = {}
    for dtype, sequence_parallel in product((torch.float64, torch.float32), (False, True)):
        label = f"{'sequence ' if sequence_parallel else ''}{str(dtype)[6:]}"
        found[f"norm and mlp {label}"] = dtensor_mlp(dtype, sequence_parallel, group, mesh)
        if not sequence_parallel:
            found[f"embedding {label}"] = dtensor_embedding(dtype, group, mesh)
            found[f"loss {label}"] = dtensor_loss(dtype, group, mesh)
    return found


def full(results):
    """The results of a DTensor run, each put together from all ranks."""
    return {
        name: x.full_tensor() if hasattr(x, "full_tensor") else x for name, x in results.items()
    }


def dtensor_mlp(dtype, sequence_parallel, group, mesh):
    """LayerNorm, then an MLP; with sequence parallelism the norm, too, sees tokens of its own."""
    import torch
    from torch.distributed.tensor import Replicate, Shard
    from torch.distributed.tensor.parallel import (
        ColwiseParallel,
        RowwiseParallel,
        SequenceParallel,
        parallelize_module,
    )

    from mpviz import parallel

    def norm_and_mlp():
        return torch.nn.Sequential(torch.nn.LayerNorm(HIDDEN), parallel.MLP(HIDDEN, FFN)).to(dtype)

    theirs, ours = norm_and_mlp(), norm_and_mlp()
    ours.load_state_dict(theirs.state_dict())
    ours[1] = parallel.ParallelMLP.from_reference(
        ours[1], group, sequence_parallel=sequence_parallel
    )
    for parameter in ours[0].parameters():
        parameter.sequence_parallel = sequence_parallel
    outside = Shard(0) if sequence_parallel else Replicate()
    plan = {
        "1.linear_fc1": ColwiseParallel(input_layouts=outside),
        "1.linear_fc2": RowwiseParallel(output_layouts=outside),
    }
    if sequence_parallel:
        plan["0"] = SequenceParallel(sequence_dim=0)
    parallelize_module(theirs, mesh, plan)

    dim = 0 if sequence_parallel else None
    x, dy = (part_of(t, dim, group) for t in randoms(dtype, *2 * [(TOKENS, BATCH, HIDDEN)]))
    mine = run(ours, x, dy)
    parallel.reduce_sequence_parallel_gradients(ours, group)
    expected = full(run(theirs, x, dy))
    cuts = {"1.linear_fc1.weight": 0, "1.linear_fc1.bias": 0, "1.linear_fc2.weight": 1}
    parts = {name: part_of(expected[name], dim, group) for name, dim in cuts.items()}
    return errors(mine, expected | parts)


def dtensor_embedding(dtype, group, mesh):
    import torch
    from torch.distributed.tensor import Replicate
    from torch.distributed.tensor.parallel import RowwiseParallel, parallelize_module

    from mpviz import parallel

    theirs = torch.nn.Embedding(WORDS, HIDDEN, dtype=dtype)
    ours = parallel.VocabParallelEmbedding.from_reference(theirs, group)
    parallelize_module(theirs, mesh, RowwiseParallel(input_layouts=Replicate()))
    words = torch.randint(WORDS, (TOKENS, BATCH))
    (dy,) = randoms(dtype, (TOKENS, BATCH, HIDDEN))
    expected = full(run(theirs, words, dy))
    return errors(
        run(ours, words, dy), expected | {"weight": part_of(expected["weight"], 0, group)}
    )


def dtensor_loss(dtype, group, mesh):
    import torch
    import torch.nn.functional as F
    from torch.distributed.tensor import Shard, distribute_tensor
    from torch.distributed.tensor.parallel import loss_parallel

    from mpviz import parallel

    (logits,) = randoms(dtype, (TOKENS, WORDS))
    target = torch.randint(WORDS, (TOKENS,))
    mine = part_of(logits, -1, group).requires_grad_()
    loss = parallel.vocab_parallel_cross_entropy(mine, target, group).mean()
    loss.backward()
    its = distribute_tensor(logits, mesh, [Shard(-1)]).requires_grad_()
    with loss_parallel():
        its_loss = F.cross_entropy(its, target)
        its_loss.backward()
    theirs = full({"y": its_loss.detach()}) | {"x": its.grad.to_local()}
    return errors({"y": loss.detach(), "x": mine.grad}, theirs)


# ---- processes


def compare(rank: int) -> dict[str, dict[str, float]]:
    """Take part as one rank in groups of every size; return errors by size, peer and case."""
    import torch
    from megatron.core import parallel_state

    warnings.simplefilter("ignore")
    without_a_gpu()
    found = {}
    for tp in TP_SIZES:
        torch.manual_seed(tp)
        parallel_state.initialize_model_parallel(
            tp, create_gloo_process_groups=False, distributed_timeout_minutes=1
        )
        group = parallel_state.get_tensor_model_parallel_group()
        for peer, cases in (("Megatron", megatron_cases), ("DTensor", dtensor_cases)):
            found |= {f"{tp} {peer} {case}": errors for case, errors in cases(group).items()}
        parallel_state.destroy_model_parallel()
    return found


if __name__ == "__main__":
    # So that the forks find them imported: 1,300 modules that each would import for itself.
    import megatron.core.tensor_parallel  # noqa: F401
    import torch.distributed.tensor.parallel  # noqa: F401

    import mpviz.parallel  # noqa: F401

    answer(Path(sys.argv[1]), RANKS, compare)
