"""What a diagnosis says of runs that are made by hand: no rank is needed for it."""

import linecache
import random
import signal
from pathlib import Path

import pytest

from mpviz import ParallelLayout
from mpviz.world.pool import Run
from mpviz.world.protocol import CELL, Failure, Outcome, Place
from mpviz.world.report import _NOT_THE_SAME, RESTARTED, Diagnosis
from mpviz.world.world import RanksError

LAYOUT = ParallelLayout(nodes=1, gpus_per_node=8, tp=2, pp=2)
EVERYONE = tuple(range(8))
LINE = Place(CELL, 3, "x = 1 / 0")
DONE = Outcome()


def said(run, layout=LAYOUT, deadline=60.0):
    return str(Diagnosis(layout, run, deadline)).splitlines()


def failed(kind="ZeroDivisionError", message="division by zero", place=LINE, disconnects=False):
    return Outcome(failure=Failure(kind, message, place, "", disconnects))


def lost(message="Connection closed by peer [127.0.0.1]:5"):
    return failed("RuntimeError", f"[gloo/pair.cc:1] {message}", disconnects=True)


def waiting(call="all_reduce", group=EVERYONE, name="world", line=2, peer=None):
    return Place(CELL, line, f"dist.{call}(x)", call, group, name, peer)


BUSY = Place(CELL, 5, "while True: pass")


@pytest.fixture(autouse=True)
def _no_cell_was_run(monkeypatch):
    monkeypatch.delitem(linecache.cache, CELL, raising=False)


# ---- raised


def test_some_ranks_raised():
    run = Run({rank: failed() if rank in (2, 5) else DONE for rank in EVERYONE})
    assert said(run) == [
        "2 of 8 ranks raised ZeroDivisionError: division by zero",
        "  ranks 2 5, line 3: x = 1 / 0",
    ]


def test_all_ranks_raised_the_same():
    assert said(Run(dict.fromkeys(EVERYONE, failed()))) == [
        "8 of 8 ranks raised ZeroDivisionError: division by zero",
        "  ranks 0 1 2 3 4 5 6 7, line 3: x = 1 / 0",
    ]


def test_ranks_raised_different_things():
    other = failed("KeyError", "'loss'", Place(CELL, 4, "losses['loss']"))
    run = Run({0: other, 1: failed(), 2: other, 3: DONE})
    assert said(run) == [
        "2 of 4 ranks raised KeyError: 'loss'",
        "  ranks 0 2, line 4: losses['loss']",
        "1 of 4 ranks raised ZeroDivisionError: division by zero",
        "  rank 1, line 3: x = 1 / 0",
    ]


def test_an_error_without_a_message_ends_without_a_colon():
    assert said(Run({0: failed("AssertionError", "")}))[0] == "1 of 1 ranks raised AssertionError"


def test_the_same_error_on_another_line_is_another_one():
    run = Run({0: failed(place=Place(CELL, 1)), 1: failed(place=Place(CELL, 2))})
    assert said(run)[1::2] == ["  rank 0, line 1", "  rank 1, line 2"]


@pytest.mark.parametrize(("ways", "left_out"), [(6, 0), (7, 1), (64, 58)])
def test_of_many_errors_the_first_six_are_told(ways, left_out):
    layout = ParallelLayout(nodes=8, gpus_per_node=8)
    lines = said(Run({rank: failed(message=f"on rank {rank}") for rank in range(ways)}), layout)
    assert lines[10] == f"1 of {ways} ranks raised ZeroDivisionError: on rank 5"
    ranks = "rank 6" if ways == 7 else "ranks 6 7 8 9 10 11 12 13 14 15 16 17 18 19 … 63"
    more = f"… and {left_out} more such errors: ZeroDivisionError on {ranks}"
    assert lines[12:] == ([more] if left_out else [])


