"""When each rank of a recorded run did what: a row for each, a box for each operation."""

from collections.abc import Sequence
from operator import attrgetter

from matplotlib.axes import Axes

from ...timeline import Event
from ..canvas.glyphs import width_of
from ..canvas.legend import swatches
from ..canvas.limits import check_rows
from ..canvas.page import Panel, aligned, page
from ..canvas.picture import Picture
from ..canvas.scene import Box, Item, Label
from ..canvas.theme import FRAME, MAX_WIDTH, RGB, SMALL, SWATCHES, edge_of, fill, ink_on
from .axis import AXIS_HEIGHT, Axis

_TRACK, _ROW_GAP = 16.0, 6.0
_NARROWEST = 1.5


def operations(events: Sequence[Event], title: str | None, ax: Axes | None) -> Picture:
    """Draw operations of any name; their text gives each rank's order and no times."""
    events = sorted(events, key=attrgetter("rank", "start"))
    by_rank: dict[int, list[Event]] = {}
    for event in events:
        by_rank.setdefault(event.rank, []).append(event)
    check_rows(len(by_rank))
    begin, note = _beginning([mine[0] for mine in by_rank.values()])
    faces = _faces(events)
    heading = title or f"{len(events)} operations on {len(by_rank)} ranks"
    panels = [_rows(by_rank, begin, faces), swatches({f: n for n, f in faces.items()})]
    notes = [*note, "time runs to the right; each box lasts until its operation was done"]
    lines = [[f"rank {r}", " · ".join(map(_named, mine))] for r, mine in by_rank.items()]
    return page(heading, panels, notes, aligned(lines), ax)


def _beginning(first: Sequence[Event]) -> tuple[float, list[str]]:
    """Return when the picture begins: with the first event, or where a first barrier ends.

    Until then ranks only waited for the last one: how long says how they were started, and
    nothing of the program.
    """
    if {event.name for event in first} == {"barrier"} and len({e.group for e in first}) == 1:
        return min(event.end for event in first), ["time 0: the first rank leaves the barrier"]
    return min(event.start for event in first), []


def _faces(events: Sequence[Event]) -> dict[str, RGB]:
    """Return the colour of each operation; a barrier, which moves nothing, has none."""
    names = dict.fromkeys(event.name for event in events)
    moving = [name for name in names if name != "barrier"]
    colors = {name: fill(number % SWATCHES) for number, name in enumerate(moving)}
    return {name: colors.get(name, FRAME) for name in names}


def _rows(by_rank: dict[int, list[Event]], begin: float, faces: dict[str, RGB]) -> Panel:
    """Return a row for each rank, a box for each operation, and the axis of time."""
    end = max(event.end for mine in by_rank.values() for event in mine)
    longest = max((f"rank {rank}" for rank in by_rank), key=len)
    axis = Axis.beside(max(1e-9, end - begin), longest, "000 ms")
    tracks = {rank: _tracks(mine) for rank, mine in by_rank.items()}
    height = _TRACK * (1 + max(map(max, tracks.values())))
    items: list[Item] = []
    top = 0.0
    for rank, mine in by_rank.items():
        items.append(Label(0, top + height / 2, f"rank {rank}", SMALL))
        for event, track in zip(mine, tracks[rank], strict=True):
            items += _box(event, axis, begin, top + track * _TRACK, faces[event.name])
        top += height + _ROW_GAP
    return Panel([*items, *axis.items(top)], MAX_WIDTH, top + AXIS_HEIGHT)


def _box(event: Event, axis: Axis, begin: float, y: float, face: RGB) -> list[Item]:
    """Return the box of an operation, with its name where there is room."""
    x, right = (axis.x(max(time - begin, 0.0)) for time in (event.start, event.end))
    width = max(_NARROWEST, right - x)
    items: list[Item] = [Box(x, y, width, _TRACK - 2, face, edge_of(face), 0.8)]
    if width_of(event.name, SMALL) + 6 <= width:
        middle = (x + width / 2, y + _TRACK / 2 - 1)
        items.append(Label(*middle, event.name, SMALL, ink_on(face), "center"))
    return items


def _tracks(events: Sequence[Event]) -> list[int]:
    """Give operations of one rank that overlap in time a track each, as few as that takes."""
    busy_until: list[float] = []
    tracks = []
    for event in events:
        free = (n for n, end in enumerate(busy_until) if end <= event.start)
        track = next(free, len(busy_until))
        busy_until[track : track + 1] = [event.end]
        tracks.append(track)
    return tracks


def _named(event: Event) -> str:
    if event.peer is None:
        return event.name
    arrow = "→" if event.name in ("send", "isend") else "←"
    return f"{event.name} {arrow} {event.peer}"
