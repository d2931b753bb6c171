"""A recorded step: a lane for each rank, a colour for each kind of group it communicates in."""

from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes

from ...layout import ParallelLayout
from ...names import GROUP_KINDS
from ...timeline import Event, RecordedStep
from ...timeline.recorded_step import OTHER, WORLD
from ..canvas.glyphs import width_of
from ..canvas.legend import swatches
from ..canvas.limits import check_rows
from ..canvas.page import Panel, aligned, elided, page
from ..canvas.picture import Picture
from ..canvas.scene import Item, Label, Raster, shifted, stroke
from ..canvas.theme import (
    FRAME,
    INK,
    MAX_WIDTH,
    NORMAL,
    PAPER,
    PIXELS_PER_POINT,
    SMALL,
    fill,
    to_bytes,
)
from ..grids.arrange import grid_board
from ..grids.board import TIGHT
from ..grids.cells import FADED, CellStyle, cells
from .action_table import with_unit
from .axis import AXIS_HEIGHT, Axis, RankRows, whole_pixels

_TALLEST, _HEIGHT = 18.0, 330.0
_GAP, _FLAG = 24.0, 16.0
_BESIDE = 260.0
"""The widest grid that stands beside the lanes; a wider one stands below them."""

_THINNEST = 3
"""Pixels of a call; a message is such a mark."""

_MOST_LINES = 16
_USUAL = ("tp", "pp", "dp", "cp", "tp-pp", "embedding", "dp-cp")
_KINDS = tuple(dict.fromkeys((*_USUAL, *GROUP_KINDS, WORLD, OTHER)))
_COLORS = tuple(fill(number) for number in range(len(_KINDS)))
_SHORT = {"embedding": "emb", "position_embedding": "pos"}
_IDLE = "computes, or waits for a message"
_NOTE = "a message is a mark: where it is handed over, and where the wait for it is over"


