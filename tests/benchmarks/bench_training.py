"""A GPT learns on the slide's sixteen ranks: 100 steps by World, by torchrun, and in one process.

    python tests/benchmarks/bench_training.py

Takes three minutes on two cores without other work. Of each: seconds, the last loss, memory, and by
how much its curve leaves that of one process.
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from mpviz import ParallelLayout
from mpviz.world import World

STEPS = 100
SLIDE = ParallelLayout(nodes=2, tp=2, pp=4)
PROGRAM = (Path(__file__).parents[1] / "parallel" / "gpt_ranks.py").read_text()
MODEL = "parallel.GPTConfig(dtype=torch.float64)"  # 8 layers, hidden 64, 404,096 parameters
# A curve amplifies what rounding leaves, as much as its steps are large: the whole batch and its
# eight parts, both in one process, end 9e-16 apart with these settings; without the ten steps of
# warm-up 3e-13; with lr 5e-3 and no warm-up, as in lesson 08, 2e-11.
MOST_APART, HIGHEST_LOSS, MOST_SECONDS, MOST_BYTES = 1e-12, 0.3, 60.0, 2e9


def ranks_pss() -> int:
    """Bytes of all processes below this one, shared pages counted once."""
    total = 0
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            total += process.memory_full_info().pss
    return total


@contextmanager
def memory_watched() -> Iterator[list[int]]:
    """Give a list whose one number is the most memory that the ranks had, once a second."""
    highest, stop = [0], threading.Event()

    def watch() -> None:
        while not stop.wait(1.0):
            highest[0] = max(highest[0], ranks_pss())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield highest
    finally:
        stop.set()
        thread.join()


# ---- three ways to train


def in_one_process() -> tuple[list[float], float]:
    """The curve, and its seconds."""
    with World(ParallelLayout(gpus_per_node=1), timeout=300) as world:
        world.cell(PROGRAM)
        start = time.perf_counter()
        (curve,) = world.cell(f"whole_curve({MODEL}, {STEPS})")
        return curve, time.perf_counter() - start


def by_world() -> tuple[list[float], float]:
    """The same on sixteen ranks."""
    with World(SLIDE, timeout=300) as world:
        world.cell(PROGRAM)
        start = time.perf_counter()
        curves = list(world.cell(f"curve({MODEL}, {STEPS}, '1f1b', groups)"))
        seconds = time.perf_counter() - start
    assert all(curve == curves[0] for curve in curves)
    return curves[0], seconds


def by_torchrun() -> tuple[list[float], float]:
    """The same, in a job of its own: this file as its script."""
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder, "rank0.json")
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "16"]
        command = [sys.executable, *torchrun, __file__, said]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
        curve, seconds = json.loads(said.read_text())
        return curve, seconds


def as_a_rank(path: str) -> None:
    """Train as one of torchrun's processes; the first writes what it saw."""
    import torch.distributed as dist

    from mpviz import parallel

    program: dict[str, Any] = {}
    exec(PROGRAM, program)
    groups = parallel.init(SLIDE).groups
    start = time.perf_counter()
    curve = program["curve"](eval(MODEL, program), STEPS, "1f1b", groups)
    if dist.get_rank() == 0:
        Path(path).write_text(json.dumps([curve, time.perf_counter() - start]))
    dist.barrier()
    dist.destroy_process_group()


def main() -> None:
    """Print the table, and hold World to what is asked of it."""
    whole, seconds = in_one_process()
    print(f"1 process: {seconds:.1f} s, loss {whole[-1]:.2f}")
    found = {}
    for name, train in {"World": by_world, "torchrun": by_torchrun}.items():
        start = time.perf_counter()
        with memory_watched() as highest:
            curve, seconds = train()
        both = time.perf_counter() - start
        apart = max(abs(a - b) for a, b in zip(curve, whole, strict=True))
        found[name] = seconds, apart, highest[0]
        print(
            f"16 ranks by {name}: {seconds:.1f} s, {seconds / STEPS:.2f} s a step, with start and "
            f"end {both:.1f} s; PSS {highest[0] / 1e9:.2f} GB; loss {curve[-1]:.2f}, at most "
            f"{apart:.1e} from that of 1 process"
        )
    print(f"loss: {' → '.join(f'{whole[step]:.2f}' for step in (0, 20, 40, 60, 80, 99))}")
    seconds, _, memory = found["World"]
    assert max(apart for _, apart, _ in found.values()) < MOST_APART
    assert whole[-1] < HIGHEST_LOSS
    assert seconds < MOST_SECONDS
    assert memory < MOST_BYTES


if __name__ == "__main__":
    if len(sys.argv) > 1:
        as_a_rank(sys.argv[1])
    else:
        main()
