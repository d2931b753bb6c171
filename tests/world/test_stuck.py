"""A rank that does not end costs no more than the deadline, and is named with what it does."""

import os
import signal
import textwrap
import threading
import time
from dataclasses import replace

import pytest
import traces
from world.faults import LAYOUT, MARGIN, failed

from mpviz import ParallelLayout, RanksError, World
from mpviz.world import RanksInterrupted, guard
from mpviz.world.interrupts import interrupts_held
from mpviz.world.protocol import Place

pytestmark = pytest.mark.usefixtures("interruptible")


STALLS = {
    "loops in Python": ("while True: pass", "busy at line 2: while True: pass"),
    "sleeps": ("time.sleep(600)", "busy at line 2: time.sleep(600)"),
    "waits for nobody": ("if rank == 0: dist.barrier()", "never came: rank 1 (done)"),
    "waits for a message": ("if rank == 0: dist.recv(torch.ones(1), 1)", "waits in recv"),
    "waits for a pending operation": (
        "if rank == 0: dist.barrier(async_op=True).wait()",
        "rank 0 waits in work.wait, line 2",
    ),
    "leaves a root alone": (
        "if rank == 0: dist.broadcast(torch.ones(1), src=0)",
        "all ranks: rank 0 came, never came: rank 1 (done)",
    ),
    "computes with the GIL": ("x = 3\nx = x ** 10**9", "busy at line 3: x = x ** 10**9"),
    "is in C with the GIL": ("ctypes.PyDLL(None).sleep(600)", "busy at line 2: ctypes.PyDLL"),
    "stops": ("if rank == 1: os.kill(os.getpid(), signal.SIGSTOP)", "rank 1 did not answer"),
    "ignores every signal": (
        "for n in {*signal.valid_signals()} - {9, 19}:\n    signal.signal(n, signal.SIG_IGN)\n"
        "while True: pass",
        "busy at line 4",
    ),
    "never shows its result": (
        "class E:\n    def __repr__(self):\n        while True: pass\nE()",
        "busy at line 4",
    ),
}


@pytest.mark.parametrize(("source", "words"), STALLS.values(), ids=STALLS)
def test_a_deadline_of_half_a_second(world, source, words):
    said, seconds = failed(world, source, timeout=0.5)
    assert "Not done after 0.5 s." in said
    assert words in said
    assert seconds >= 0.5
    assert world.pids == []


@pytest.mark.parametrize(
    "stall",
    [
        "loops in Python",
        "waits for nobody",
        "computes with the GIL",
        "is in C with the GIL",
        "stops",
    ],
)
def test_an_interrupt(world, stall):
    source, words = STALLS[stall]
    interrupt(world, after=0.4)
    said, seconds = failed(world, source, timeout=30, error=RanksInterrupted, margin=0)
    assert said.startswith("Interrupted.")
    assert words in said
    assert 0.3 < seconds < 0.4 + MARGIN


def interrupt(world, after):
    """As Jupyter does: the whole process group, the ranks and their server included."""

    def kill():
        for pid in [*world.pids, traces.server_pid(), os.getpid()]:
            os.kill(pid, signal.SIGINT)

    threading.Timer(after, kill).start()


def test_an_impatient_user_interrupts_again_and_again(world):
    for after in (0.3, 0.4, 0.5, 0.6, 0.7, 0.8):
        interrupt(world, after)
    with pytest.raises(KeyboardInterrupt):
        world.run(time.sleep, 600)
        time.sleep(5)
    for _ in range(8):  # the rest may come at any line
        try:
            time.sleep(0.2)
        except KeyboardInterrupt:
            continue


def test_an_interrupt_waits_until_a_block_is_done():
    done = []
    with pytest.raises(KeyboardInterrupt), interrupts_held():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)
        done.append(1)
    assert done == [1]
    with pytest.raises(ZeroDivisionError), interrupts_held():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)
        raise ZeroDivisionError
    with pytest.raises(KeyboardInterrupt):  # the former handler is back
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)


