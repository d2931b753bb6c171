"""Time lines as text: JSON, and the trace format of Chrome and Perfetto; both can be read back."""

import json
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from .event import Event

_DEFAULTS = {field.name: field.default for field in fields(Event)}
_MICRO = 1e6


def to_json(events: Iterable[Event], **sizes: float) -> str:
    """Write events, and what else belongs to their time line."""
    return json.dumps({**sizes, "events": [_said(event) for event in events]})


def from_json(text: str) -> dict[str, Any]:
    """Return what was given to `to_json`."""
    return _timeline(json.loads(text), "a time line of mpviz")


def to_chrome_trace(events: Iterable[Event], **sizes: float) -> str:
    """Write events as complete events ("ph": "X"), a thread for each rank.

    Times are in microseconds there; the exact seconds stand in ``args``. Source: "Trace Event
    Format", Google.
    """
    events = list(events)
    ranks = sorted({event.rank for event in events})
    names = [
        {"ph": "M", "name": "thread_name", "pid": 0, "tid": rank, "args": {"name": f"rank {rank}"}}
        for rank in ranks
    ]
    slices = [
        {
            "ph": "X",
            "name": _title(event),
            "cat": event.name,
            "pid": 0,
            "tid": event.rank,
            "ts": event.start * _MICRO,
            "dur": event.duration * _MICRO,
            "args": _said(event),
        }
        for event in events
    ]
    return json.dumps({"traceEvents": names + slices, "otherData": {"mpviz": sizes}})


def from_chrome_trace(text: str) -> dict[str, Any]:
    """Return what was given to `to_chrome_trace`."""
    what = "a trace written by mpviz"
    trace = json.loads(text)
    try:
        events = [one["args"] for one in trace["traceEvents"] if one["ph"] == "X"]
        written = {**trace["otherData"]["mpviz"], "events": events}
    except (KeyError, TypeError):
        raise ValueError(f"this is not {what}") from None
    return _timeline(written, what)


def _said(event: Event) -> dict[str, Any]:
    return {name: value for name, value in vars(event).items() if value != _DEFAULTS[name]}


def _title(event: Event) -> str:
    if event.stage is None or event.microbatch is None:
        return event.name
    return f"{event.stage}{event.name}{event.microbatch}" if len(event.name) == 1 else event.name


def _timeline(written: Any, what: str) -> dict[str, Any]:
    try:
        events = tuple(_event(**one) for one in written["events"])
        return {"pp": int(written["pp"]), "link": float(written["link"]), "events": events}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"this is not {what}: {error}") from None


def _event(*, group: Iterable[int] = (), start: float, end: float, **others: Any) -> Event:
    return Event(group=tuple(map(int, group)), start=float(start), end=float(end), **others)
