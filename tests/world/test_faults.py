"""Whatever a rank does, a run ends in time, says what happened, and the next one works."""

import os
import signal
import tempfile
import textwrap
import threading
import time
from dataclasses import replace
from multiprocessing import forkserver
from multiprocessing.forkserver import _forkserver

import psutil
import pytest
import traces

from mpviz import ParallelLayout, RanksError, World
from mpviz.world import RanksInterrupted
from mpviz.world.interrupts import interrupts_held
from mpviz.world.protocol import Place

LAYOUT = ParallelLayout(nodes=1, gpus_per_node=2, tp=2)
MARGIN = 2.0  # what a run may take beyond its deadline: the promise of the product


@pytest.fixture(autouse=True)
def interruptible():
    """Ctrl-C raises, even where the tests run in the background of a shell, which turns it off."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A place for temporary folders that no other process of the machine uses."""
    before, tempfile.tempdir = tempfile.tempdir, str(tmp_path_factory.mktemp("t"))
    yield tmp_path_factory.getbasetemp() / tempfile.tempdir
    tempfile.tempdir = before


@pytest.fixture(scope="module")
def shared(folder):
    before = traces.rank_pids()
    with World(LAYOUT, timeout=20) as world:
        yield world
    assert traces.rank_pids() <= before
    assert list(folder.glob("mpviz-*")) == []


@pytest.fixture
def world(shared, folder):
    """A world that runs, and that does so again after the test, with nothing beside it."""
    before = traces.rank_pids() - set(shared.pids)
    shared.start()
    yield shared
    assert added(shared) == [3, 3]
    assert traces.rank_pids() == before | set(shared.pids)
    assert len(list(folder.glob("mpviz-*"))) == 1


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


# ---- a rank that ends


ENDS = {
    "raises": ("if rank == 1: 1 / 0", "ZeroDivisionError: division by zero"),
    "raises what cannot be shown": (
        "class E(Exception):\n    def __str__(self): return 1 / 0\nif rank == 1: raise E",
        "E: (its message cannot be shown)",
    ),
    "calls sys.exit": ("if rank == 1: sys.exit(3)", "the rank called exit(3)"),
    "recurses": ("def f(): f()\nf()", "RecursionError"),
    "reads a line": ("input('name? ')", "a rank has no keyboard to read from"),
    "returns a lock": ("import threading\nthreading.Lock()", "cannot be sent back"),
    "returns what cannot be shown": (
        "class E:\n    def __repr__(self): raise SystemExit(4)\nE()",
        "the rank called exit(4)",
    ),
}


@pytest.mark.parametrize(("source", "words"), ENDS.values(), ids=ENDS)
def test_a_rank_that_raises_keeps_its_process(world, source, words):
    pids = world.pids
    said, _ = failed(world, source)
    assert words in said
    assert world.pids == pids


DEATHS = {
    "os._exit": ("if rank == 1: os._exit(3)", "exit code 3"),
    "os._exit with others waiting": ("if rank == 1: os._exit(3)\ndist.barrier()", "exit code 3"),
    "kill -9 in a collective": (
        "if rank == 1: os.kill(os.getpid(), 9)\ndist.all_reduce(torch.ones(1000))",
        "signal 9 (SIGKILL)",
    ),
    "kill -9 of all": ("os.kill(os.getpid(), 9)", "ranks 0 1 died: killed by signal 9"),
    "segmentation fault": ("if rank == 1: ctypes.string_at(0)", "signal 11 (SIGSEGV)"),
    "a child that holds its pipes": (
        "if rank == 1:\n    if os.fork() == 0: time.sleep(7); os._exit(0)\n    os._exit(5)",
        "exit code 5",
    ),
}


@pytest.mark.parametrize(("source", "words"), DEATHS.values(), ids=DEATHS)
def test_a_rank_that_dies(world, source, words):
    said, seconds = failed(world, source)
    assert "rank 1 died" in said or "ranks 0 1 died" in said
    assert words in said
    assert "start anew" in said
    assert seconds < 6  # the others are not waited for until the deadline
    assert world.pids == []


def test_a_rank_that_is_killed_from_outside_in_a_collective(world):
    victim = world.pids[1]
    threading.Timer(0.3, os.kill, (victim, signal.SIGKILL)).start()
    said, _ = failed(world, "if rank == 1: time.sleep(600)\ndist.barrier()")
    assert "rank 1 died: killed by signal 9 (SIGKILL)" in said
    assert "rank 0 then lost the connection" in said


def test_a_rank_that_is_killed_between_runs(world, capsys):
    kill(world.pids[1])
    while world._pool.alive:  # its server tells of it
        time.sleep(0.01)
    assert added(world) == [3, 3]
    assert capsys.readouterr().out.startswith("A rank has died since the last run.")


@pytest.mark.parametrize("size", [10, 10_000_000])
def test_a_job_for_a_dead_rank(world, size):
    kill(world.pids[1])
    # The moment in which a death is not known yet.
    with pytest.MonkeyPatch.context() as patch, pytest.raises(RanksError, match="rank 1 died"):
        patch.setattr(type(world._pool), "alive", True)
        world.run(len, b"x" * size, timeout=5)


