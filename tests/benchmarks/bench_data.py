"""A training step of an MLP by data parallelism: mpviz beside torch, in the same processes.

    python tests/benchmarks/bench_data.py

Peers: torch's DistributedDataParallel and fully_shard, on gloo. All take turns (``timing.py``), and
compared are medians over the rounds. On as many cores as ranks, what a bucket's all-reduce hides
behind is work that its own sums compete with: so hiding is measured once more behind a wait.
"""

import os
import warnings
from statistics import median
from time import perf_counter, sleep

from timing import Step, on_ranks, take_turns

HIDDEN, LAYERS, BATCH = 1024, 4, 64  # 4.2 million parameters
BUCKET = 4 * 2**20
ROUNDS, PATIENCE = 15, 100
# Per contestant its peer, and what ours may take at most against it; such medians differ by 2 %.
AIMS = {
    "DDP": ("torch's DDP", 1.02),
    "DDP, check=False": ("torch's DDP", 1.02),
    "fully_shard": ("torch's fully_shard", 1.02),
    "fully_shard, check=False": ("torch's fully_shard", 1.02),
}


def mlp():
    from torch import nn

    layers = []
    for _ in range(LAYERS):
        layers += [nn.Linear(HIDDEN, HIDDEN), nn.GELU()]
    return nn.Sequential(*layers)


def contestants() -> dict[str, Step]:
    """Make a step, with plain SGD, of each."""
    import torch
    import torch.distributed as dist
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.fsdp import fully_shard

    from mpviz import parallel

    group = dist.group.WORLD
    mesh = DeviceMesh.from_group(group, "cpu")

    def wrapped(**options):
        return parallel.DistributedDataParallel(mlp(), group, bucket_bytes=BUCKET, **options)

    def sharded(shard, **options):
        model = mlp()
        for layer in model:
            if isinstance(layer, torch.nn.Linear):
                shard(layer, **options)
        return shard(model, **options)

    def sgd(parameters):
        return torch.optim.SGD(parameters, lr=1e-3)

    theirs = torch.nn.parallel.DistributedDataParallel(mlp(), bucket_cap_mb=BUCKET / 2**20)
    models = {
        "DDP": wrapped(),
        "DDP, check=False": wrapped(check=False),
        "DDP, no overlap": wrapped(overlap=False),
        "torch's DDP": theirs,
        "fully_shard": sharded(parallel.fully_shard, group=group),
        "fully_shard, check=False": sharded(parallel.fully_shard, group=group, check=False),
        "torch's fully_shard": sharded(fully_shard, mesh=mesh),
    }
    optimizers = {name: sgd(model.parameters()) for name, model in models.items()}
    for stage in (1, 2):
        models[f"stage {stage}"] = wrapped()
        optimizers[f"stage {stage}"] = parallel.DistributedOptimizer(
            models[f"stage {stage}"], sgd, stage=stage
        )
    x = torch.randn(BATCH, HIDDEN)
    return {name: step_of(model, optimizers[name], x) for name, model in models.items()}


def step_of(model, optimizer, x) -> Step:
    def step() -> None:
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()

    return step


def measure(rank: int) -> None:
    """Take part as one rank; rank 0 prints."""
    seconds = take_turns(contestants(), rounds=ROUNDS, patience=PATIENCE)
    if rank == 0:
        show(seconds)
    hiding(rank)


def show(seconds: dict[str, list[float]]) -> None:
    """Print each one's median, and how many times that of its peer."""
    for name, of_rounds in seconds.items():
        peer, most = AIMS.get(name, (None, None))
        told = ""
        if peer is not None:
            # Round by round they stood next to each other; a ratio of rounds shares their noise.
            ratio = median(o / t for o, t in zip(of_rounds, seconds[peer], strict=True))
            told = f"{ratio:>8.2f} × {peer}   aim ≤ {most}: {'met' if ratio <= most else 'NOT met'}"
        print(f"{name:<28}{median(of_rounds) * 1e3:>8.1f} ms{told}", flush=True)


def hiding(rank: int) -> None:
    """Print what a step takes whose backward waits 25 ms for each layer, with overlap and without.

    The wait stands for a product that another processor would compute.
    """
    import torch
    import torch.distributed as dist
    from torch import nn

    from mpviz import parallel

    class Emulated(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.view_as(x)

        @staticmethod
        def backward(ctx, gradient):
            sleep(0.025)
            return gradient

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2**20))

        def forward(self, x):
            return Emulated.apply(x) + self.weight[:1] + 0 * self.weight.sum()

    for overlap in (False, True):
        module = nn.Sequential(*(Layer() for _ in range(LAYERS)))
        model = parallel.DistributedDataParallel(
            module, dist.group.WORLD, bucket_bytes=BUCKET, overlap=overlap
        )
        taken = []
        for _ in range(8):
            y = model(torch.ones(1, requires_grad=True)).sum()
            dist.barrier()
            start = perf_counter()
            y.backward()
            taken.append(perf_counter() - start)
        if rank == 0:
            print(f"emulated backward, overlap={overlap!s:<14}{median(taken[2:]) * 1e3:>8.1f} ms")


def main() -> None:
    import torch.distributed.fsdp  # noqa: F401  so that the forks find it imported

    print(f"load average {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores")
    for ranks in (2, 4):
        on_ranks(ranks, measure)


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    warnings.simplefilter("ignore")
    main()
