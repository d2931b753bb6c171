"""Time lines as JSON and as Chrome traces."""

import json
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st
from schedule.plans import plans

from mpviz import Event, schedule
from mpviz.schedule import Plan
from mpviz.timeline import Timeline, simulate

PLAN = schedule.one_forward_one_backward(pp=2, microbatches=2)
SECONDS = st.floats(0, 1e3)


@given(plans(), SECONDS, SECONDS, SECONDS)
def test_what_is_written_reads_back_equal(plan: Plan, f: float, b: float, link: float) -> None:
    timeline = simulate(plan, {"F": f, "B": b, "I": b / 3, "W": b / 7}, link)
    assert Timeline.from_json(timeline.to_json()) == timeline
    assert Timeline.from_chrome_trace(timeline.to_chrome_trace()) == timeline


def test_every_field_of_an_event_is_kept() -> None:
    full = Event(1, "send", 0.125, 0.25, (0, 1), bytes=2**40, peer=0, stage=1, microbatch=3)
    assert all(getattr(full, field.name) != field.default for field in fields(Event))
    timeline = Timeline((full, Event(0, "all_reduce", 1 / 3, 2 / 3)), pp=3, link=0.1)
    assert Timeline.from_json(timeline.to_json()) == timeline
    assert Timeline.from_chrome_trace(timeline.to_chrome_trace()) == timeline


def test_a_trace_is_what_perfetto_reads() -> None:
    trace = json.loads(simulate(PLAN, link=0.5).to_chrome_trace())
    named = [one for one in trace["traceEvents"] if one["ph"] == "M"]
    assert [(one["tid"], one["args"]["name"]) for one in named] == [(0, "rank 0"), (1, "rank 1")]
    slices = [one for one in trace["traceEvents"] if one["ph"] == "X"]
    first = slices[0]
    assert (first["name"], first["cat"], first["pid"], first["tid"]) == ("0F0", "F", 0, 0)
    assert (first["ts"], first["dur"]) == (0, 1e6)  # microseconds
    assert {one["name"] for one in slices} == {
        *(str(action) for mine in PLAN.actions for action in mine), "recv",
    }  # fmt: skip
    # On one track slices follow each other.
    for rank in (0, 1):
        mine = [one for one in slices if one["tid"] == rank]
        ends = [one["ts"] + one["dur"] for one in mine]
        assert all(end <= b["ts"] for end, b in zip(ends, mine[1:], strict=False))


WRONG = [
    *('"rank": "a"', '"rank": 0.0', '"rank": null', '"rank": -1', '"rank": true'),
    *('"name": 7', '"name": null', '"start": "0"', '"start": null', '"start": NaN'),
    *('"start": 2', '"end": Infinity', '"end": true', f'"end": 1{"0" * 400}'),
    *('"group": 3', '"group": "01"', '"group": [0.5]', '"bytes": "8"', '"bytes": null'),
    *('"peer": "0"', '"stage": "0"', '"stage": 0.5', '"stage": null', '"microbatch": true'),
]


@pytest.mark.parametrize(
    "text",
    [
        "", "{}", "[]", "null", "3", '{"events": []}', '{"events": 3, "pp": 1, "link": 0}',
        '{"pp": 1, "link": 0, "events": [{"rank": 0}]}',
        '{"pp": 1, "link": 0, "events": [{"rank": 0, "name": "F", "start": 0, "end": 1, "x": 2}]}',
        '{"pp": 1, "link": 0, "events": [{"rank": 0, "name": "F", "start": "a", "end": 1}]}',
        '{"pp": 1, "link": 0, "events": [3]}',
        *(f'{{"pp": 1, "link": 0, "events": [{{"rank": 0, "name": "F", "start": 0, "end": 1, '
          f'"stage": 0, "microbatch": 0, {wrong}}}]}}' for wrong in WRONG),
        *(f'{{"pp": {pp}, "link": {link}, "events": []}}' for pp, link in [
            ('"1"', "0"), ("1.5", "0"), ("true", "0"), ("1", '"0"'), ("1", "true"), ("1", "null")
        ]),
        '{"pp": 1, "link": 0, "events": [{"rank": 1, "name": "F", "start": 0, "end": 1}]}',
        '{"traceEvents": []}', '{"traceEvents": [3], "otherData": {"mpviz": {}}}',
        '{"traceEvents": [{"ph": "X", "args": {}}], "otherData": {"mpviz": {"pp": 1, "link": 0}}}',
        '{"traceEvents": [{"ph": "X"}], "otherData": {"mpviz": {"pp": 1, "link": 0}}}',
    ],
)  # fmt: skip
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Timeline.from_json(text)
    with pytest.raises(ValueError):
        Timeline.from_chrome_trace(text)


@pytest.mark.parametrize("wrong", WRONG)
def test_a_trace_with_such_an_event_is_refused(wrong: str) -> None:
    good = '"rank": 0, "name": "F", "start": 0, "end": 1, "stage": 0, "microbatch": 0'

    def trace(event: str) -> str:
        sizes = '"otherData": {"mpviz": {"pp": 1, "link": 0}}'
        return f'{{"traceEvents": [{{"ph": "X", "args": {{{event}}}}}], {sizes}}}'

    assert len(Timeline.from_chrome_trace(trace(good)).work) == 1
    with pytest.raises(ValueError):
        Timeline.from_chrome_trace(trace(f"{good}, {wrong}"))


def test_what_is_wrong_is_said() -> None:
    text = '{"pp": 1, "link": 0, "events": [{"rank": "a", "name": "F", "start": 0, "end": 1}]}'
    message = "not a time line of mpviz: rank must be a whole number, got 'a'"
    with pytest.raises(ValueError, match=message):
        Timeline.from_json(text)
