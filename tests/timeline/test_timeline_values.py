"""What a time line tells, whether simulated or measured."""

from dataclasses import FrozenInstanceError, replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from schedule.plans import plans

from mpviz import Event, schedule
from mpviz.schedule import Plan
from mpviz.timeline import Timeline, simulate


def work(rank: int, name: str, start: float, end: float, stage: int, microbatch: int = 0) -> Event:
    return Event(rank, name, start, end, stage=stage, microbatch=microbatch)


ONE = Timeline((work(0, "F", 2, 3, 0), work(1, "F", 3, 4, 1), work(1, "B", 4, 6, 1),
                work(0, "B", 7, 9, 0)))  # fmt: skip


def test_events_are_kept_in_order_of_time() -> None:
    plan = schedule.zero_bubble_v(pp=3, microbatches=4)
    events = list(simulate(plan).events)
    Random(0).shuffle(events)
    assert Timeline(events) == simulate(plan)  # type: ignore[arg-type]
    assert Timeline(iter(events)).events == simulate(plan).events  # type: ignore[arg-type]


def test_a_time_line_is_a_frozen_value() -> None:
    assert hash(ONE) == hash(Timeline(ONE.events, pp=2)) and ONE == Timeline(ONE.events, pp=2)
    with pytest.raises(FrozenInstanceError):
        ONE.pp = 3  # type: ignore[misc]


def test_it_says_what_matters() -> None:
    assert str(ONE) == "2 ranks, 4 actions in 7 s, bubble 57.1 %"


def test_time_counts_from_the_first_start_to_the_last_end_of_work() -> None:
    waits = Event(0, "recv", 0, 2, (0, 1), peer=1, stage=0, microbatch=0)
    late = Event(1, "send", 10, 11, (0, 1), peer=0, stage=1, microbatch=0)
    with_messages = Timeline((*ONE.events, waits, late))
    for timeline in (ONE, with_messages):
        assert timeline.work == ONE.events
        assert (timeline.makespan, timeline.busy) == (7, (3, 3))
        assert timeline.bubble_fraction == pytest.approx(1 - 6 / 14)
        assert timeline.bubble_overhead == pytest.approx(14 / 6 - 1)


def test_a_rank_that_does_nothing_is_all_bubble() -> None:
    assert Timeline((work(0, "F", 0, 1, 0),), pp=4).bubble_fraction == 3 / 4


def test_nothing_at_all() -> None:
    nothing = Timeline(())
    assert (nothing.pp, nothing.makespan, nothing.bubble_fraction) == (1, 0, 0)
    assert (nothing.at(0), nothing.in_flight, nothing.peak_in_flight) == ((None,), ((),), (0,))


def test_a_rank_outside_is_refused() -> None:
    with pytest.raises(ValueError, match="an event is on rank 1, but pp=1 has 0 … 0"):
        Timeline(ONE.events, pp=1)
    with pytest.raises(ValueError, match="pp must be a whole number ≥ 1, got -1"):
        Timeline(ONE.events, pp=-1)


TWO = schedule.gpipe(pp=2, microbatches=2)


@pytest.mark.parametrize("later", [0, 20])
def test_two_runs_are_no_time_line(later: float) -> None:
    events = simulate(TWO).events
    again = [replace(e, start=e.start + later, end=e.end + later) for e in events]
    message = f"0F0 is there twice, from 0 s and from {later} s: a Timeline holds one run of one"
    with pytest.raises(ValueError, match=message):
        Timeline((*events, *again))


def test_events_given_twice_are_no_time_line() -> None:
    events = simulate(TWO).events
    with pytest.raises(ValueError, match="0F0 is there twice, from 0 s and from 0 s"):
        Timeline(events + events)
    with pytest.raises(ValueError, match="1B1 is there twice"):
        Timeline((*events, events[-1], max(simulate(TWO).work, key=lambda e: (e.rank, e.end))))


def test_replicas_of_a_pipeline_are_no_time_line() -> None:
    # dp=2, numbered by rank of the world: each action is on two of them.
    events = simulate(TWO).events
    replica = [replace(e, rank=e.rank + 2) for e in events]
    with pytest.raises(ValueError, match="the ranks of one pp group"):
        Timeline((*events, *replica))


