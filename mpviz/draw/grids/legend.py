"""What stands around the cells of a group: frames, links, and beside them the list of groups."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from ...rankgrid import Ranks
from ..canvas.glyphs import width_of
from ..canvas.page import Panel, chip_of
from ..canvas.scene import Box, Curve, Item, Label
from ..canvas.theme import CROSSING, MAX_WIDTH, QUIET, SMALL, edge, fill
from .board import EMPTY, Board
from .grouping import Grouping, name_of

HEADROOM = 30.0
"""Free space above and below a node that its links need."""

_LINE = 15.0
_WIDER = 1.5
"""How far a frame stands out from its cells, on each side."""


def frames(board: Board, grouping: Grouping) -> list[Item]:
    """Return a frame around the members of each group that stand side by side."""
    items: list[Item] = []
    for block, ranks in enumerate(board.blocks):
        index = np.where(ranks == EMPTY, -1, grouping.index[ranks])
        for number, rows, columns in _rectangles(index):
            x, y, width, height = board.around(block, rows, columns)
            place = (x - _WIDER, y - _WIDER, width + 2 * _WIDER, height + 2 * _WIDER)
            crossing, alone = bool(grouping.crosses[number]), width < board.cell[0]
            if alone and height < board.cell[1] and not (crossing or grouping.few):
                continue  # around a single cell it would only say that there is a group
            border, line = (CROSSING, 1.8) if crossing else (QUIET, 1.0)
            items.append(Box(*place, grouping.tone(number), border, line, crossing))
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
    (_, _, width, height) = board.frames[0]
    links: list[Item] = []
    for number in np.unique(grouping.index[grouping.index >= 0]).tolist():
        members = grouping.groups[number]
        for one, other in pairwise(members):
            (x0, y0), (x1, y1) = board.frames[one][:2], board.frames[other][:2]
            x0, x1 = x0 + width / 2, x1 + width / 2
            if y0 == y1:
                side = -1 if one // grouping.layout.gpus_per_node % 2 == 0 else 1
                start = (y0 if side < 0 else y0 + height) + side * _WIDER
                bend = start + side * min(8 + 6 * abs(x1 - x0) / board.cell[0], 1.25 * HEADROOM)
                links.append(_curve(x0, start, bend, x1, start, bend, crossing=False))
            else:
                top, bottom = y0 + height + _WIDER, y1 - _WIDER
                bend = (bottom - top) * 0.45
                links.append(_curve(x0, top, top + bend, x1, bottom, bottom - bend, crossing=True))
    return links


def _curve(
    x0: float, y0: float, bend0: float, x1: float, y1: float, bend1: float, *, crossing: bool
) -> Curve:
    """Return a link that leaves and arrives vertically."""
    points = ((x0, y0), (x0, bend0), (x1, bend1), (x1, y1))
    color, line = (CROSSING, 1.8) if crossing else (QUIET, 1.4)
    return Curve(points, color, line, dashed=crossing)


def legend_of(grouping: Grouping, height: float, *, colored: bool = False) -> Panel:
    """Return the list of groups, in one column of at least ``height``, else in several.

    ``colored`` where cells are pixels, which have the colour of their group.
    """
    rows = [(number, *grouping.described(number)) for number in grouping.listed]
    text_width = max(
        width_of(f"{name_of(number)}  {members}  {crossing}", SMALL)
        for number, members, crossing in rows
    )
    column_width = text_width + 40
    indent = max(width_of(name_of(number), SMALL, bold=True) for number, *_ in rows) + 12
    per_column = max(1, int(height // _LINE) - 1)
    if per_column < len(rows):
        columns = max(1, int(MAX_WIDTH // column_width))
        per_column = -(-len(rows) // columns)
    items: list[Item] = []
    for place, (number, members, crossing) in enumerate(rows):
        column, line = divmod(place, per_column)
        x, y = column * column_width, (line + 0.5) * _LINE
        name = name_of(number)
        after = x + indent
        if colored:
            items.append(Box(x, y - 5, 10, 10, fill(number), edge(number)))
            items.append(Label(x + 15, y, name, SMALL, bold=True))
            after += 10
        else:
            items += chip_of(x + (after - x - 7) / 2, y, name, grouping.tone(number), SMALL)
        items.append(Label(after, y, members, SMALL))
        after += width_of(members, SMALL) + 8
        if crossing:
            items.append(Label(after, y, crossing, SMALL, CROSSING))
    columns_used = -(-len(rows) // per_column)
    lines = min(per_column, len(rows))
    left_out = len(grouping.groups) - len(rows)
    if left_out and grouping.focus is None:
        items.append(Label(0, (lines + 0.5) * _LINE, f"… {left_out:,} more", SMALL, QUIET))
        lines += 1
    return Panel(items, columns_used * column_width, lines * _LINE)
