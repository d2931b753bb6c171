"""Pipelines to draw: what the lesson shows, corner cases, and what hypothesis draws."""

import random
from collections.abc import Callable
from dataclasses import replace
from functools import cache

from hypothesis import strategies as st

from mpviz import schedule
from mpviz.schedule import Plan
from mpviz.timeline import Event, Timeline, simulate

HALVES = {"F": 1, "I": 1, "W": 1}
WHOLE = {"F": 1, "B": 2}


def one_f_one_b(pp: int, microbatches: int, durations=WHOLE, link: float = 0.0) -> Timeline:
    plan = schedule.one_forward_one_backward(pp=pp, microbatches=microbatches)
    return simulate(plan, durations, link)


def interleaved(pp: int, microbatches: int, chunks: int) -> Timeline:
    plan = schedule.interleaved_1f1b(pp=pp, microbatches=microbatches, chunks=chunks)
    return simulate(plan, WHOLE)


def measured(timeline: Timeline, seed: int = 0) -> Timeline:
    """The same actions at the times of a clock: nothing is round, and nothing in step."""
    rng = random.Random(seed)
    until = [0.0] * timeline.pp
    events = []
    for event in timeline.work:
        start = max(until[event.rank], event.start) + rng.uniform(1e-3, 2e-3)
        until[event.rank] = start + event.duration * rng.uniform(1.0, 1.1)
        events.append(replace(event, start=10 + start, end=10 + until[event.rank]))
        if event.start > 0:
            sent = replace(event, name="recv", start=10 + start - 1e-3, end=10 + start)
            events.append(sent)
    return Timeline(events, pp=timeline.pp)


_MAKERS: dict[str, Callable[[], Timeline]] = {
    "GPipe": lambda: simulate(schedule.gpipe(pp=4, microbatches=8), WHOLE),
    "1F1B": lambda: one_f_one_b(4, 8),
    "interleaved, 2 chunks": lambda: interleaved(4, 8, 2),
    "interleaved, 4 chunks": lambda: interleaved(4, 8, 4),
    "ZB-H1": lambda: simulate(schedule.zero_bubble_h1(pp=4, microbatches=8), HALVES),
    "ZB-V": lambda: simulate(schedule.zero_bubble_v(pp=4, microbatches=8), HALVES),
    "by hand": lambda: simulate(schedule.parse("0F0 0F1 0B0 0B1 \n 1F0 1B0 1F1 1B1"), WHOLE),
    "one rank": lambda: one_f_one_b(1, 4),
    "two ranks": lambda: one_f_one_b(2, 2),
    "as many forwards as backwards": lambda: one_f_one_b(4, 8, {"F": 1, "B": 1}),
    "a slow stage": lambda: one_f_one_b(4, 8, {"F": [3, 1, 1, 1], "B": [3, 2, 2, 2]}),
    "backwards for nothing": lambda: one_f_one_b(4, 8, {"F": 1, "B": 0}),
    "a slow link": lambda: one_f_one_b(4, 8, link=0.5),
    "measured": lambda: measured(one_f_one_b(4, 8)),
    "in microseconds": lambda: one_f_one_b(4, 8, {"F": 2e-6, "B": 5e-6}),
    "16 ranks": lambda: one_f_one_b(16, 16),
    "low boxes": lambda: simulate(schedule.zero_bubble_h1(pp=18, microbatches=12), HALVES),
    "narrow boxes": lambda: one_f_one_b(8, 32),
    "pixels in 8 rows": lambda: interleaved(8, 32, 4),
    "pixels in 64 rows": lambda: one_f_one_b(64, 8),
    "64 ranks, 512 microbatches": lambda: one_f_one_b(64, 512),
    "more stages than tints": lambda: interleaved(2, 2, 20),
    "nothing held": lambda: Timeline([Event(0, "W", 0, 1, stage=0, microbatch=0)]),
    "a rank that does nothing": lambda: Timeline([Event(0, "F", 0, 1, stage=0, microbatch=0)], 3),
}

PIPELINES = {name: cache(make) for name, make in _MAKERS.items()}

seconds = st.sampled_from([0.0, 0.001, 0.5, 1.0, 1 / 3, 2.0, 3.0, 40.0])
durations = st.fixed_dictionaries({"F": seconds.filter(bool), "I": seconds, "W": seconds})


@st.composite
def plans(draw: st.DrawFn, most: int = 6) -> Plan:
    pp, rounds = draw(st.integers(2, most)), draw(st.integers(1, 4))
    makers = [
        lambda: schedule.gpipe(pp=pp, microbatches=rounds),
        lambda: schedule.one_forward_one_backward(pp=pp, microbatches=rounds),
        lambda: schedule.interleaved_1f1b(
            pp=pp, microbatches=pp * rounds, chunks=draw(st.integers(2, 4))
        ),
        lambda: schedule.zero_bubble_h1(pp=pp, microbatches=rounds),
        lambda: schedule.zero_bubble_v(pp=pp, microbatches=rounds),
    ]
    return draw(st.sampled_from(makers))()


@st.composite
def timelines(draw: st.DrawFn, most: int = 6) -> Timeline:
    simulated = simulate(draw(plans(most)), draw(durations), draw(st.sampled_from([0.0, 0.25])))
    return measured(simulated) if draw(st.booleans()) else simulated
