"""A GPT learns on the slide's sixteen ranks: 100 steps beside one process, seconds and memory.

    python tests/benchmarks/bench_training.py

Takes a minute on two cores without other work.
"""

import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil

from mpviz import ParallelLayout
from mpviz.world import World

STEPS = 100
PROGRAM = (Path(__file__).parents[1] / "parallel" / "gpt_ranks.py").read_text()
MODEL = "parallel.GPTConfig(dtype=torch.float64)"  # 8 layers, hidden 64, 404,096 parameters
MOST_APART, HIGHEST_LOSS, MOST_SECONDS, MOST_BYTES = 1e-12, 0.3, 60.0, 2e9


def ranks_pss():
    """Bytes of all processes below this one, shared pages counted once."""
    total = 0
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            total += process.memory_full_info().pss
    return total


def watched(highest, stop):
    while not stop.wait(1.0):
        highest[0] = max(highest[0], ranks_pss())


def main():
    with World(ParallelLayout(gpus_per_node=1), timeout=300) as world:
        world.cell(PROGRAM)
        start = time.perf_counter()
        (whole,) = world.cell(f"whole_curve({MODEL}, {STEPS})")
        print(f"1 process: {time.perf_counter() - start:.1f} s")
    highest, stop = [0], threading.Event()
    with World(ParallelLayout(nodes=2, tp=2, pp=4), timeout=300) as world:
        world.cell(PROGRAM)
        thread = threading.Thread(target=watched, args=(highest, stop))
        thread.start()
        start = time.perf_counter()
        curves = list(world.cell(f"curve({MODEL}, {STEPS}, '1f1b', groups)"))
        seconds = time.perf_counter() - start
        stop.set()
        thread.join()
    apart = max(abs(a - b) for curve in curves for a, b in zip(curve, whole, strict=True))
    print(
        f"16 ranks: {seconds:.1f} s, {seconds / STEPS:.2f} s a step, PSS {highest[0] / 1e9:.2f} GB"
    )
    print(f"loss: {' → '.join(f'{whole[step]:.2f}' for step in (0, 20, 40, 60, 80, 99))}")
    print(f"the two curves differ by {apart:.1e} at most")
    assert apart < MOST_APART
    assert whole[-1] < HIGHEST_LOSS
    assert seconds < MOST_SECONDS
    assert highest[0] < MOST_BYTES


if __name__ == "__main__":
    main()
