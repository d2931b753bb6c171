"""What stands beside and between the cells of a group: the list of groups, and their links."""

from itertools import pairwise

import numpy as np

from .board import Board
from .glyphs import width_of
from .grouping import Grouping, name_of
from .scene import Box, Curve, Item, Label
from .theme import CROSSING, MAX_WIDTH, QUIET, RGB, SMALL, edge, fill

HEADROOM = 30.0
"""Free space above and below a node that its links need."""

_LINE = 15.0


def links(board: Board, grouping: Grouping) -> list[Item]:
    """Return curves from member to member: arcs inside a node, dashed lines between nodes.

    Arcs rise above even nodes and hang below odd ones: the space between two nodes is left to
    what crosses it.
    """
    frames, (width, height) = board.frames()[:, :2], np.array(board.frames()[0, 2:])
    links: list[Item] = []
    for number in np.unique(grouping.index[grouping.index >= 0]).tolist():
        members = grouping.groups[number]
        for one, other in pairwise(members):
            (x0, y0), (x1, y1) = frames[one] + (width / 2, 0), frames[other] + (width / 2, 0)
            if y0 == y1:
                side = -1 if one // grouping.layout.gpus_per_node % 2 == 0 else 1
                start = y0 if side < 0 else y0 + height
                bend = start + side * min(8 + 6 * abs(x1 - x0) / board.cell[0], 1.25 * HEADROOM)
                links.append(_curve(x0, start, bend, x1, start, bend, edge(number)))
            else:
                top, bottom = y0 + height, y1
                bend = (bottom - top) * 0.45
                links.append(_curve(x0, top, top + bend, x1, bottom, bottom - bend, None))
    return links


def _curve(
    x0: float, y0: float, bend0: float, x1: float, y1: float, bend1: float, color: RGB | None
) -> Curve:
    """Return a link that leaves and arrives vertically; without a colour, one that crosses."""
    points = ((x0, y0), (x0, bend0), (x1, bend1), (x1, y1))
    return Curve(points, color or CROSSING, 1.5 if color else 1.8, dashed=color is None)


def legend_of(grouping: Grouping, height: float) -> tuple[list[Item], float, float]:
    """Return the list of groups, in one column of at least ``height``, else in several."""
    rows = [(number, *grouping.described(number)) for number in grouping.listed]
    text_width = max(
        width_of(f"{name_of(number)}  {members}  {crossing}", SMALL)
        for number, members, crossing in rows
    )
    column_width = text_width + 40
    per_column = max(1, int(height // _LINE) - 1)
    if per_column < len(rows):
        columns = max(1, int(MAX_WIDTH // column_width))
        per_column = -(-len(rows) // columns)
    items: list[Item] = []
    for place, (number, members, crossing) in enumerate(rows):
        column, line = divmod(place, per_column)
        x, y = column * column_width, (line + 0.5) * _LINE
        items.append(Box(x, y - 5, 10, 10, fill(number), edge(number)))
        items.append(Label(x + 15, y, name_of(number), SMALL, bold=True))
        after = x + 15 + width_of(name_of(number), SMALL, bold=True) + 7
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
    return items, columns_used * column_width, lines * _LINE
