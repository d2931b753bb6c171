"""The checks of lesson 06: plans, and a swap tried on real ranks."""

import sys

import cloudpickle
import pytest
import torch.distributed as dist
from exercises.judged import assert_wrong, written_wrong

from mpviz import exercises
from mpviz.exercises import lesson06

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # as a notebook's functions go
pytestmark = pytest.mark.usefixtures("kept_ranks")


@pytest.mark.parametrize(
    ("name", "answer", "hint"),
    [
        ("bubble_in_percent", 29, "idle over *useful* time"),
        ("bubble_in_percent", 77, "in which they work"),
        ("bubble_in_percent", 88, "one microbatch"),
        ("bubble_in_percent", 25, "7 stages before it"),
        ("bubble_in_percent", 22, "7 of m + p - 1 = 31 steps; round to the nearest"),
        ("bubble_in_percent", 33, "That is p/m"),
        ("plan_by_hand", "0F0 0B0", "One line for each of 2 ranks"),
        ("plan_by_hand", "0F0 0B0\n1F0 1X0", "'1X0' is no action"),
        ("plan_by_hand", "0F0 0B0\n1F0 1B0", "missing"),
        ("plan_by_hand", "0F0 0B0 0F1 0B1\n1F0 1F1 1B0 1B1", "missing: rank 0 never runs 0F2"),
        (
            "plan_by_hand",
            "0F0 0F1 0F2 0F3 0B0 0B1 0B2 0B3\n1F0 1F1 1F2 1F3 1B0 1B1 1B2 1B3",
            "rank 0 holds the activations of 4 microbatches",
        ),
        (
            "plan_by_hand",
            "0F0 0B0 0F1 0B1 0F2 0B2 0F3 0B3\n1F0 1B0 1F1 1B1 1F2 1B2 1F3 1B3",
            "takes 24 s where 15 s are enough",
        ),
        (
            "plan_by_hand",
            "0F0 0B0 0F1 0B1 0F2 0B2 0F3 0B3\n1F0 1F1 1B0 1B1 1F2 1B2 1F3 1B3",
            "deadlock: rank 0 waits at 0B0",
        ),
    ],
)
def test_a_known_mistake_gets_its_own_hint(name, answer, hint):
    assert_wrong(getattr(exercises, name)(answer), hint)


WRITTEN = {
    "warm_up": [
        (lambda rank, pp, m: pp - 1 - rank, "a forward that does not exist"),
        (lambda rank, pp, m: pp - rank, "the first of a pair"),
        (lambda rank, pp, m: min(m, pp - rank), "the first of a pair"),
        (lambda rank, pp, m: rank, "The other way round"),
        (lambda rank, pp, m: min(m, rank), "The other way round"),
        (lambda rank, pp, m: m, "That is GPipe"),
        (lambda rank, pp, m: 3 - rank, "the loop above"),
        (lambda rank, pp, m: 0, "answer(0, 2, 1) returns 0, and should return 1"),
    ],
}


@pytest.mark.parametrize(("name", "wrong", "hint"), written_wrong(WRITTEN))
def test_a_function_written_wrong_gets_the_hint_for_it(name, wrong, hint):
    assert_wrong(getattr(exercises, name)(wrong), hint)


SPLIT = (
    "0F0 0F1 0I0 0W0 0F2 0I1 0W1 0F3 0I2 0W2 0I3 0W3\n"
    "1F0 1I0 1F1 1I1 1W0 1F2 1I2 1W1 1F3 1I3 1W2 1W3"
)


RIGHT = "0F0 0F1 0B0 0F2 0B1 0F3 0B2 0B3\n1F0 1B0 1F1 1B1 1F2 1B2 1F3 1B3"


@pytest.mark.parametrize(
    ("plan", "praise"),
    [
        (RIGHT, "15 s, and rank 0 never holds more than 2 microbatches: that is 1F1B."),
        (RIGHT.replace("0B2", "0I2 0W2"), "2 microbatches: as fast as 1F1B."),
        (SPLIT, "13 s, and rank 0 never holds more than 2 microbatches: faster than 1F1B (15 s)"),
    ],
)
def test_a_plan_is_praised_for_what_it_is(plan, praise):
    verdict = exercises.plan_by_hand(plan)
    assert verdict.correct
    assert praise in verdict.message


def both_send_first(rank, mine, theirs):
    dist.send(mine, dst=1 - rank)
    dist.recv(theirs, src=1 - rank)


def both_receive_first(rank, mine, theirs):
    dist.recv(theirs, src=1 - rank)
    dist.send(mine, dst=1 - rank)


def one_only_receives(rank, mine, theirs):
    if rank == 0:
        dist.send(mine, dst=1)
    else:
        dist.recv(theirs, src=0)


def nobody_sends_back(rank, mine, theirs):
    if rank == 0:
        dist.send(mine, dst=1)
    dist.recv(theirs, src=1 - rank)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (one_only_receives, "On rank 0 nothing was received into `theirs`."),
        (lambda rank, mine, theirs: theirs.copy_(mine), "On rank 0 `theirs` holds its own tensor."),
        (lambda rank, mine, theirs: theirs.zero_(), "and is [0.0, 0.0]"),
        (lambda rank: None, "It does not run on the ranks: 2 of 2 ranks raised TypeError"),
    ],
)
def test_a_swap_that_is_none_is_told_what_it_does(answer, hint):
    assert_wrong(exercises.exchange(answer), hint)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (both_send_first, "both send first, and each waits for the other to receive"),
        (both_receive_first, "both receive first, and each waits for what the other sends"),
        (nobody_sends_back, "rank 0 waits in recv. For each message, one rank sends"),
    ],
)
def test_a_swap_that_hangs_is_told_who_waits(impatient, answer, hint):
    assert_wrong(exercises.exchange(answer), hint)


@pytest.mark.parametrize("waiting", [{0: "recv", 1: "recv"}, {0: "recv"}, {1: "recv"}])
def test_a_swap_that_loses_an_isend_is_told_to_wait_for_it(waiting):
    # gloo drops a message whose isend nobody keeps, on one rank or on both: a race.
    said = lesson06._both_wait(waiting)
    assert "isend" in said and "keep what it returns, and wait() for it after the recv" in said


def test_a_swap_may_be_started_on_both_sides_at_once():
    def at_once(rank, mine, theirs):
        sending = dist.isend(mine, 1 - rank)
        dist.recv(theirs, 1 - rank)
        sending.wait()

    assert exercises.exchange(at_once).correct
