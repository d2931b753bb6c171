"""A world in a real kernel, driven as JupyterLab drives it."""

import os
import signal
import threading
import time
from pathlib import Path

import psutil
import pytest
import traces
from jupyter_client import KernelManager

ROOT = Path(__file__).parents[2]
SETUP = """
%load_ext mpviz
from mpviz import ParallelLayout, World
world = World(ParallelLayout(nodes=1, gpus_per_node=2, tp=2), timeout=30)
"""
WORKS = """%%ranks
import torch, torch.distributed as dist
x = torch.tensor(rank + 1)
dist.all_reduce(x)
print("sum", x.item())"""
WORKED = "ranks 0 1 │ sum 3\n"


class Kernel:
    """A kernel with temporary folders of its own."""

    def __init__(self, folder):
        self.folder = folder
        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel(cwd=str(ROOT), env={**os.environ, "TMPDIR": str(folder)})
        self.connect()

    def connect(self):
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=30)

    @property
    def pid(self):
        return self.manager.provisioner.pid

    def run(self, source, seconds=30):
        """Run a cell; return what it prints and, if it fails, its error as shown."""
        shown = []

        def note(message):
            kind, content = message["msg_type"], message["content"]
            if kind == "stream":
                shown.append(content["text"])
            elif kind == "error":
                shown.extend(content["traceback"])

        self.client.execute_interactive(
            source, timeout=seconds, output_hook=note, allow_stdin=False
        )
        return "".join(shown)

    def family(self):
        return psutil.Process(self.pid).children(recursive=True)

    def end(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture(scope="module")
def new(tmp_path_factory):
    """Start kernels; in the end nothing of theirs is left."""
    kernels, everybody = [], []

    def new():
        kernels.append(Kernel(tmp_path_factory.mktemp("k")))
        assert kernels[-1].run(SETUP) == ""
        return kernels[-1]

    yield new
    for kernel in kernels:
        if kernel.manager.is_alive():
            everybody += kernel.family()
        kernel.end()
    for kernel in kernels:
        assert traces.left(everybody, kernel.folder, seconds=5) == []


@pytest.fixture(scope="module")
def kernel(new):
    return new()


def test_an_interrupt_while_the_first_ranks_start(kernel):
    threading.Timer(0.5, kernel.manager.interrupt_kernel).start()
    shown = kernel.run("world.start()\nimport time; time.sleep(10)")
    assert "KeyboardInterrupt" in shown
    assert kernel.run(WORKS) == WORKED


STALLS = {
    "loop": ("while True: pass", "busy at line 2"),
    "collective": ("if rank == 0: dist.barrier()", "never came: rank 1 (done)"),
    "C with the GIL": ("import ctypes; ctypes.PyDLL(None).sleep(600)", "busy at line 2"),
    "stopped": ("import os; os.kill(os.getpid(), 19)", "ranks 0 1 did not answer"),
}


@pytest.mark.parametrize(("source", "words"), STALLS.values(), ids=STALLS)
def test_an_interrupt(kernel, source, words):
    assert kernel.run(WORKS) == WORKED
    threading.Timer(0.5, kernel.manager.interrupt_kernel).start()
    begun = time.monotonic()
    shown = kernel.run("%%ranks\n" + source)
    # At once, and not at the deadline of a minute; other tests may have both cores.
    assert time.monotonic() - begun < 0.5 + 8
    assert shown.startswith("RanksInterrupted: Interrupted.")
    assert words in shown
    assert "Traceback" not in shown
    assert kernel.run(WORKS) == WORKED


def test_a_deadline(kernel):
    shown = kernel.run("%%ranks --timeout 0.5\nif rank == 0:\n    dist = 1\n    while dist: pass")
    assert shown.startswith("RanksError: Not done after 0.5 s.")
    assert "rank 0 busy at line 4: while dist: pass" in shown
    assert kernel.run(WORKS) == WORKED


def test_a_cell_that_raises_shows_the_learners_line_alone(kernel):
    shown = kernel.run("%%ranks\nx = 1\nif rank == 1:\n    x / 0")
    assert "1 of 2 ranks raised ZeroDivisionError: division by zero" in shown
    assert "rank 1, line 4: x / 0" in shown
    assert "mpviz/world" not in shown
    assert kernel.run(WORKS) == WORKED


def test_input_in_a_cell(kernel):
    assert "a rank has no keyboard to read from" in kernel.run("%%ranks\ninput()")


def test_two_kernels_and_the_death_of_one(kernel, new):
    other = new()
    assert other.run(WORKS) == kernel.run(WORKS) == WORKED
    everybody = other.family()
    assert len(everybody) == 4  # two ranks, their server, the guard
    os.kill(other.pid, signal.SIGKILL)
    assert traces.left(everybody, other.folder, seconds=5) == []
    assert kernel.run(WORKS) == WORKED


def test_a_restart(kernel):
    assert kernel.run(WORKS) == WORKED
    everybody = kernel.family()
    kernel.client.stop_channels()
    kernel.manager.restart_kernel()
    assert traces.left(everybody, kernel.folder, seconds=5) == []
    kernel.connect()
    kernel.run(SETUP)
    assert kernel.run(WORKS) == WORKED
