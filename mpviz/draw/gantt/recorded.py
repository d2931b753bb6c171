"""When each rank of a recorded run did what: a lane for each, a box for each operation."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from ...timeline import Event
from ..canvas.glyphs import width_of
from ..canvas.legend import swatches
from ..canvas.limits import check_rows
from ..canvas.page import Panel, aligned, page
from ..canvas.picture import Picture
from ..canvas.scene import Box, Item, Label
from ..canvas.theme import FRAME, INK, MAX_WIDTH, RGB, SMALL, SWATCHES, edge_of, fill, ink_on
from .axis import AXIS_HEIGHT, Axis

_TRACK, _LANE_GAP = 16.0, 6.0
_NARROWEST = 1.5


def operations(events: Sequence[Event], title: str | None, ax: Axes | None) -> Picture:
    """Draw operations of any name; their text gives each rank's order and no times."""
    ordered = sorted(events, key=lambda event: (event.rank, event.start))
    lane_of = {rank: lane for lane, rank in enumerate(dict.fromkeys(e.rank for e in ordered))}
    check_rows(len(lane_of))
    heading = title or f"{len(ordered)} operations on {len(lane_of)} ranks"
    lines = [
        [f"rank {rank}", " · ".join(_said(e) for e in ordered if e.rank == rank)]
        for rank in lane_of
    ]
    begin, note = _beginning(ordered)
    faces = _faces(ordered)
    parts = [_lanes(ordered, lane_of, begin, faces), swatches({f: n for n, f in faces.items()})]
    notes = [note] if note else []
    notes.append("time runs to the right; each box lasts until its operation was done")
    return page(heading, parts, notes, aligned(lines), ax)


def _beginning(events: Sequence[Event]) -> tuple[float, str]:
    """Return when the picture begins: with the first event, or where a first barrier ends.

    Until then ranks only waited for the last one: how long says how they were started, and
    nothing of the program.
    """
    first = {event.rank: event for event in reversed(events)}.values()
    waits = {(event.name, event.group) for event in first}
    if len(waits) == 1 and next(iter(waits))[0] == "barrier":
        return min(event.end for event in first), "time 0: the first rank leaves the barrier"
    return min(event.start for event in events), ""


def _faces(events: Sequence[Event]) -> dict[str, RGB]:
    """Return the colour of each operation; a barrier, which moves nothing, has none."""
    names = dict.fromkeys(event.name for event in events)
    moving = [name for name in names if name != "barrier"]
    colors = {name: fill(number % SWATCHES) for number, name in enumerate(moving)}
    return {name: colors.get(name, FRAME) for name in names}


def _lanes(
    events: Sequence[Event], lane_of: dict[int, int], begin: float, faces: dict[str, RGB]
) -> Panel:
    """Return a lane for each rank, a box for each operation, and the axis of time."""
    seconds = max(1e-9, max(event.end for event in events) - begin)
    axis = Axis.beside(seconds, max((f"rank {rank}" for rank in lane_of), key=len), "000 ms")
    tracks, most = _tracks(events)
    lane_height = most * _TRACK + _LANE_GAP
    bottom = len(lane_of) * lane_height
    items: list[Item] = [
        Label(0, lane * lane_height + most * _TRACK / 2, f"rank {rank}", SMALL, INK)
        for rank, lane in lane_of.items()
    ]
    for event, track in zip(events, tracks, strict=True):
        x, right = axis.x(max(event.start - begin, 0.0)), axis.x(max(event.end - begin, 0.0))
        y = lane_of[event.rank] * lane_height + track * _TRACK
        width, face = max(_NARROWEST, right - x), faces[event.name]
        items.append(Box(x, y, width, _TRACK - 2, face, edge_of(face), 0.8))
        if width_of(event.name, SMALL) + 6 <= width:
            middle = (x + width / 2, y + _TRACK / 2 - 1)
            items.append(Label(*middle, event.name, SMALL, ink_on(face), "center"))
    return Panel([*items, *axis.items(bottom)], MAX_WIDTH, bottom + AXIS_HEIGHT)


def _tracks(events: Sequence[Event]) -> tuple[list[int], int]:
    """Give operations of one rank that overlap in time a track each; return how many it takes."""
    busy_until: dict[int, list[float]] = {}
    tracks = []
    for event in events:
        ends = busy_until.setdefault(event.rank, [])
        track = next((n for n, end in enumerate(ends) if end <= event.start), len(ends))
        ends[track : track + 1] = [event.end]
        tracks.append(track)
    return tracks, max(map(len, busy_until.values()))


def _said(event: Event) -> str:
    if event.peer is None:
        return event.name
    arrow = "→" if event.name in ("send", "isend") else "←"
    return f"{event.name} {arrow} {event.peer}"