def test_of_each_kind_and_line_one_is_told_before_any_is_repeated():
    ways = {rank: failed(message=f"on rank {rank}") for rank in range(12)}
    ways |= {7: failed("KeyError", "'a'"), 9: failed("KeyError", "'b'"), 10: failed("OSError", "")}
    ways[11] = failed("KeyError", "'a'", Place(CELL, 9, "x['a']"))
    lines = said(Run(ways))
    told = [line for line in lines if "raised" in line]
    assert told == [
        "1 of 12 ranks raised ZeroDivisionError: on rank 0",
        "1 of 12 ranks raised ZeroDivisionError: on rank 1",
        "1 of 12 ranks raised ZeroDivisionError: on rank 2",
        "1 of 12 ranks raised KeyError: 'a'",
        "1 of 12 ranks raised OSError",
        "1 of 12 ranks raised KeyError: 'a'",
    ]
    assert lines[-1] == (
        "… and 6 more such errors: ZeroDivisionError on ranks 3 4 5 6 8; KeyError on rank 9"
    )


# ---- causes, and what follows from them


def at(seconds, kind="ValueError", message="the cause", awaited=()):
    timed_out = kind == "TimeoutError"
    failure = Failure(kind, message, LINE, "", timed_out, timed_out, awaited, seconds)
    return Outcome(failure=failure)


def tired(seconds, *awaited):
    return at(seconds, "TimeoutError", f"waited for {awaited}", awaited)


def errors(run, layout=LAYOUT):
    """Which ranks are said to have raised, in order, and what is said of the others."""
    lines = said(run, layout)
    raised = [line for line in lines if " ranks raised " in line]
    places = [lines[lines.index(line) + 1].split(",")[0].strip() for line in raised]
    return places, [line for line in lines if " then " in line]


def test_the_earliest_error_is_told_first():
    run = Run({0: at(9.0, message="a"), 1: at(7.0, message="b"), 2: at(8.0, message="c")})
    assert errors(run) == (["rank 1", "rank 2", "rank 0"], [])
    assert said(run)[0] == "1 of 3 ranks raised ValueError: b"


def test_errors_at_the_same_time_are_told_in_the_order_of_the_ranks():
    run = Run({n: at(5.0 - 0.001 * n, message=f"{n}") for n in range(4)} | {4: at(1.0)})
    assert errors(run) == (["rank 4", "rank 0", "rank 1", "rank 2", "rank 3"], [])


def test_an_error_of_several_ranks_counts_from_the_first_of_them():
    run = Run({0: at(9.0, message="a"), 1: at(8.0, message="b"), 2: at(3.0, message="a")})
    assert errors(run) == (["ranks 0 2", "rank 1"], [])


def test_timeouts_in_a_row_behind_an_error_are_one_line():
    outcomes = {rank: tired(60 + 0.01 * rank, rank + 1) for rank in range(7)} | {7: at(1.0)}
    run = Run(outcomes)
    assert errors(run) == (["rank 7"], ["ranks 0 1 2 3 4 5 6 then waited in vain."])
    states = Diagnosis(LAYOUT, run, 60).states
    assert states == dict.fromkeys(range(7), "waited in vain") | {7: "raised ValueError"}


def test_timeouts_and_lost_connections_behind_an_error_are_one_line():
    run = Run({0: tired(60, 1), 1: lost(), 2: at(1.0)})
    assert errors(run) == (["rank 2"], ["ranks 0 1 then lost the connection or waited in vain."])


def test_a_timeout_behind_a_dead_rank_is_not_what_went_wrong():
    run = Run({0: tired(60, 1), 1: tired(61, 2)}, died={2: -9})
    assert errors(run) == ([], ["ranks 0 1 then waited in vain."])
    assert said(run)[0] == "rank 2 died: killed by signal 9 (SIGKILL)."


def test_a_timeout_behind_a_rank_that_never_failed_is_what_went_wrong():
    # Rank 2 is still busy; rank 1 gave it up, and rank 0 gave up rank 1.
    run = Run({0: tired(59, 1), 1: tired(60, 2)}, places={2: BUSY})
    assert errors(run) == (["rank 1"], ["rank 0 then waited in vain."])


def test_ranks_that_gave_each_other_up_both_raised():
    run = Run({0: tired(60, 1), 1: tired(60, 0), 2: DONE})
    assert errors(run) == (["rank 0", "rank 1"], [])


