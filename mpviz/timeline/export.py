"""Time lines as text: JSON, and the trace format of Chrome and Perfetto; both can be read back."""

import json
from collections.abc import Iterable
from dataclasses import fields, replace
from typing import Any

from .event import Event

_DEFAULTS = {field.name: field.default for field in fields(Event)}
_KINDS = {
    **dict.fromkeys(("rank", "bytes", "peer", "stage", "microbatch"), int),
    **dict.fromkeys(("start", "end"), float),
    "name": str,
}
_WORDS = {int: "a whole number", float: "a number of seconds", str: "a word"}
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
        _check("pp", written["pp"], int)
        _check("link", written["link"], float)
        return {"pp": written["pp"], "link": float(written["link"]), "events": events}
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ValueError(f"this is not {what}: {error}") from None


def _event(*, group: Iterable[int] = (), **others: Any) -> Event:
    event = Event(group=tuple(group), **others)
    for name, kind in _KINDS.items():
        value = getattr(event, name)
        if value is not None or _DEFAULTS[name] is not None:
            _check(name, value, kind)
    for rank in event.group:
        _check("a rank of group", rank, int)
    return replace(event, start=float(event.start), end=float(event.end))


def _check(name: str, value: object, kind: type) -> None:
    # JSON writes 1.0 as 1 where it wants to; True is no number.
    fits = isinstance(value, int | float if kind is float else kind)
    if not fits or isinstance(value, bool):
        raise TypeError(f"{name} must be {_WORDS[kind]}, got {value!r}")
