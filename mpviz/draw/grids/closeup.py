"""A board, and above one of pixels the block of one rank, so large that it can be read."""

from dataclasses import replace

import numpy as np

from ..canvas.glyphs import width_of
from ..canvas.page import Panel, heading
from ..canvas.theme import MAX_WIDTH, NORMAL, PIXELS_PER_POINT, SMALL
from .board import ROOMY, TIGHT, Board
from .cells import CellStyle, cells

_TALLEST, _TALLEST_PIXELS = 150.0, 260.0
_LOWEST, _LABEL_GAP = 16.0, 10.0
_WIDER = 2.0
"""How much wider a cell must be than on the board."""


def with_closeup(board: Board, style: CellStyle, rank: int) -> list[Panel]:
    """Return the board; above one of pixels, the block of a rank drawn large."""
    whole, count = cells(board, style), len(board.blocks)
    if not board.fine or count == 1:
        return [whole]
    number = int(np.argwhere(board.blocks == rank)[0, 0])
    block = replace(board, blocks=board.blocks[[number]], block_title=lambda _: "", across=1)
    plain = replace(style, tags={})  # a rank of five digits leaves no room for them
    one = _in_cells(block, plain) or _in_pixels(block)
    if one is None:
        return [whole]
    words = f"{board.noun.span(number, number)}, one of {count:,} {board.noun.many}"
    all_blocks = f"all {count:,} {board.noun.many}, in the same colours"
    return [heading(words, cells(one, plain)), heading(all_blocks, whole)]


def _in_cells(block: Board, style: CellStyle) -> Board | None:
    """Return the block with the largest cells that fit, if its ranks can be written in some."""
    number = width_of(f"{block.blocks.max()}", SMALL) + 9
    column = max((width_of(title, SMALL) for title in block.column_titles), default=0.0) + 3
    for cell in (ROOMY, TIGHT, (max(number, TIGHT[0]), _LOWEST), (number, _LOWEST)):
        alone = not block.row_titles  # a node has a frame, a copy has not
        one = replace(block, cell=cell, framed=alone, fine=False)
        fits = one.size[0] <= MAX_WIDTH and one.size[1] <= _TALLEST
        if fits and max(number, column, _LABEL_GAP + _widest_label(one, style)) <= cell[0]:
            return one
    return None


def _widest_label(one: Board, style: CellStyle) -> float:
    """Return the width of the longest label, where cells have labels."""
    if one.low:
        return 0.0
    size = style.size if one.roomy else NORMAL
    return max(width_of(style.label(rank), size) for rank in one.frames)


def _in_pixels(block: Board) -> Board | None:
    """Return the block with larger pixels, with marks at round rows and columns."""
    left, top = block.origin(0)
    _, rows, columns = block.blocks.shape
    room = (MAX_WIDTH - left) / columns, (_TALLEST_PIXELS - top) / rows
    width, height = (int(min(each, _LOWEST) * PIXELS_PER_POINT) / PIXELS_PER_POINT for each in room)
    if width < _WIDER * block.cell[0] or height < block.cell[1]:
        return None
    return replace(block, cell=(width, height))
