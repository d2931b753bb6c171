"""Backward beside its buckets: what a rank computes above, what is under way meanwhile below."""

from collections.abc import Iterable, Sequence
from math import inf
from operator import attrgetter

from matplotlib.axes import Axes

from ...timeline import Event
from ..canvas.glyphs import width_of
from ..canvas.limits import check_rows
from ..canvas.page import Panel, aligned, page
from ..canvas.picture import Picture
from ..canvas.scene import Box, Item, Label, shifted
from ..canvas.theme import MAX_WIDTH, RGB, SMALL, edge_of, fill, ink_on
from ..gantt.axis import AXIS_HEIGHT, Axis

_TRACK, _GAP = 18.0, 8.0
_COMPUTES, _SENDS = fill(1), fill(0)


def backward(
    events: Iterable[Event], *, title: str = "Backward and its buckets", ax: Axes | None = None
) -> Picture:
    """Draw what each rank computes, and below it each bucket from when it left until it was there.

    Parameters
    ----------
    events : iterable of Event
        Simulated or recorded. Those with a group are collectives, which may overlap; those without
        are what a rank computes, one after the other.
    title : str
        What it is called.
    ax : matplotlib Axes, optional
        Draw there.

    Notes
    -----
    The text twin has the order in which things began on each rank, and no times, which differ from
    run to run. ``+`` stands before a collective that began before the last computation ended.

    Examples
    --------
    >>> both = (0, 1)
    >>> backward([
    ...     Event(0, "layer 2", 0.0, 1.0), Event(0, "bucket 0", 1.0, 1.8, both),
    ...     Event(0, "layer 1", 1.0, 2.0), Event(0, "bucket 1", 2.0, 2.8, both),
    ... ])
    Backward and its buckets
    rank 0  computes  layer 2 · layer 1
            sends     +bucket 0 · bucket 1
    """
    ordered = sorted(events, key=lambda event: (event.rank, event.start, event.end))
    if not ordered:
        raise ValueError("there is no event to draw; was the run recorded?")
    ranks = list(dict.fromkeys(event.rank for event in ordered))
    check_rows(len(ranks))
    begin = min(event.start for event in ordered)
    seconds = max(1e-9, max(event.end for event in ordered) - begin)
    axis = Axis.beside(seconds, f"rank {max(ranks)} computes", "000 ms")
    items: list[Item] = []
    lines: list[list[str]] = []
    top = 0.0
    for rank in ranks:
        mine = [event for event in ordered if event.rank == rank]
        lane, height = _lane(mine, begin, axis)
        items += shifted(lane, 0, top)
        lines += _said(mine)
        top += height + _GAP
    items += axis.items(top - _GAP / 2)
    notes = ["each bucket lasts from when it left until its rank had waited for it"]
    panel = Panel(items, MAX_WIDTH, top + AXIS_HEIGHT)
    return page(title, [panel], notes, aligned(lines), ax)


def _said(events: Sequence[Event]) -> list[list[str]]:
    """Return what a rank computes and sends, in words."""
    computed = [event for event in events if not event.group]
    end = max((event.end for event in computed), default=-inf)
    sent = [("+" if e.start < end else "") + e.name for e in events if e.group]
    names = [event.name for event in computed]
    return [
        [f"rank {events[0].rank}", "computes", " · ".join(names)],
        ["", "sends", " · ".join(sent)],
    ]


def _lane(events: Sequence[Event], begin: float, axis: Axis) -> tuple[list[Item], float]:
    """Return the boxes of one rank, and their height."""
    name = f"rank {events[0].rank} "
    items: list[Item] = [Label(0, _TRACK / 2 - 1, f"{name}computes", SMALL)]
    for event in events:
        if not event.group:
            items += _box(event, begin, axis, 0, _COMPUTES)
    ends: list[float] = []  # of each track; collectives that overlap in time have one each
    for event in filter(attrgetter("group"), events):
        track = next((n for n, end in enumerate(ends) if end <= event.start), len(ends))
        ends[track : track + 1] = [event.end]
        items += _box(event, begin, axis, (1 + track) * _TRACK, _SENDS)
    if ends:
        items.append(Label(width_of(name, SMALL), 1.5 * _TRACK - 1, "sends", SMALL))
    return items, (1 + len(ends)) * _TRACK


def _box(event: Event, begin: float, axis: Axis, y: float, face: RGB) -> list[Item]:
    x, right = axis.x(event.start - begin), axis.x(event.end - begin)
    box = Box(x, y, max(1.5, right - x), _TRACK - 2, face, edge_of(face), 0.8)
    if width_of(event.name, SMALL) + 6 > box.width:
        return [box]
    middle = (x + box.width / 2, y + _TRACK / 2 - 1)
    return [box, Label(*middle, event.name, SMALL, ink_on(face), "center")]
