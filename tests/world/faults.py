"""How runs fail, and how long they may take to say so."""

import time

import psutil
import pytest

from mpviz import ParallelLayout, RanksError

LAYOUT = ParallelLayout(nodes=1, gpus_per_node=2, tp=2)
MARGIN = 2.0  # what a run may take beyond its deadline: the promise of the product


def added(world):
    def add(rank):
        import torch
        import torch.distributed as dist

        x = torch.tensor(rank + 1)
        dist.all_reduce(x)
        return x.item()

    return list(world.run(add, timeout=20))


def failed(world, source, timeout=10, error=RanksError, margin=MARGIN):
    """What a run of a cell says that goes wrong, and how long it took to say so."""
    prelude = "import ctypes, os, signal, sys, time; import torch, torch.distributed as dist\n"
    begun = time.monotonic()
    with pytest.raises(error) as caught:
        world.cell(prelude + source, timeout=timeout)
    seconds = time.monotonic() - begun
    assert seconds < timeout + margin, str(caught.value)
    return str(caught.value), seconds


def kill(pid):
    process = psutil.Process(pid)
    process.kill()
    psutil.wait_procs([process], timeout=5)
