"""An MLP cut over two ranks, forward and backward: mpviz beside its peers, in the same run.

    python tests/benchmarks/bench_tensor.py

Peers: the whole MLP in one process; PyTorch's DTensor (parallelize_module); Megatron's layers. All
take turns (``timing.py``), and compared are medians over the rounds.
"""

import os
import sys
import warnings
from statistics import median

from timing import Step, on_ranks, take_turns

RANKS = 2
PATIENCE = 240
OURS = ("mpviz", "mpviz, check=False")
# tokens × hidden × ffn, rounds, steps in each, and per peer the aim for its time over ours; 0.98 is
# "no slower", because such medians differ by 2 % from run to run.
SIZES = (
    ((512, 1024, 4096), 15, 2, {"one process": 1.7, "DTensor": 0.98, "Megatron": 0.98}),
    ((8, 64, 256), 60, 20, {"DTensor": 2.0}),
)


def contestants(tokens: int, hidden: int, ffn: int) -> dict[str, Step]:
    """Make a step, forward and backward, of each MLP: the same weights and input for all."""
    import torch
    import torch.distributed as dist

    from mpviz.parallel import MLP, ParallelMLP

    torch.manual_seed(1)
    whole = MLP(hidden, ffn)
    x, dy = torch.randn(2, tokens, 1, hidden).unbind()
    x.requires_grad_()
    group = dist.group.WORLD
    mlps = {
        "mpviz": ParallelMLP.from_reference(whole, group),
        "mpviz, check=False": ParallelMLP.from_reference(whole, group, check=False),
        "one process": whole,
        "DTensor": dtensor_mlp(whole, MLP(hidden, ffn)),
        "Megatron": megatron_mlp(whole),
    }
    expected = whole(x).detach()
    for name, mlp in mlps.items():
        if not torch.allclose(mlp(x), expected, rtol=1e-4, atol=1e-5):
            sys.exit(f"{name} computes something else")
    steps = {name: step_of(mlp, x, dy) for name, mlp in mlps.items()}
    if dist.get_rank() > 0:
        steps["one process"] = lambda: None
    return steps


def step_of(mlp, x, dy) -> Step:
    parameters = [x, *mlp.parameters()]

    def step() -> None:
        for parameter in parameters:
            parameter.grad = None
        mlp(x).backward(dy)

    return step


def dtensor_mlp(whole, mlp):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor.parallel import (
        ColwiseParallel,
        RowwiseParallel,
        parallelize_module,
    )

    mlp.load_state_dict(whole.state_dict())
    plan = {"linear_fc1": ColwiseParallel(), "linear_fc2": RowwiseParallel()}
    return parallelize_module(mlp, init_device_mesh("cpu", (RANKS,)), plan)


def megatron_mlp(whole):
    import torch
    from megatron.core import ModelParallelConfig, parallel_state
    from megatron.core.tensor_parallel import ColumnParallelLinear, RowParallelLinear

    from mpviz import parallel

    if not parallel_state.is_initialized():
        parallel_state.initialize_model_parallel(RANKS, create_gloo_process_groups=False)
    config = ModelParallelConfig(
        tensor_model_parallel_size=RANKS,
        use_cpu_initialization=True,
        gradient_accumulation_fusion=False,
    )
    hidden, ffn = whole.linear_fc1.in_features, whole.linear_fc1.out_features
    options = {"config": config, "init_method": torch.nn.init.zeros_, "bias": True}
    fc1 = ColumnParallelLinear(hidden, ffn, gather_output=False, **options)
    fc2 = RowParallelLinear(ffn, hidden, input_is_parallel=True, skip_bias_add=False, **options)
    ours = parallel.ParallelMLP.from_reference(whole, torch.distributed.group.WORLD)
    for theirs, mine in ((fc1, ours.linear_fc1), (fc2, ours.linear_fc2)):
        theirs.weight.data.copy_(mine.weight)
        theirs.bias.data.copy_(mine.bias)

    class MegatronMLP(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1, self.fc2 = fc1, fc2

        def forward(self, x):
            return self.fc2(torch.nn.functional.gelu(self.fc1(x)[0]))[0]

    return MegatronMLP()


def measure(rank: int) -> None:
    """Take part as one rank; rank 0 prints."""
    for sizes, rounds, steps, aims in SIZES:
        seconds = take_turns(contestants(*sizes), rounds=rounds, patience=PATIENCE, steps=steps)
        if rank == 0:
            show(sizes, seconds, aims)


def show(sizes: tuple[int, ...], seconds: dict[str, list[float]], aims: dict[str, float]) -> None:
    """Print each one's median, and how many times that of mpviz with and without its check."""
    print(f"MLP {'×'.join(map(str, sizes))}, forward + backward")
    print(f"{'':<20}{'ms':>10}{'÷ mpviz':>10}{'÷ check=False':>15}")
    for name, of_rounds in seconds.items():
        # Round by round they stood next to each other; a ratio of rounds shares their noise.
        checked, unchecked = (
            median(t / o for t, o in zip(of_rounds, seconds[ours], strict=True)) for ours in OURS
        )
        aim, told = aims.get(name), ""
        if aim is not None:
            told = f"   aim ≥ {aim}× {'met' if checked >= aim else 'NOT met'}"
        figures = f"{median(of_rounds) * 1e3:>10.3f}{checked:>9.2f}×{unchecked:>14.2f}×"
        print(f"{name:<20}{figures}{told}", flush=True)


def main() -> None:
    import megatron.core.tensor_parallel  # noqa: F401  so that the forks find it imported
    import torch.distributed.tensor.parallel  # noqa: F401

    print(f"load average {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores")
    on_ranks(RANKS, measure)


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    warnings.simplefilter("ignore")
    main()