def test_an_interrupt_is_not_lost_when_everybody_has_just_finished(world):
    class Late(World):
        def _through(self, *args):
            run = super()._through(*args)
            run.interrupted = True
            return run

    with Late(LAYOUT) as late, pytest.raises(RanksInterrupted):
        late.run(int)


@pytest.mark.parametrize("after", [0.0, 0.02, 0.05, 0.1, 0.2])
def test_an_interrupt_of_a_start(world, after):
    world.close()
    with pytest.raises(KeyboardInterrupt):
        interrupt(world, after)
        world.start()
        time.sleep(5)  # a fast machine was done
    assert world.close() is None


def test_a_stopped_rank_that_gets_a_job_larger_than_its_pipe(world):
    os.kill(world.pids[1], signal.SIGSTOP)
    begun = time.monotonic()
    with pytest.raises(RanksError, match="rank 1 did not answer"):
        world.run(len, b"x" * 5_000_000, timeout=1)
    assert time.monotonic() - begun < 1 + MARGIN


def test_a_rank_that_stops_in_the_middle_of_its_answer(world):
    source = """
        import struct
        from multiprocessing.connection import Connection
        def half(pipe, data):
            pipe._send(struct.pack("!i", len(data)) + data[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGSTOP)
        if rank == 1: Connection._send_bytes = half
        bytes(1_000_000)
    """
    said, _ = failed(world, textwrap.dedent(source), timeout=1)
    assert "rank 1 did not answer" in said


def test_others_who_are_at_work_are_waited_for_when_one_fails(world):
    # Rank 1 raises at once; rank 0 works on, and is done within its time.
    pids = world.pids
    said, _ = failed(world, "if rank == 1: 1 / 0\ntime.sleep(1.5)")
    assert "1 of 2 ranks raised ZeroDivisionError" in said
    assert world.pids == pids


WAITS = {
    "in a call": "dist.barrier()",
    "for a message": "if rank == 0: dist.recv(torch.ones(1), 1)",
    "for an operation": "dist.barrier(async_op=True).wait()",
    "for one of several": (
        "works = [dist.all_reduce(torch.ones(1), async_op=True) for _ in range(3)]\n"
        "[work.wait() for work in works]"
    ),
    "in a call over lines": (
        "work = dist.barrier(async_op=True)\n(\n    work\n    .wait(\n    )\n)"
    ),
    "in a function of torch": "dist.barrier(async_op=True).get_future().wait()",
    "in the code of a library": (
        "exec('for _ in range(2): work.wait()', {'work': dist.barrier(async_op=True)})"
    ),
    "of its group": "groups['tp'].allreduce([torch.ones(1)]).wait()",
    "with all arguments": "dist.barrier(async_op=True).wait(*[dist.default_pg_timeout])",
    "in a layer": (
        "from mpviz.parallel import reduce_from_tensor_model_parallel_region as g\n"
        "g(torch.ones(1), groups['tp'])"
    ),
    "in a backward": (
        "from mpviz.parallel import copy_to_tensor_model_parallel_region as f\n"
        "f(torch.ones(1, requires_grad=True), groups['tp'], check=False).sum().backward()"
    ),
}


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
def test_who_waits_for_one_that_raised_waits_no_longer(world, wait):
    said, seconds = failed(world, f"if rank == 1: 1 / 0\n{wait}")
    assert "1 of 2 ranks raised ZeroDivisionError" in said
    assert "rank 0 waits in" in said
    assert seconds < 5


