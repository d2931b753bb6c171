"""Steps that take turns on real gloo ranks, so that what disturbs one disturbs all.

In the same processes, one thread for each rank; a round during which other programs were busy does
not count, unless no round is calm.
"""

import os
import tempfile
import warnings
from collections.abc import Callable
from datetime import timedelta
from multiprocessing import get_context
from time import perf_counter, process_time

import psutil

# A round counts if other programs took less than this of a processor meanwhile.
OTHERS = 0.1
WARM_UP = 2  # rounds
Step = Callable[[], object]


def on_ranks(ranks: int, measure: Callable[[int], None]) -> None:
    """Run ``measure(rank)`` in a fork for each rank, joined to the others by gloo."""
    context = get_context("fork")
    with tempfile.TemporaryDirectory() as folder:
        processes = [
            context.Process(target=_join, args=(rank, ranks, folder, measure))
            for rank in range(ranks)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()


def _join(rank: int, ranks: int, folder: str, measure: Callable[[int], None]) -> None:
    import torch
    import torch.distributed as dist

    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/rendezvous",
        rank=rank,
        world_size=ranks,
        timeout=timedelta(seconds=120),
    )
    measure(rank)
    dist.barrier()
    os._exit(0)  # what torch does at an interpreter's end has aborted a process once


def take_turns(
    steps_of: dict[str, Step], *, rounds: int, patience: float, steps: int = 1
) -> dict[str, list[float]]:
    """Return seconds per step of each, one figure for each of so many calm rounds.

    After ``patience`` seconds: of the calm rounds until then, or of all if none was calm.
    """
    import torch.distributed as dist

    all_rounds: list[tuple[bool, dict[str, float]]] = []
    names, until, calm = list(steps_of), perf_counter() + patience, 0
    while calm < rounds and (len(all_rounds) <= WARM_UP or agreed(perf_counter() < until)):
        names.append(names.pop(0))  # nobody always follows the same
        before, taken = busy_seconds(), {}
        for name in names:
            dist.barrier()
            start = perf_counter()
            for _ in range(steps):
                steps_of[name]()
            dist.barrier()
            taken[name] = (perf_counter() - start) / steps
        everybody, ours, wall = (b - a for a, b in zip(before, busy_seconds(), strict=True))
        quiet = agreed(everybody - summed(ours) < OTHERS * wall)
        all_rounds.append((quiet, taken))
        calm += quiet and len(all_rounds) > WARM_UP
    if dist.get_rank() == 0:
        print(f"\n{dist.get_world_size()} ranks: {calm} calm rounds of {len(all_rounds) - WARM_UP}")
    kept = [taken for quiet, taken in all_rounds[WARM_UP:] if quiet or not calm]
    return {name: [taken[name] for taken in kept] for name in steps_of}


def busy_seconds() -> tuple[float, float, float]:
    """Return seconds that all processors were busy, that this process was, and that went by."""
    times = psutil.cpu_times()
    return sum(times) - times.idle - getattr(times, "iowait", 0.0), process_time(), perf_counter()


def summed(number: float) -> float:
    """Return the sum over the ranks."""
    import torch
    import torch.distributed as dist

    total = torch.tensor(number, dtype=torch.float64)
    dist.all_reduce(total)
    return total.item()


def agreed(mine: bool) -> bool:
    """Whether all ranks say so."""
    import torch.distributed as dist

    return summed(float(mine)) == dist.get_world_size()
