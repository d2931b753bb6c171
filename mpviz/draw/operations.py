"""When each rank of a recorded run did what: a lane for each, a box for each operation."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from ..timeline import Event
from .compose import aligned, page
from .glyphs import width_of
from .picture import Picture
from .scene import Box, Item, Label
from .theme import INK, MAX_WIDTH, QUIET, SMALL, edge, fill, ink_on

_TRACK, _LANE_GAP = 16.0, 6.0


def operations(events: Sequence[Event], title: str | None, ax: Axes | None) -> Picture:
    """Draw operations of any name; their text gives each rank's order and no times."""
    ordered = sorted(events, key=lambda event: (event.rank, event.start))
    lane_of = {rank: lane for lane, rank in enumerate(dict.fromkeys(e.rank for e in ordered))}
    heading = title or f"{len(ordered)} operations on {len(lane_of)} ranks"
    lines = [
        [f"rank {rank}", " · ".join(_said(e) for e in ordered if e.rank == rank)]
        for rank in lane_of
    ]
    note = "time runs to the right; each box lasts until the operation was done"
    return page(heading, [_lanes(ordered, lane_of)], [note], aligned(lines), ax)


def _lanes(events: Sequence[Event], lane_of: dict[int, int]) -> tuple[list[Item], float, float]:
    begin, end = min(e.start for e in events), max(e.end for e in events)
    head, width = 52.0, MAX_WIDTH - 60.0
    scale = width / max(end - begin, 1e-9)
    colors = {name: number for number, name in enumerate(dict.fromkeys(e.name for e in events))}
    tracks, most = _tracks(events)
    lane_height = most * _TRACK + _LANE_GAP
    bottom = len(lane_of) * lane_height
    items: list[Item] = [
        Label(0, lane * lane_height + most * _TRACK / 2, f"rank {rank}", SMALL, INK)
        for rank, lane in lane_of.items()
    ]
    for event, track in zip(events, tracks, strict=True):
        x = head + (event.start - begin) * scale
        y = lane_of[event.rank] * lane_height + track * _TRACK
        box_width, number = max(1.5, event.duration * scale), colors[event.name]
        items.append(Box(x, y, box_width, _TRACK - 2, fill(number), edge(number), 0.8))
        if width_of(event.name, SMALL) + 6 <= box_width:
            middle = (x + box_width / 2, y + _TRACK / 2 - 1)
            items.append(Label(*middle, event.name, SMALL, ink_on(fill(number)), "center"))
    for tick in range(5):
        x = head + tick * width / 4
        align = "left" if tick == 0 else "right" if tick == 4 else "center"
        time = f"{1000 * (end - begin) * tick / 4:.3g} ms"
        items.append(Label(x, bottom + 7, time, SMALL, QUIET, align))
    return [*items, *_key(colors, bottom + 26)], head + width + 2, bottom + 34


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


def _key(colors: dict[str, int], y: float) -> list[Item]:
    items: list[Item] = []
    x = 52.0
    for name, number in colors.items():
        items.append(Box(x, y - 5, 10, 10, fill(number), edge(number)))
        items.append(Label(x + 15, y, name, SMALL))
        x += 15 + width_of(name, SMALL) + 16
    return items


def _said(event: Event) -> str:
    if event.peer is None:
        return event.name
    arrow = "→" if event.name in ("send", "isend") else "←"
    return f"{event.name} {arrow} {event.peer}"
