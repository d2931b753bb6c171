"""What shows that cells are one group: a frame around neighbours, links between the others."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from ...rankgrid import Ranks
from ..canvas.scene import Box, Curve, Item
from ..canvas.theme import CROSSING, QUIET
from .board import EMPTY, Board
from .grouping import Grouping

HEADROOM = 30.0
"""Free space above and below a node that its links need."""

_WIDER = 1.5
"""How far a frame stands out from its cells, on each side."""


def frames(board: Board, grouping: Grouping) -> list[Item]:
    """Return a frame around the members of each group that stand side by side."""
    items: list[Item] = []
    for block, ranks in enumerate(board.blocks):
        index = np.where(ranks == EMPTY, -1, grouping.index[ranks])
        for number, rows, columns in _rectangles(index):
            crossing = bool(grouping.crosses[number])
            alone = rows.stop - rows.start == columns.stop - columns.start == 1
            if alone and not (crossing or grouping.few):
                continue  # around a single cell it would only say that there is a group
            border, line = (CROSSING, 1.8) if crossing else (QUIET, 1.0)
            frame = board.around(block, rows, columns, wider=_WIDER)
            items.append(Box(*frame, grouping.tone(number), border, line, crossing))
    return items


def _rectangles(index: Ranks) -> Iterator[tuple[int, slice, slice]]:
    """Cut a block into rectangles of one group each: runs along a row, then equal rows below.

    >>> list(_rectangles(np.array([[0, 0, 1], [0, 0, -1]])))
    [(1, slice(0, 1, None), slice(2, 3, None)), (0, slice(0, 2, None), slice(0, 2, None))]
    """
    open_runs: dict[tuple[int, int, int], int] = {}
    for row in range(len(index) + 1):
        runs = _runs(index[row].tolist()) if row < len(index) else []
        for run in [run for run in open_runs if run not in runs]:
            number, start, stop = run
            yield number, slice(open_runs.pop(run), row), slice(start, stop)
        for run in runs:
            open_runs.setdefault(run, row)


def _runs(numbers: Sequence[int]) -> list[tuple[int, int, int]]:
    """Return each run of one number that is none of -1: number, start, stop."""
    ends = [n for n in range(1, len(numbers)) if numbers[n] != numbers[n - 1]]
    bounds = pairwise([0, *ends, len(numbers)])
    return [(numbers[start], start, stop) for start, stop in bounds if numbers[start] >= 0]


def links(board: Board, grouping: Grouping) -> list[Item]:
    """Return curves from member to member: arcs inside a node, dashed lines between nodes.

    Arcs rise above even nodes and hang below odd ones: the space between two nodes is left to
    what crosses it.
    """
    items: list[Item] = []
    for number in np.unique(grouping.index[grouping.index >= 0]).tolist():
        items += [_link(board, grouping, *pair) for pair in pairwise(grouping.groups[number])]
    return items


def _link(board: Board, grouping: Grouping, one: int, other: int) -> Curve:
    """Return a curve between two members that leaves and arrives vertically."""
    (x0, y0, width, height), (x1, y1, _, _) = board.frames[one], board.frames[other]
    x0, x1 = x0 + width / 2, x1 + width / 2
    if y0 == y1:
        side = -1 if one // grouping.layout.gpus_per_node % 2 == 0 else 1
        start = (y0 if side < 0 else y0 + height) + side * _WIDER
        bend = start + side * min(8 + 6 * abs(x1 - x0) / board.cell[0], 1.25 * HEADROOM)
        return Curve(((x0, start), (x0, bend), (x1, bend), (x1, start)), QUIET, 1.4)
    top, bottom = y0 + height + _WIDER, y1 - _WIDER
    bend = (bottom - top) * 0.45
    points = ((x0, top), (x0, top + bend), (x1, bottom - bend), (x1, bottom))
    return Curve(points, CROSSING, 1.8, dashed=True)
