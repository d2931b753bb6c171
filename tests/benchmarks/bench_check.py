"""What it costs to compare what ranks call, beside torch's TORCH_DISTRIBUTED_DEBUG=DETAIL.

    python tests/benchmarks/bench_check.py

An all-reduce of four numbers, over all ranks and over pairs; each way in a fresh interpreter,
because torch reads its variable once.
"""

import os
import subprocess
import sys

RANKS = 16
RUNS = 3
SCRIPT = """
import sys
from statistics import median
from mpviz import ParallelLayout, World

def milliseconds(groups, kind):
    import time
    from statistics import median
    import torch, torch.distributed as dist
    x, group, durations = torch.ones(4), groups[kind], []
    dist.all_reduce(x, group=group)
    for _ in range(100):
        start = time.perf_counter()
        dist.all_reduce(x, group=group)
        durations.append(time.perf_counter() - start)
    return 1e3 * median(durations)

layout = ParallelLayout(nodes=2, gpus_per_node=8, tp=2)
with World(layout, check=sys.argv[1] == "check") as world:
    print(*(median(world.run(milliseconds, kind)) for kind in ("tp-dp", "tp")))
"""


def measured(way: str, level: str) -> list[float]:
    """Return milliseconds of an all-reduce over all ranks, and over pairs."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, way],
        env=os.environ | {"TORCH_DISTRIBUTED_DEBUG": level},
        check=True, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    return [float(word) for word in done.stdout.split()]


def main() -> None:
    """Print medians, and each way's ratio to no comparison at all."""
    ways = {
        "no comparison": ("none", "OFF"),
        "World's": ("check", "OFF"),
        "DETAIL": ("none", "DETAIL"),
    }
    runs = [{name: measured(*how) for name, how in ways.items()} for _ in range(RUNS)]
    print(f"all-reduce of 4 numbers, {RANKS} ranks, medians of {RUNS} runs, ms")
    plain: list[float] = []
    for name in ways:
        times = [sorted(run[name][n] for run in runs)[RUNS // 2] for n in range(2)]
        plain = plain or times
        ratios = (f"{ms:7.3f} ({ms / base:4.1f} ×)" for ms, base in zip(times, plain, strict=True))
        print(f"{name:14} all {', pairs '.join(ratios)}")


if __name__ == "__main__":
    main()
