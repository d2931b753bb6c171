"""Whatever a rank does, a run ends in time, says what happened, and the next one works."""

import os
import re
import signal
import textwrap
import threading
import time

import psutil
import pytest
import traces
from world.faults import LAYOUT, added, failed, kill

from mpviz import ParallelLayout, RanksError, World
from mpviz.world import launch

pytestmark = pytest.mark.usefixtures("interruptible")


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
    assert re.search(
        r"calls all_reduce of \d+ float32 \(sum\), and rank . calls all_reduce of", said
    )
    assert "start anew" in said


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


def test_a_result_of_50_megabytes(world):
    results = world.run(lambda rank: bytes([rank]) * 50_000_000, only=[1], timeout=60)
    assert [(len(result), result[-1]) for result in results] == [(50_000_000, 1)]


def test_an_argument_of_50_megabytes(world):
    assert list(world.run(len, bytes(50_000_000), only=[1], timeout=60)) == [50_000_000]


def test_a_hundred_thousand_lines(world):
    results = world.cell("for n in range(100_000): print('line', n)", only=[1], timeout=60)
    lines = results.output[1].split("\n")
    assert (lines[0], lines[-1]) == ("line 0", "line 99999")
    assert "… 99,750 lines left out …" in lines
    assert len(lines) < 300


def test_a_million_lines_of_a_library_in_c(world):
    results = world.cell("import os; os.system('seq 1000000')", timeout=60)
    assert results.output[0].endswith("1000000")
    assert len(results.output[0]) < 30_000


LONG = {
    "ten megabytes": (
        "raise ValueError('a' * 10_000_000)",
        [f"2 of 2 ranks raised ValueError: {'a' * 2000} … 9,998,000 characters left out"],
    ),
    "an exit with ten megabytes": (
        "sys.exit('a' * 10_000_000)",
        [f"2 of 2 ranks raised SystemExit: the rank called exit('{'a' * 1978} … 9,998,024 "
         f"characters left out"],
    ),
    "a hundred thousand lines": (
        "raise ValueError('\\n'.join(map(str, range(100_000))))",
        ["2 of 2 ranks raised ValueError: 0", *map(str, range(1, 200)),
         "… 99,750 lines left out …", *map(str, range(99_950, 100_000))],
    ),
    "a long name": (
        "raise type('E' * 1_000_000, (Exception,), {})",
        [f"2 of 2 ranks raised {'E' * 200}"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("source", "begins"), LONG.values(), ids=LONG)
def test_a_message_is_cut_as_prints_are(world, source, begins):
    said, _ = failed(world, source)
    assert said.splitlines()[: len(begins)] == begins
    assert said.splitlines()[len(begins) :] == [f"  ranks 0 1, line 2: {source}"]


def test_a_line_of_a_megabyte_is_cut():
    with World(LAYOUT) as world, pytest.raises(RanksError) as caught:
        world.cell(f"1 / 0; x = '{'a' * 1_000_000}'")
    line = f"  ranks 0 1, line 1: 1 / 0; x = '{'a' * 188} … 999,813 characters left out"
    assert str(caught.value).splitlines()[1] == line


def test_a_syntax_error_of_a_megabyte_is_cut(world):
    with pytest.raises(RanksError) as caught:
        world.run(compile, "x = ) " + "a" * 1_000_000, "model.py", "exec")
    line = f"  ranks 0 1, line 1 of model.py: x = ) {'a' * 194} … 999,806 characters left out"
    assert str(caught.value).splitlines()[1] == line


def test_a_trace_is_cut_too(world):
    with pytest.raises(RanksError) as caught:
        world.cell("raise ValueError('a\\n' * 1_000_000)")
    for failure in caught.value.diagnosis.failures.values():
        assert len(failure.trace) < 10_000
        assert "lines left out" in failure.trace


def test_what_is_left_out_of_a_result_is_said(world):
    results = world.cell("'a' * 1_000_000")
    assert results._outcomes[0].text == "a" * 4000 + "… 996,000 characters left out"


def test_what_a_dead_rank_had_written_at_length(world):
    said, _ = failed(world, "if rank == 1: os.system('seq 100000'); os.kill(os.getpid(), 9)")
    lines = said.splitlines()
    assert lines[1].startswith("  it had written: … 584,895 bytes left out … ")
    assert "99999" in lines and "100000" in lines
    assert len(said) < 6000


CHAIN = """
error = ValueError('the last')
for n in range(5_000):
    before, error = error, ValueError(n)
    error.__context__ = before
raise error
"""


def test_an_error_behind_thousands_of_others(world):
    said, _ = failed(world, CHAIN)
    assert said.startswith("2 of 2 ranks raised ValueError: 4999")


def test_errors_in_a_circle(world):
    said, _ = failed(
        world, "a, b = ValueError(1), ValueError(2)\na.__cause__, b.__cause__ = b, a\nraise a"
    )
    assert said.startswith("2 of 2 ranks raised ValueError: 1")


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
    fork = launch.Server.fork

    def refused_once(server, *request):
        tries.append(server)
        if len(tries) == 2:
            raise ConnectionResetError
        return fork(server, *request)

    monkeypatch.setattr(launch.Server, "fork", refused_once)
    world.close()
    assert added(world) == [3, 3]
    assert len(tries) == 3 and tries[0] is tries[1] is not tries[2]
    # The first rank has outlived the server that forked it; it ends with its world all the same.
    ranks = [psutil.Process(pid) for pid in world.pids]
    world.close()
    assert psutil.wait_procs(ranks, timeout=5)[1] == []


def test_the_death_of_the_server(world):
    os.kill(traces.server_pid(), signal.SIGKILL)
    world.close()
    assert added(world) == [3, 3]