def test_a_timeout_before_the_error_of_whom_it_waited_for_does_not_follow_from_it():
    run = Run({0: tired(2, 1), 1: at(9.0)})
    assert errors(run) == (["rank 0", "rank 1"], [])


def test_a_timeout_behind_another_rank_than_the_one_that_raised_is_told():
    run = Run({0: tired(60, 1), 1: DONE, 2: at(1.0)})
    assert errors(run) == (["rank 2", "rank 0"], [])


def test_a_timeout_that_cannot_say_for_whom_follows_from_an_earlier_error():
    assert errors(Run({0: tired(60), 2: at(1.0)})) == (["rank 2"], ["rank 0 then waited in vain."])
    assert errors(Run({0: tired(2), 2: at(3.0)})) == (["rank 0", "rank 2"], [])


def test_an_error_of_the_readers_own_is_no_lost_connection():
    run = Run({0: failed("OSError", "Broken pipe"), 1: failed()})
    assert errors(run) == (["rank 0", "rank 1"], [])


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (Place(), "outside your code"),
        (Place(CELL, 7, "f(x)"), "line 7: f(x)"),
        (Place(CELL, 7), "line 7"),
        (Place("/tmp/ipykernel_12/34.py", 2, "g()"), "line 2: g()"),
        (Place("<ipython-input-1-abc>", 2, "g()"), "line 2: g()"),
        (Place("/home/me/model.py", 40, "h()"), "line 40 of model.py: h()"),
        (Place("/nowhere/model.py", 40), "line 40 of model.py"),
    ],
)
def test_where_it_happened(place, words):
    assert said(Run({0: failed(place=place)}))[1] == f"  rank 0, {words}"


def test_a_line_that_the_rank_could_not_read_is_read_here():
    text = Path(__file__).read_text().splitlines()
    line = next(number for number, code in enumerate(text, 1) if code.startswith("BUSY ="))
    run = Run({0: failed(place=Place(__file__, line))})
    shown = 'BUSY = Place(CELL, 5, "while True: pass")'
    assert said(run)[1] == f"  rank 0, line {line} of test_report.py: {shown}"


def test_a_line_is_shown_to_its_two_hundredth_character(tmp_path):
    file = tmp_path / "model.py"
    file.write_text("x" * 1000)
    line = f"  rank 0, line 1 of model.py: {'x' * 200} … 800 characters left out"
    assert said(Run({0: failed(place=Place(str(file), 1))}))[1] == line


# ---- died


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        (0, "its process ended with exit code 0"),
        (3, "its process ended with exit code 3"),
        (-signal.SIGKILL, "killed by signal 9 (SIGKILL)"),
        (-signal.SIGSEGV, "killed by signal 11 (SIGSEGV)"),
        (-200, "killed by signal 200"),
    ],
)
def test_how_a_rank_died(code, cause):
    run = Run({rank: DONE for rank in EVERYONE if rank != 3}, died={3: code})
    assert said(run) == [f"rank 3 died: {cause}.", RESTARTED]
    assert Diagnosis(LAYOUT, run, 60).states[3] == f"died, {cause}"


def test_ranks_that_died_alike_and_otherwise():
    run = Run(died={5: -9, 1: -9, 0: 3})
    assert said(run) == [
        "rank 0 died: its process ended with exit code 3.",
        "ranks 1 5 died: killed by signal 9 (SIGKILL).",
        RESTARTED,
    ]


def test_what_a_dead_rank_had_written():
    run = Run(died={0: -6, 1: -6, 2: -6}, logs={0: "abort\n", 1: "abort", 2: " "})
    assert said(run)[1:] == ["  it had written: abort", RESTARTED]


def test_what_dead_ranks_had_written_differently():
    said_by = {rank: f"it was {rank}" for rank in (7, 2, 5, 0, 3, 6, 1, 4)}
    lines = said(Run(died=dict.fromkeys(EVERYONE, -9), logs=said_by))
    assert lines[1:-1] == [f"  it had written: it was {rank}" for rank in EVERYONE]


# ---- lost connections