@pytest.mark.parametrize("name", ["F", "recv"])
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"end": 0.5}, "ends before it starts, or never"),
        ({"end": float("inf")}, "ends before it starts, or never"),
        ({"start": float("nan")}, "ends before it starts, or never"),
        ({"start": float("-inf")}, "ends before it starts, or never"),
        ({"rank": -1}, "is on no rank: they count from 0"),
        ({"rank": 0.5}, "is on no rank: they count from 0"),
    ],
)
def test_what_cannot_have_happened_is_refused(
    name: str, wrong: dict[str, float], message: str
) -> None:
    good = work(0, name, 1, 2, 0)
    assert Timeline((good,)).pp == 1
    with pytest.raises(ValueError, match=message) as refused:
        Timeline((work(0, "B", 3, 4, 0), replace(good, **wrong)))  # type: ignore[arg-type]
    assert f"name='{name}'" in str(refused.value)


def test_only_rounding_is_left_out_of_a_bubble() -> None:
    # What the three take adds up to a little more than all of it.
    full = Timeline((work(0, "F", 0.8, 0.8 + 2.7, 0), work(0, "I", 0.8 + 2.7, 0.8 + 6.2, 0),
                     work(0, "W", 0.8 + 6.2, 0.8 + 9.4, 0)))  # fmt: skip
    assert -1e-15 < full.bubble_fraction < 0
    assert str(full).endswith("bubble 0.0 %")
    overlapping = Timeline((work(0, "F", 0, 1, 0), work(0, "B", 0, 1, 0)))
    assert str(overlapping).endswith("bubble -100.0 %")


@given(plans(), st.integers(0, 2))
def test_both_bubbles_say_the_same(plan: Plan, link: int) -> None:
    timeline = simulate(plan, link=link)
    fraction, overhead = timeline.bubble_fraction, timeline.bubble_overhead
    assert fraction == pytest.approx(overhead / (1 + overhead), abs=1e-12)


# ---- at a time


def test_who_works_at_a_time() -> None:
    f0, f1, b1, b0 = ONE.events
    at = {2: (f0, None), 2.9: (f0, None), 3: (None, f1), 4: (None, b1), 6: (None, None),
          8.5: (b0, None), 9: (None, None), -1: (None, None)}  # fmt: skip
    assert {time: ONE.at(time) for time in at} == at


@given(plans(), st.floats(-1, 60))
def test_at_most_one_thing_at_a_time(plan: Plan, time: float) -> None:
    timeline = simulate(plan)
    there = [event for event in timeline.work if event.start <= time < event.end]
    assert sorted(there, key=lambda e: e.rank) == [e for e in timeline.at(time) if e]


@pytest.mark.parametrize("said", [{}, {"stage": 0}, {"microbatch": 0}])
def test_work_must_say_its_stage_and_microbatch(said: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="says no stage or no microbatch"):
        Timeline((Event(0, "F", 0, 1, **said),))  # type: ignore[arg-type]


# ---- activations


def test_an_activation_is_held_until_its_backward_ends() -> None:
    assert ONE.in_flight == (((2, 1), (9, 0)), ((3, 1), (6, 0)))


def test_or_until_its_weight_gradient_ends() -> None:
    halves = Timeline((work(0, "F", 0, 1, 0), work(0, "I", 1, 2, 0), work(0, "W", 5, 6, 0)))
    assert halves.in_flight == (((0, 1), (6, 0)),)


def test_what_ends_makes_room_before_what_begins() -> None:
    plan = schedule.one_forward_one_backward(pp=1, microbatches=3)
    assert simulate(plan).peak_in_flight == (1,)


@given(plans())
def test_in_the_end_nothing_is_held(plan: Plan) -> None:
    timeline = simulate(plan)
    for steps, peak in zip(timeline.in_flight, timeline.peak_in_flight, strict=True):
        times = [time for time, _ in steps]
        assert times == sorted(set(times)) and steps[-1][1] == 0
        assert 1 <= peak <= plan.microbatches * plan.chunks
