"""One block of a large board, so large that it can be read: its axes, and who sits in it."""

from dataclasses import replace

import numpy as np

from ...rankgrid import Ranks
from ..canvas.glyphs import width_of
from ..canvas.page import Panel, heading
from ..canvas.theme import MAX_WIDTH, NORMAL, SMALL
from .board import PIXELS_PER_POINT, ROOMY, TIGHT, Board
from .cells import Skin, cells

_TALLEST, _TALLEST_PIXELS = 150.0, 260.0
_LOWEST, _LABEL_GAP = 16.0, 10.0
_WIDER = 2.0
"""How much wider a cell must be than on the board."""


def closeup(board: Board, skin: Skin, rank: int) -> Panel | None:
    """Return the block of a rank with a cell for each of its ranks, or with larger pixels.

    None when the board is no fine one, or would not be read better.
    """
    number = int(np.argwhere((board.blocks == rank).any(axis=(1, 2)))[0, 0])
    if not board.fine or len(board.blocks) == 1:
        return None
    block = board.blocks[number]
    plain = replace(skin, tags={})  # a rank of five digits leaves no room for them
    part = _in_cells(board, plain, block) or _in_pixels(board, plain, block)
    if part is None:
        return None
    words = f"{board.noun.span(number, number)}, one of {len(board.blocks):,} {board.noun.many}"
    return heading(words, part)


def _in_cells(board: Board, skin: Skin, block: Ranks) -> Panel | None:
    """Return the block in the largest cells that fit, if its ranks can be written in some."""
    titles = (board.row_titles, board.column_titles)
    number = width_of(f"{block.max()}", SMALL) + 9
    column = max((width_of(title, SMALL) for title in board.column_titles), default=0.0) + 3
    for cell in (ROOMY, TIGHT, (max(number, TIGHT[0]), _LOWEST), (number, _LOWEST)):
        alone = not board.row_titles  # a node has a frame, a copy has not
        one = Board(block[None], board.noun, lambda _: "", *titles, cell, 1, framed=alone)
        if one.size[0] > MAX_WIDTH or one.size[1] > _TALLEST:
            continue
        widest = max(number, column, _LABEL_GAP + _widest_label(one, skin))
        if widest <= cell[0]:
            return cells(one, skin)
    return None


def _widest_label(one: Board, skin: Skin) -> float:
    """Return the width of the longest label, where cells have labels."""
    if one.low:
        return 0.0
    size = skin.size if one.roomy else NORMAL
    return max(width_of(skin.label(rank), size) for rank in one.frames)


def _in_pixels(board: Board, skin: Skin, block: Ranks) -> Panel | None:
    """Return the block as an image, with marks at round rows and columns."""
    titles = (board.row_titles, board.column_titles)
    one = Board(block[None], board.noun, lambda _: "", *titles, board.cell, 1, fine=True)
    left, top = one.origin(0)
    room = (MAX_WIDTH - left) / one.blocks.shape[2], (_TALLEST_PIXELS - top) / one.blocks.shape[1]
    width, height = (int(min(each, _LOWEST) * PIXELS_PER_POINT) / PIXELS_PER_POINT for each in room)
    if width < _WIDER * board.cell[0] or height < board.cell[1]:
        return None
    return cells(replace(one, cell=(width, height)), skin)