def step(
    events: Iterable[Event],
    layout: ParallelLayout,
    *,
    at: float | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Picture:
    """Draw a recorded step: a lane for each rank, a colour for each kind of group.

    A collective lasts from its call until it is done, so until the slowest member has come. A
    pending message is a mark: at the sender where it is handed over, at the receiver where it has
    waited for it.

    The text twin has no times, which differ from run to run: it says how often a rank calls a
    collective or sends, and how many bytes it puts in.

    Parameters
    ----------
    events : iterable of Event
        ``world.events`` of a cell under ``%%ranks --record``.
    layout : ParallelLayout
        Tells the kind of each group, by its members (see `RecordedStep`).
    at : float, optional
        Seconds since the first call: mark this moment, and show on the slide's grid in which kind
        of group each rank is then.
    title : str, optional
        What it is called.
    ax : matplotlib Axes, optional
        Draw there.

    Raises
    ------
    ValueError
        When there is nothing to draw, or ``at`` is not within the step.

    Examples
    --------
    >>> both = {"group": (0, 1), "bytes": 64}
    >>> step(
    ...     [Event(0, "all_reduce", 0.0, 2.0, **both), Event(1, "all_reduce", 1.0, 2.0, **both)],
    ...     ParallelLayout(nodes=1, gpus_per_node=4, tp=2, pp=2),
    ... )
    One step on 4 ranks
               tp
    ranks 0–1  64 B in 1
    ranks 2–3  –
    """
    return recorded_step(RecordedStep(tuple(events), layout), at=at, title=title, ax=ax)


def recorded_step(
    recorded: RecordedStep,
    *,
    at: float | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Picture:
    """Draw what `step` draws, of a step whose calls are known."""
    ranks = recorded.layout.world_size
    check_rows(ranks)
    if at is not None and not 0 <= at <= recorded.seconds:
        raise ValueError(f"at must be 0 … {recorded.seconds:g} s, got {at!r}")
    heading = title or f"One step on {ranks:,} rank{'s' * (ranks != 1)}"
    width, panels, beside = MAX_WIDTH, [], False
    if at is not None:
        grid = _grid(recorded, at)
        beside = grid.width <= _BESIDE
        width, panels = MAX_WIDTH - beside * (grid.width + _GAP), [grid]
    panels = [_lanes(recorded, at, width), *panels]
    return page(heading, panels, [_NOTE], _text(recorded), ax, beside=beside)


def _lanes(recorded: RecordedStep, at: float | None, width: float) -> Panel:
    """Return a lane for each rank, the axis of time, a moment marked, and the legend."""
    count = recorded.layout.world_size
    rows = RankRows(count, whole_pixels(min(_TALLEST, _HEIGHT / count)), fine=True)
    axis = Axis.beside(max(1e-9, recorded.seconds), f"rank {count - 1}", "000 ms", width)
    height = count * rows.pitch
    items = rows.labels(0, [f"rank {rank}" for rank in range(count)])
    items += [_raster(recorded, axis, rows), *axis.items(height)]
    if at is not None:
        items = shifted([*items, *_moment(axis, at, height)], 0, _FLAG)
        height += _FLAG
    colors = {_COLORS[_KINDS.index(kind)]: kind for kind in recorded.kinds} | {FRAME: _IDLE}
    legend = swatches(colors, width)
    height += AXIS_HEIGHT + _GAP / 2
    return Panel([*items, *shifted(legend.items, 0, height)], width, height + legend.height)


def _raster(recorded: RecordedStep, axis: Axis, rows: RankRows) -> Raster:
    """Return the lanes as pixels: a short call over a long one, messages over all."""
    width, height = axis.width, rows.count * rows.pitch
    lines, columns = round(rows.pitch * PIXELS_PER_POINT), round(width * PIXELS_PER_POINT)
    gap = round(rows.gap * PIXELS_PER_POINT)
    image = np.full((rows.count, lines, columns), 1, np.uint8)
    image[:, lines - gap :] = 0
    for call in sorted(recorded.calls, key=lambda call: call.start - call.end):
        first, last = (round(axis.scale * t * PIXELS_PER_POINT) for t in (call.start, call.end))
        first = min(first, columns - _THINNEST)
        last = max(last, first + _THINNEST)
        image[call.rank, : lines - gap, first:last] = 2 + _KINDS.index(call.kind)
    colors = tuple(map(to_bytes, (PAPER, FRAME, *_COLORS)))
    return Raster(axis.left, 0, width, height, image.reshape(-1, columns), colors)


def _moment(axis: Axis, at: float, height: float) -> list[Item]:
    """Return a line through all lanes at a time, with its words."""
    words = f"at {with_unit(at)}"
    half = width_of(words, SMALL, bold=True) / 2
    middle = min(max(axis.x(at), axis.left + half), axis.right - half)
    flag = Label(middle, 4 - _FLAG, words, SMALL, INK, "center", bold=True)
    return [flag, stroke(axis.x(at), -4, axis.x(at), height, INK, 1.4)]


def _grid(recorded: RecordedStep, at: float) -> Panel:
    """Return the slide's grid, each cell with the kind of group in which its rank is."""
    doing = recorded.at(at)
    color = [FADED if kind is None else _KINDS.index(kind) for kind in doing]
    style = CellStyle(
        np.array(color, np.uint8),
        lambda rank: _SHORT.get(doing[rank] or "", doing[rank] or ""),
        size=NORMAL,
        colors=_COLORS,
    )
    beside = grid_board(recorded.layout, max_width=_BESIDE, cells=(TIGHT,))
    board = grid_board(recorded.layout, cells=(TIGHT,)) if beside.fine else beside
    return cells(board, style)


def _text(recorded: RecordedStep) -> str:
    """Return how often each rank calls along each kind, and how many bytes it puts in.

    Neighbours that do the same share a line.
    """
    lines: list[tuple[list[int], list[str]]] = []
    for rank, counts in recorded.counts.items():
        sizes = recorded.bytes[rank]
        said = [f"{sizes[kind]:,} B in {n}" if n else "–" for kind, n in counts.items()]
        if not lines or lines[-1][1] != said:
            lines.append(([], said))
        lines[-1][0].append(rank)
    rows = [[_span(ranks), *said] for ranks, said in lines]
    shown = [["⋮"] if n is None else rows[n] for n in elided(len(rows), _MOST_LINES)]
    return aligned([["", *recorded.kinds], *shown])


def _span(ranks: Sequence[int]) -> str:
    """Return ranks that follow one another.

    >>> _span([4]), _span([4, 5, 6])
    ('rank 4', 'ranks 4–6')
    """
    return f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {ranks[0]}–{ranks[-1]}"
