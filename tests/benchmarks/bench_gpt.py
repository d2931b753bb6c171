"""A step of training on sixteen ranks, beside the same model by PyTorch's own parallelism.

    python tests/benchmarks/bench_gpt.py

The same GPT, the same weights, batch, groups and processes, a step of each in turn. PyTorch's is
``parallelize_module`` (DTensor) over tp, ``torch.distributed.pipelining`` over pp, and what both
leave to a script, written as shortly as it can be. Takes a minute.
"""

from statistics import median
from typing import Any

from mpviz import ParallelLayout
from mpviz.world import World

SLIDE = ParallelLayout(nodes=2, tp=2, pp=4)
MICROBATCHES, BATCH, STEPS = 4, 16, 12
MOST_APART, MOST_RATIO = 1e-12, 1.0


def step_of_mpviz(config: Any, groups: Any) -> Any:
    """Return a function that does a step by `parallel.train_step` and returns its loss."""
    from mpviz import parallel, schedule

    plan = schedule.one_forward_one_backward(pp=4, microbatches=MICROBATCHES)
    number = groups["pp"].rank()
    stage = parallel.gpt_stage(config, number, 4, groups)
    optimizer = parallel.Adam(stage.parameters())

    def step(tokens: Any, targets: Any) -> float:
        done = parallel.train_step(plan, {number: stage}, tokens, targets, groups, optimizer)
        return done.loss

    return step


def parallelized(config: Any, groups: Any) -> Any:
    """Return this rank's stage, its matrices DTensors over tp."""
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import Replicate
    from torch.distributed.tensor.parallel import (
        ColwiseParallel,
        RowwiseParallel,
        parallelize_module,
    )

    from mpviz import parallel

    plan = {
        "layers.*.self_attention.linear_qkv": ColwiseParallel(),
        "layers.*.self_attention.linear_proj": RowwiseParallel(),
        "layers.*.mlp.linear_fc1": ColwiseParallel(),
        "layers.*.mlp.linear_fc2": RowwiseParallel(),
    }
    model = parallel.GPT(config, stage=groups["pp"].rank(), of=4)  # its layers, plain PyTorch
    if model.embedding is not None:
        plan["embedding.word_embeddings"] = RowwiseParallel(input_layouts=Replicate())
    if model.output is not None:
        plan["output.output_layer"] = ColwiseParallel(output_layouts=Replicate())
    mesh = DeviceMesh.from_group(groups["tp"], "cpu", mesh_dim_names=("tp",))
    return parallelize_module(model, mesh, plan)


def step_of_torch(config: Any, groups: Any) -> Any:
    """Return the same by DTensor and torch.distributed.pipelining."""
    import torch
    import torch.distributed as dist
    from torch import nn
    from torch.distributed.pipelining import PipelineStage, Schedule1F1B

    from mpviz import parallel

    class BatchFirst(nn.Module):  # of the input the schedule cuts dimension 0 into microbatches
        def __init__(self, model: Any) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: torch.Tensor) -> Any:
            return self.model(x.t())

    def loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(
            logits.flatten(0, 1), targets.t().flatten(), ignore_index=parallel.MASKED
        )

    tp, pp, dp = groups["tp"], groups["pp"], groups["dp"]
    model = parallelized(config, groups)
    number, first, last = pp.rank(), pp.rank() == 0, pp.rank() == 3
    stage = PipelineStage(
        BatchFirst(model) if first else model, number, 4, torch.device("cpu"), group=pp
    )
    order = Schedule1F1B(stage, MICROBATCHES, loss_fn=loss)
    whole = [name for name, p in model.named_parameters() if not _is_cut(p)]
    kinds: list[list[Any]] = [[], []]  # plain tensors and DTensors: foreach takes no mixture
    for parameter in model.parameters():
        kinds[hasattr(parameter, "placements")].append(parameter)
    optimizer = torch.optim.Adam([{"params": kind} for kind in kinds], foreach=True)

    def step(tokens: torch.Tensor, targets: torch.Tensor) -> float:
        optimizer.zero_grad()
        x, y = (one.chunk(2, 1)[dp.rank()].t() for one in (tokens, targets))  # of this copy
        losses: list[torch.Tensor] = []
        order.step(*([x] if first else []), target=y if last else None, losses=losses)
        for p in model.parameters():
            if _is_cut(p) and p.grad.placements != p.placements:  # of the embedding: not cut yet
                p.grad = p.grad.redistribute(placements=p.placements)
        grads = {name: _local(p.grad) for name, p in model.named_parameters()}
        if model.tied_copy is not None:
            dist.all_reduce(_local(model.tied_copy.grad), group=groups["embedding"])
        flat = torch.cat([grad.flatten() for grad in grads.values()]) / dp.size()
        dist.all_reduce(flat, group=dp)
        parts = flat.split([grad.numel() for grad in grads.values()])
        squares = torch.zeros(2, dtype=torch.float64)  # and the loss
        for (name, grad), part in zip(grads.items(), parts, strict=True):
            grad.copy_(part.view_as(grad))
            mine = name not in whole or tp.rank() == 0
            if mine and not (last and name == "output.output_layer.weight"):  # tied: once
                squares[0] += grad.square().sum()
        if last:
            squares[1] = torch.stack(losses).mean() / dp.size() / tp.size()
        for group in (tp, pp):
            dist.all_reduce(squares, group=group)
        dist.all_reduce(squares[1], group=dp)
        scale = 1.0 / (squares[0].sqrt().item() + 1e-6)
        if scale < 1:
            for grad in grads.values():
                grad.mul_(scale)
        optimizer.step()
        return squares[1].item()

    return step


def _local(tensor: Any) -> Any:
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def _is_cut(parameter: Any) -> bool:
    return any(place.is_shard() for place in getattr(parameter, "placements", ()))


def both(groups: Any) -> tuple[list[float], list[float], list[float], list[float]]:
    """Losses of each, and seconds of each step, a step of each in turn."""
    import time

    import torch
    import torch.distributed as dist

    from mpviz import parallel

    config = parallel.GPTConfig(dtype=torch.float64)
    ways = [step_of_mpviz(config, groups), step_of_torch(config, groups)]
    found: tuple[list[float], ...] = ([], [], [], [])
    for number in range(STEPS):
        batch = parallel.repeated_words(BATCH, seed=number)
        for way, step in enumerate(ways):
            dist.barrier()
            start = time.perf_counter()
            loss = step(*batch)
            dist.barrier()
            found[way].append(loss)
            found[way + 2].append(time.perf_counter() - start)
    return found


def main() -> None:
    """Print seconds of a step, and their ratio."""
    with World(SLIDE, timeout=300) as world:
        answers = list(world.run(both))
    ours, theirs, *_ = answers[0]
    apart = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
    # The first two steps make connections and caches; a step is as slow as its slowest rank.
    mpviz, torch = (
        median(max(of_ranks) for of_ranks in list(zip(*(a[n] for a in answers), strict=True))[2:])
        for n in (2, 3)
    )
    print(f"a step on 16 ranks: mpviz {mpviz:.3f} s, DTensor + pipelining {torch:.3f} s")
    print(f"ratio {mpviz / torch:.2f}; losses of {STEPS} steps differ by {apart:.1e} at most")
    assert apart < MOST_APART
    assert mpviz / torch < MOST_RATIO


if __name__ == "__main__":
    main()
