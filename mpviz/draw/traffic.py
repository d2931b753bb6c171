"""What a run did: who sent how much to whom, and when each rank did what."""

from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from ..timeline import Event, sent_bytes
from .compose import aligned, page
from .glyphs import width_of
from .picture import Picture
from .scene import Box, Item, Label
from .theme import (
    FAINT_EDGE,
    INK,
    MAX_WIDTH,
    PALETTE,
    PAPER,
    QUIET,
    SMALL,
    edge,
    fill,
    ink_on,
    mixed,
)

_MOST_RANKS = 64
_ROW = 20.0
_TRACK, _LANE_GAP = 16.0, 6.0
_UNITS = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("B", 1.0))


def traffic(events: Iterable[Event], world_size: int, *, ax: Axes | None = None) -> Picture:
    r"""Draw who sent how much to whom: a row for each sender, a column for each receiver.

    Only messages count; what a collective sends inside is up to its algorithm.

    Parameters
    ----------
    events : iterable of Event
        Of a recorded run.
    world_size : int
        Number of ranks, at most 64.
    ax : matplotlib Axes, optional
        Draw there.

    Examples
    --------
    >>> traffic([Event(0, "send", 0.0, 1.0, (0, 1), bytes=8, peer=1)], world_size=2)
    8 B sent in messages
    from \ to  0  1
    0          ·  8
    1          ·  ·
    row: sender · column: receiver · in B
    """
    if not 1 <= world_size <= _MOST_RANKS:
        raise ValueError(f"a table of {world_size} ranks cannot be read; at most {_MOST_RANKS}")
    matrix = sent_bytes(events, world_size)
    unit, scale = _unit(int(matrix.max()))
    words = [[f"{value / scale:g}" if value else "·" for value in row] for row in matrix.tolist()]
    note = f"row: sender · column: receiver · in {unit}"
    title = f"{_amount(int(matrix.sum()))} sent in messages"
    lines = [["from \\ to", *map(str, range(world_size))]]
    lines += [[str(rank), *row] for rank, row in enumerate(words)]
    text = "\n".join([aligned(lines), note])
    return page(title, [_matrix(matrix, words)], [note], text, ax)


def _matrix(
    matrix: NDArray[np.int64], words: Sequence[Sequence[str]]
) -> tuple[list[Item], float, float]:
    world_size, most = len(matrix), max(1, int(matrix.max()))
    longest = max(width_of(word, SMALL) for row in words for word in row)
    width = max(24.0, longest + 6, width_of(str(world_size - 1), SMALL) + 6)
    items: list[Item] = []
    for rank in range(world_size):
        items.append(Label(30 + (rank + 0.5) * width, 6, str(rank), SMALL, QUIET, "center"))
        items.append(Label(20, 16 + (rank + 0.5) * _ROW, str(rank), SMALL, QUIET, "right"))
    for (sender, receiver), value in np.ndenumerate(matrix):
        x, y = 30 + receiver * width, 16 + sender * _ROW
        face = mixed(PAPER, PALETTE[1], 0.15 + 0.85 * value / most) if value else PAPER
        items.append(Box(x, y, width - 2, _ROW - 2, face, FAINT_EDGE, 0.8))
        if value:
            middle = (x + width / 2 - 1, y + _ROW / 2 - 1)
            word = words[sender][receiver]
            items.append(Label(*middle, word, SMALL, ink_on(face), "center"))
    return items, 30 + world_size * width, 16 + world_size * _ROW


def timeline(
    events: Iterable[Event], *, title: str | None = None, ax: Axes | None = None
) -> Picture:
    """Draw when each rank did what: a lane for each rank, a box for each operation.

    The text twin gives the order of operations in each rank and no times, which differ from run
    to run.

    Parameters
    ----------
    events : iterable of Event
        Measured or simulated.
    title : str, optional
        By default the number of operations.
    ax : matplotlib Axes, optional
        Draw there.

    Examples
    --------
    >>> sent = Event(0, "send", 0.0, 1.0, (0, 1), 8, peer=1)
    >>> timeline([sent, Event(1, "recv", 0.0, 1.0, (0, 1), 8, peer=0)])
    2 operations on 2 ranks
    rank 0  send → 1
    rank 1  recv ← 0
    """
    ordered = sorted(events, key=lambda event: (event.rank, event.start))
    if not ordered:
        raise ValueError("there is no event to draw; was the run recorded?")
    lanes = {rank: lane for lane, rank in enumerate(dict.fromkeys(e.rank for e in ordered))}
    heading = title or f"{len(ordered)} operations on {len(lanes)} ranks"
    lines = [
        [f"rank {rank}", " · ".join(_said(e) for e in ordered if e.rank == rank)] for rank in lanes
    ]
    note = "time runs to the right; each box lasts until the operation was done"
    return page(heading, [_lanes(ordered, lanes)], [note], aligned(lines), ax)


def _lanes(events: Sequence[Event], lanes: dict[int, int]) -> tuple[list[Item], float, float]:
    begin, end = min(e.start for e in events), max(e.end for e in events)
    head, width = 52.0, MAX_WIDTH - 60.0
    scale = width / max(end - begin, 1e-9)
    colors = {name: number for number, name in enumerate(dict.fromkeys(e.name for e in events))}
    tracks, most = _tracks(events)
    lane_height = most * _TRACK + _LANE_GAP
    bottom = len(lanes) * lane_height
    items: list[Item] = [
        Label(0, lane * lane_height + most * _TRACK / 2, f"rank {rank}", SMALL, INK)
        for rank, lane in lanes.items()
    ]
    for event, track in zip(events, tracks, strict=True):
        x = head + (event.start - begin) * scale
        y = lanes[event.rank] * lane_height + track * _TRACK
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


def _unit(most: int) -> tuple[str, float]:
    return next(((unit, scale) for unit, scale in _UNITS if most >= 10 * scale), ("B", 1.0))


def _amount(count: int) -> str:
    unit, scale = _unit(count)
    return f"{count / scale:g} {unit}"