@pytest.mark.parametrize(
    "words", ["Connection closed by peer", "Connection reset by peer", "Broken pipe"]
)
def test_who_only_lost_the_connection_is_not_to_blame(words):
    run = Run({0: lost(words), 1: failed(), 2: lost(words)})
    assert said(run)[:3] == [
        "1 of 3 ranks raised ZeroDivisionError: division by zero",
        "  rank 1, line 3: x = 1 / 0",
        "ranks 0 2 then lost the connection.",
    ]
    states = Diagnosis(LAYOUT, run, 60).states
    assert states == {
        0: "lost the connection",
        1: "raised ZeroDivisionError",
        2: "lost the connection",
    }


def test_losing_the_connection_to_a_dead_rank():
    run = Run({0: lost(), 1: DONE}, died={2: -9})
    assert said(run) == [
        "rank 2 died: killed by signal 9 (SIGKILL).",
        "rank 0 then lost the connection.",
        RESTARTED,
    ]


def test_when_all_lost_the_connection_it_is_what_they_raised():
    lines = said(Run({0: lost(), 1: lost()}))
    assert lines[0].startswith("2 of 2 ranks raised RuntimeError: [gloo/pair.cc:1] Connection")
    assert not any("then lost" in line for line in lines)


def test_a_run_that_cost_the_connections_says_that_ranks_start_anew():
    assert said(Run({0: failed(disconnects=True)}))[-1] == RESTARTED
    assert RESTARTED not in said(Run({0: failed()}))


# ---- waits


def test_who_waits_and_who_never_came():
    places = {rank: waiting() for rank in EVERYONE if rank not in (1, 6)} | {6: BUSY}
    assert said(Run({1: DONE}, places=places), deadline=2.5) == [
        "Not done after 2.5 s.",
        "ranks 0 2 3 4 5 7 wait in all_reduce, line 2: dist.all_reduce(x)",
        "  all ranks: ranks 0 2 3 4 5 7 came, never came: rank 1 (done); rank 6 (busy)",
        "rank 6 busy at line 5: while True: pass",
        RESTARTED,
    ]


def test_every_reason_not_to_come():
    group = EVERYONE
    run = Run(
        {1: DONE, 2: failed()},
        died={3: -9},
        places={
            0: waiting(group=group),
            4: BUSY,
            5: waiting("barrier", line=9),
            6: Place(silent=True),
        },
    )
    lines = said(run)
    assert lines[3:] == [
        "rank 0 waits in all_reduce, line 2: dist.all_reduce(x)",
        "  all ranks: rank 0 came, never came: rank 1 (done); rank 2 (raised ZeroDivisionError); "
        "rank 3 (died, killed by signal 9 (SIGKILL)); rank 4 (busy); rank 5 (waits in barrier); "
        "rank 6 (no answer); rank 7 (not asked to run)",
        "rank 5 waits in barrier, line 9: dist.barrier(x)",
        "  all ranks: rank 5 came, never came: rank 0 (waits in all_reduce); rank 1 (done); "
        "rank 2 (raised ZeroDivisionError); rank 3 (died, killed by signal 9 (SIGKILL)); "
        "rank 4 (busy); rank 6 (no answer); rank 7 (not asked to run)",
        "rank 4 busy at line 5: while True: pass",
        "rank 6 did not answer: stopped, or too busy",
        RESTARTED,
    ]


def test_each_group_of_a_kind_is_told_apart():
    places = {rank: waiting(group=group, name="tp") for group in ((0, 1), (2, 3)) for rank in group}
    del places[1], places[2]
    assert said(Run({1: DONE, 2: DONE}, places=places))[1:-1] == [
        "ranks 0 3 wait in all_reduce, line 2: dist.all_reduce(x)",
        "  tp group 0 1: rank 0 came, never came: rank 1 (done)",
        "  tp group 2 3: rank 3 came, never came: rank 2 (done)",
    ]


@pytest.mark.parametrize("name", ["", "new_group"])
def test_a_group_without_a_name_is_its_ranks(name):
    run = Run({4: DONE}, places={2: waiting(group=(2, 4), name=name)})
    assert said(run)[2] == "  2 4: rank 2 came, never came: rank 4 (done)"