@pytest.mark.parametrize(
    "at_work",
    [
        "time.sleep(2) if rank < 9 else work.wait()",
        "subprocess.Popen(['sleep', '2']).wait()",
        "threading.Event().wait(2)",
        # Two ranks, each of which waits for the other nearly all the time.
        "reduce_for_a_while(torch.ones(10_000_000))",
        "reduce_for_a_while(torch.ones(1))",
        # They take turns, so that each is mostly seen waiting.
        "for n in range(8):\n"
        "    if n % 2 == rank: time.sleep(0.3); dist.isend(x, 1 - rank).wait()\n"
        "    else: dist.irecv(x, 1 - rank).wait()",
    ],
)
def test_who_is_at_work_is_not_taken_for_stuck(four, at_work):
    source = f"""
import subprocess, threading, time, torch, torch.distributed as dist
if rank == 3: 1 / 0
pair, x, end = groups["tp"], torch.ones(1), time.monotonic() + 2.5
def reduce_for_a_while(x):
    while x[0]:
        x[0] = time.monotonic() < end
        dist.all_reduce(x, op=dist.ReduceOp.MIN, group=pair, async_op=True).wait()
if rank < 2:
{textwrap.indent(at_work, "    ")}
"""
    pids = four.start().pids
    with pytest.raises(RanksError, match="1 of 4 ranks raised ZeroDivisionError") as caught:
        four.cell(source, timeout=40)
    assert four.pids == pids, str(caught.value)


@pytest.fixture
def four():
    with World(ParallelLayout(nodes=1, gpus_per_node=4, tp=2, pp=2), timeout=40) as world:
        yield world


def test_only_where_somebody_is_missing_a_rank_is_stuck(world, monkeypatch):
    def stuck(*places):
        monkeypatch.setattr(world._pool, "_answered", lambda ranks: dict(enumerate(places)))
        return world._pool._all_stuck({0, 1})

    both = Place("f", 1, "", "barrier", (0, 1))
    assert not stuck(both, both)  # a long collective, that will be over
    assert stuck(replace(both, group=(0, 1, 2)), replace(both, group=(0, 1, 2)))
    assert stuck(both, replace(both, group=(1, 2)))
    assert not stuck(both, Place("f", 1, "x = 1"))
    assert not stuck(both)  # one is too busy to answer
    # Asked twice: who has run in between, or got data, passes from one wait to the next.
    alone = replace(both, group=(0, 1, 2))
    for moved in (replace(alone, ran=0.0001), replace(alone, used=0.1)):
        answers = iter([{0: alone, 1: alone}, {0: alone, 1: moved}])
        with monkeypatch.context() as patch:
            patch.setattr(world._pool, "_answered", lambda ranks, answers=answers: next(answers))
            assert not world._pool._all_stuck({0, 1})
    message = replace(both, peer=1), replace(both, peer=0)
    assert not stuck(*message)
    assert stuck(replace(both, peer=2), message[1])


def test_those_who_meet_are_not_taken_for_stuck():
    source = """
        import time, torch, torch.distributed as dist
        if rank == 3: 1 / 0
        pair = groups["tp"]
        end = time.monotonic() + 2
        if rank < 2:
            # One of the two is late, so that the other is seen waiting.
            for n in range(4):
                time.sleep(0.5 * rank)
                dist.barrier(group=pair)
    """
    with World(ParallelLayout(nodes=1, gpus_per_node=4, tp=2, pp=2), timeout=20) as world:
        pids = world.start().pids
        with pytest.raises(RanksError, match="ZeroDivisionError"):
            world.cell(textwrap.dedent(source))
        assert world.pids == pids


def test_an_interrupt_while_the_ranks_end_is_no_death_of_a_rank(monkeypatch, capsys):
    forget = guard.forget

    def interrupted(folder):
        signal.raise_signal(signal.SIGINT)
        forget(folder)

    with World(ParallelLayout(nodes=1, gpus_per_node=2, tp=2)) as world:
        with monkeypatch.context() as patched:
            patched.setattr(guard, "forget", interrupted)
            with pytest.raises(KeyboardInterrupt):
                world.close()
        assert list(world.run(lambda rank: rank)) == [0, 1]
    assert capsys.readouterr().out == ""