def test_after_a_collective_has_failed_the_ranks_are_new(world):
    source = """
        from datetime import timedelta
        if rank == 0: dist.barrier(async_op=True).wait(timedelta(seconds=0.2))
    """
    said, _ = failed(world, textwrap.dedent(source))
    assert "RuntimeError" in said
    assert "start anew" in said
    assert world.pids == []


def test_ranks_that_differ_about_a_size(world):
    said, _ = failed(world, "dist.all_reduce(torch.ones(10 + 1000 * rank))")
    assert "data size doesn't match" in said
    assert "start anew" in said


# ---- a rank that does not end


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
        for pid in [*world.pids, _forkserver._forkserver_pid, os.getpid()]:
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
}


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
def test_who_waits_for_one_that_raised_waits_no_longer(world, wait):
    said, seconds = failed(world, f"if rank == 1: 1 / 0\n{wait}")
    assert "1 of 2 ranks raised ZeroDivisionError" in said
    assert "rank 0 waits in" in said
    assert seconds < 5


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


# ---- what comes and goes


LOCK = threading.Lock()


def test_what_cannot_be_sent_costs_nothing(world):
    pids = world.pids
    for function, *args in [(lambda lock=LOCK: lock,), (id, LOCK), (id, (n for n in "abc"))]:
        with pytest.raises(ValueError, match="cannot be sent to the ranks"):
            world.run(function, *args)
    assert world.pids == pids


def test_a_world_does_not_go_into_its_ranks(world):
    with pytest.raises(ValueError, match="a World stays in the notebook"):
        world.run(lambda: world.pids)


def test_a_rank_starts_no_world(world):
    said, _ = failed(
        world, "from mpviz import World\nwith World(layout) as inner: inner.run(int)", timeout=10
    )
    assert "a rank cannot start ranks of its own" in said


def test_a_result_of_200_megabytes(world):
    results = world.run(lambda rank: bytes([rank]) * 200_000_000, only=[1], timeout=60)
    assert [(len(result), result[-1]) for result in results] == [(200_000_000, 1)]


def test_an_argument_of_200_megabytes(world):
    assert list(world.run(len, bytes(200_000_000), only=[1], timeout=60)) == [200_000_000]


def test_a_million_lines(world):
    results = world.cell("for n in range(1_000_000): print('line', n)", only=[1], timeout=60)
    lines = results.output[1].split("\n")
    assert (lines[0], lines[-1]) == ("line 0", "line 999999")
    assert "… 999,750 lines left out …" in lines
    assert len(lines) < 300


def test_a_million_lines_of_a_library_in_c(world):
    results = world.cell("import os; os.system('seq 1000000')", timeout=60)
    assert results.output[0].endswith("1000000")
    assert len(results.output[0]) < 30_000


def test_standard_input_is_empty(world):
    source = "import os, sys; (sys.stdin.read(), os.read(0, 9), os.system('cat'))"
    assert list(world.cell(source)) == [("", b"", 0)] * 2


# ---- worlds


def test_a_world_after_its_close(world):
    world.close()
    world.close()
    assert repr(world).endswith("not started")
    assert added(world) == [3, 3]


def test_two_worlds(world):
    with World(ParallelLayout(nodes=1, gpus_per_node=4, tp=4), timeout=20) as other:
        assert list(other.run(lambda world_size: world_size)) == [4] * 4
        said, _ = failed(world, "while True: pass", timeout=0.5)
        assert "busy" in said
        assert list(other.run(lambda rank: rank)) == [0, 1, 2, 3]
        assert added(world) == [3, 3]


def test_a_world_that_is_at_work_takes_no_other_work(world):
    thread = threading.Thread(target=world.run, args=(time.sleep, 1))
    thread.start()
    time.sleep(0.3)
    with pytest.raises(RuntimeError, match="at work"):
        world.run(int)
    thread.join(10)


def test_a_world_in_a_thread(world):
    results = []
    thread = threading.Thread(target=lambda: results.extend(added(world)))
    thread.start()
    thread.join(20)
    assert results == [3, 3]


def test_a_world_that_is_forgotten_ends(folder):
    forgotten = World(LAYOUT).start()
    pids = set(forgotten.pids)
    del forgotten
    assert not pids & traces.rank_pids()


def test_a_server_that_is_just_dying(world, monkeypatch):
    tries = []
    connect = forkserver.connect_to_new_process

    def refused_twice(pipes):
        tries.append(pipes)
        if len(tries) < 3:
            raise (ConnectionRefusedError, EOFError)[len(tries) - 1]
        return connect(pipes)

    monkeypatch.setattr(forkserver, "connect_to_new_process", refused_twice)
    world.close()
    assert added(world) == [3, 3]
    assert len(tries) == 4


def test_the_death_of_the_server(world):
    os.kill(_forkserver._forkserver_pid, signal.SIGKILL)
    world.close()
    assert added(world) == [3, 3]