def test_all_came_but_not_to_the_same_group():
    places = {rank: waiting("new_group", (0, 1), "new_group") for rank in (0, 1)}
    assert said(Run(places=places))[1:3] == [
        "ranks 0 1 wait in new_group, line 2: dist.new_group(x)",
        f"  0 1: all came; {_NOT_THE_SAME}",
    ]


def test_the_same_call_on_different_lines_never_meets():
    places = {0: waiting(group=(0, 1), name="tp", line=2)}
    places[1] = waiting(group=(0, 1), name="tp", line=4)
    assert said(Run(places=places))[1:-1] == [
        "rank 0 waits in all_reduce, line 2: dist.all_reduce(x)",
        "  tp group 0 1: rank 0 came, never came: rank 1 (waits in all_reduce)",
        "rank 1 waits in all_reduce, line 4: dist.all_reduce(x)",
        "  tp group 0 1: rank 1 came, never came: rank 0 (waits in all_reduce)",
    ]


def test_messages_wait_for_one_other_rank():
    run = Run(
        {3: DONE},
        places={
            0: waiting("recv", peer=3),
            1: waiting("send", peer=2, line=4),
            2: waiting("send", peer=1, line=4),
        },
    )
    assert said(run)[1:-1] == [
        "rank 0 waits in recv, line 2: dist.recv(x)",
        "  ranks 0 3: rank 0 came, never came: rank 3 (done)",
        "ranks 1 2 wait in send, line 4: dist.send(x)",
        "  ranks 1 2: rank 1 came, never came: rank 2 (waits in send)",
        "  ranks 2 1: rank 2 came, never came: rank 1 (waits in send)",
    ]


def test_a_pending_operation_does_not_say_for_whom():
    run = Run({0: DONE}, places={1: Place(CELL, 6, "work.wait()", "work.wait")})
    assert said(run)[1:-1] == ["rank 1 waits in work.wait, line 6: work.wait()"]
    assert Diagnosis(LAYOUT, run, 1).states == {0: "done", 1: "waits in work.wait"}


def message(peer, what="the gradient", group=EVERYONE):
    return Place(CELL, 2, "execute()", "pipeline.execute", group, "pp", peer, what)


def test_messages_behind_a_failure_are_told_where_the_row_begins():
    run = Run({3: failed()}, places={rank: message(rank + 1, f"g{rank + 1}") for rank in range(3)})
    assert said(run)[2:-1] == [
        "ranks 0 1 2 wait in pipeline.execute, line 2: execute()",
        "  rank 2 waits for g3: rank 3 (raised ZeroDivisionError)",
        "  ranks 0 1 wait for ranks that wait themselves",
    ]


def test_messages_that_wait_for_each_other_are_all_told():
    run = Run({2: failed()}, places={0: message(1, "b"), 1: message(0, "a")})
    assert said(run)[3:-1] == [
        "  rank 0 waits for b: rank 1 (waits in pipeline.execute)",
        "  rank 1 waits for a: rank 0 (waits in pipeline.execute)",
    ]


@pytest.mark.parametrize(("count", "left_out"), [(6, 0), (7, 1), (20, 14)])
def test_of_many_messages_the_first_six_are_told(count, left_out):
    layout = ParallelLayout(nodes=count, gpus_per_node=2, pp=2)
    run = Run({count: failed()}, places={rank: message(count) for rank in range(count)})
    lines = said(run, layout)
    assert sum(line.startswith("  rank") for line in lines) == 1 + 6
    more = [line for line in lines if line.startswith("  …")]
    assert more == ([f"  … and {left_out} more such ranks"] if left_out else [])


@pytest.mark.parametrize(("count", "left_out"), [(6, 0), (7, 1), (20, 14)])
def test_of_many_groups_the_first_six_are_told(count, left_out):
    layout = ParallelLayout(nodes=count, gpus_per_node=2, tp=2)
    places = {2 * n: waiting(group=(2 * n, 2 * n + 1), name="tp") for n in range(count)}
    done = {2 * n + 1: DONE for n in range(count)}
    lines = said(Run(done, places=places), layout)
    shown = [line for line in lines if "came" in line]
    assert shown[5] == "  tp group 10 11: rank 10 came, never came: rank 11 (done)"
    assert len(shown) == 6
    more = [line for line in lines if line.startswith("  …")]
    assert more == ([f"  … and {left_out} more such groups"] if left_out else [])


