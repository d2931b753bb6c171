"""Ranks as forks of one process that has imported all they need: a second each, not eight.

For scripts that are run as ``SCRIPT FOLDER …``: `answers.py` runs them, and reads what each rank
leaves in the folder.
"""

import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

RENDEZVOUS_DEADLINE = timedelta(seconds=60)
RANKS_DEADLINE = 120.0


def answer(folder: Path, world: int, observe: Callable[..., Any], *arguments: Any) -> None:
    """Call ``observe(rank, *arguments)`` on ranks that gloo joins; write FOLDER/RANK.json each."""
    os.environ |= {
        "OMP_NUM_THREADS": "1",
        # Whatever the hostname resolves to, ranks of one machine meet on loopback.
        "GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo",
    }
    given = [(folder, rank, world, observe, arguments) for rank in range(world)]
    run_ranks(_report, given, seconds=RANKS_DEADLINE)


def _report(folder: Path, rank: int, *given: Any) -> None:
    """Write what one rank observed, or its traceback."""
    try:
        written = _observed(folder, rank, *given)
    except BaseException:
        written = {"failure": traceback.format_exc()}
    (folder / f"{rank}.json").write_text(json.dumps(written))


def _observed(
    folder: Path, rank: int, world: int, observe: Callable[..., Any], arguments: tuple[Any, ...]
) -> Any:
    import torch.distributed as dist

    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/rendezvous",
        rank=rank,
        world_size=world,
        timeout=RENDEZVOUS_DEADLINE,
    )
    observed = observe(rank, *arguments)
    # A rank that left early would cut off those still talking.
    dist.barrier()
    dist.destroy_process_group()
    return observed


def run_ranks(
    rank: Callable[..., None], arguments: Iterable[tuple[Any, ...]], *, seconds: float
) -> None:
    """Run a function once for each tuple of arguments, in a process each; kill who is late."""
    context = get_context("fork")
    ranks = [context.Process(target=rank, args=given, daemon=True) for given in arguments]
    deadline = time.monotonic() + seconds
    try:
        for process in ranks:
            process.start()
        for process in ranks:
            process.join(max(0.0, deadline - time.monotonic()))
    finally:
        for process in ranks:
            if process.is_alive():
                process.kill()