def test_of_many_ranks_the_first_and_the_last_are_told():
    layout = ParallelLayout(nodes=3, gpus_per_node=8)
    run = Run(dict.fromkeys(range(24), failed()))
    shown = " ".join(map(str, range(14)))
    assert said(run, layout)[1] == f"  ranks {shown} … 23, line 3: x = 1 / 0"
    run = Run(dict.fromkeys(range(16), failed()))
    assert "…" not in said(run, layout)[1]


# ---- the first and the last line


def test_busy_ranks_alone():
    run = Run(dict.fromkeys(EVERYONE[2:], DONE), places={0: BUSY, 1: BUSY})
    assert said(run) == [
        "Not done after 60 s.",
        "ranks 0 1 busy at line 5: while True: pass",
        RESTARTED,
    ]
    assert Diagnosis(LAYOUT, run, 60).states[0] == "busy"


def test_an_interrupt_comes_first_and_the_deadline_is_not_blamed():
    assert said(Run(places={0: BUSY}, interrupted=True)) == [
        "Interrupted.",
        "rank 0 busy at line 5: while True: pass",
        RESTARTED,
    ]


def test_an_interrupt_that_came_when_all_were_done():
    assert said(Run({0: DONE}, interrupted=True)) == ["Interrupted."]


@pytest.mark.parametrize(
    "run",
    [
        Run({0: failed()}, places={1: waiting(group=(0, 1), name="tp")}),
        Run(died={0: -9}, places={1: waiting(group=(0, 1), name="tp")}),
    ],
)
def test_with_a_culprit_the_deadline_is_not_blamed(run):
    assert not any(line.startswith("Not done") for line in said(run))


def test_states_of_all_who_took_part_in_rank_order():
    run = Run({3: DONE, 0: failed()}, died={2: 1}, places={1: waiting()})
    states = Diagnosis(LAYOUT, run, 60).states
    assert list(states.items()) == [
        (0, "raised ZeroDivisionError"),
        (1, "waits in all_reduce"),
        (2, "died, its process ended with exit code 1"),
        (3, "done"),
    ]


def test_the_error_carries_text_and_picture():
    run = Run({0: failed(), 1: DONE})
    error = RanksError(Diagnosis(LAYOUT, run, 60))
    assert str(error) == "\n".join(said(run))
    assert error._render_traceback_() == [f"RanksError: {error}"]
    assert error.picture.text.startswith("What became of each rank\n")
    assert "0: raised ZeroDivisionError" in error.picture.text


def shuffled(values, randomly):
    items = list(values.items())
    randomly.shuffle(items)
    return dict(items)


def test_the_words_do_not_depend_on_who_answered_first():
    layout = ParallelLayout(nodes=4, gpus_per_node=8, tp=2, pp=2)
    outcomes = {0: failed(), 1: DONE, 2: failed("KeyError", "'a'"), 3: lost(), 4: failed()}
    died = {5: -9, 6: 1, 7: -9}
    logs = {5: "abort", 7: "bus error", 6: "gone"}
    places = {rank: waiting(group=(rank, rank + 1), name="tp") for rank in range(8, 24, 2)}
    places |= {rank: waiting("recv", peer=rank + 1, line=rank % 3) for rank in range(9, 24, 2)}
    places |= {24: BUSY, 25: Place(CELL, 1), 26: BUSY, 27: Place(silent=True)}
    places |= {28: Place(silent=True), 29: waiting("barrier"), 30: waiting("barrier")}
    expected = said(Run(outcomes, died, places, logs=logs), layout)
    randomly = random.Random(0)
    for _ in range(50):
        run = Run(*(shuffled(d, randomly) for d in (outcomes, died, places)))
        run.logs = shuffled(logs, randomly)
        assert said(run, layout) == expected
        assert list(Diagnosis(layout, run, 60).states) == list(range(31))
