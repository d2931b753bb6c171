"""How large the cells of a board are, and how many blocks stand side by side."""

from collections.abc import Sequence
from dataclasses import replace
from math import ceil, sqrt

from ..canvas.theme import PIXELS_PER_POINT
from .board import EMPTY, ROOMY, TIGHT, Board

MOST_CELLS = 256
_EASY_HEIGHT, _MOST_HEIGHT = 400.0, 760.0

# A fine board aims at this many points, and its cells at whole pixels.
_FINE_HEIGHT, _ONE_BLOCK_HEIGHT = 200.0, 330.0
_COARSEST, _WIDEST, _NEARLY = 24, 96, 0.8


def fitted(
    board: Board, max_width: float, cells: Sequence[tuple[float, float]] = (ROOMY, TIGHT)
) -> Board:
    """Return the board with the first of the cells that fits, else with pixels for cells."""
    return _with_cells(board, max_width, cells) or _with_pixels(board, max_width)


def _with_cells(
    board: Board, max_width: float, cells: Sequence[tuple[float, float]]
) -> Board | None:
    """Return the first board that is not too high, else the lowest; None if that is too high."""
    if (board.blocks != EMPTY).sum() > MOST_CELLS:
        return None
    narrow = []
    for cell in cells:
        for across in range(1, len(board.blocks) + 1):
            tried = replace(board, cell=cell, across=across)
            width, height = tried.size
            if width > max_width:
                break
            if height <= _EASY_HEIGHT:
                return tried
            narrow.append(tried)
    lowest = min(narrow, key=lambda tried: tried.size[1], default=None)
    return lowest if lowest and lowest.size[1] <= _MOST_HEIGHT else None


def _with_pixels(board: Board, max_width: float) -> Board:
    """Return the board with cells of as many whole pixels as fit."""
    fine = replace(board, fine=True, framed=False, headroom=0.0)
    count, rows, columns = board.blocks.shape
    room = max_width - fine.head
    for most in (_FINE_HEIGHT if count > 1 else _ONE_BLOCK_HEIGHT, _MOST_HEIGHT):
        across, height = _tiling(board.blocks.shape, room, most)
        if height:
            width = height
            if count == 1:  # room for the names of its columns
                width = max(height, min(int(room * PIXELS_PER_POINT / columns), _WIDEST))
            cell = (width / PIXELS_PER_POINT, height / PIXELS_PER_POINT)
            return replace(fine, cell=cell, across=across)
    raise ValueError(
        f"{count:,} {board.noun.one if count == 1 else board.noun.many} of {rows:,} × "
        f"{columns:,} ranks have no pixel for each rank in a picture of "
        f"{int(_MOST_HEIGHT * PIXELS_PER_POINT):,} × {int(room * PIXELS_PER_POINT):,} pixels"
    )


def _tiling(shape: tuple[int, ...], max_width: float, max_height: float) -> tuple[int, int]:
    """Return how many blocks stand side by side, and how many whole pixels a cell gets."""
    count, rows, columns = shape
    width, height = max_width * PIXELS_PER_POINT, max_height * PIXELS_PER_POINT

    def side(across: int) -> int:
        down = ceil(count / across)
        return int(min(width / (across * (columns + 1)), height / (down * (rows + 1))))

    ideal = sqrt(count * (rows + 1) / (columns + 1) * width / height)
    least, most = min(count, max(1, int(0.7 * ideal))), min(count, ceil(1.3 * ideal))
    sides = {across: side(across) for across in range(least, most + 1)}
    # Of cells nearly as large as can be, rather a full rectangle, or round numbers at its side.
    nearly = _NEARLY * max(sides.values())
    large = [n for n in sides if sides[n] >= nearly]
    across = max(large, key=lambda n: (count % n == 0, n % 8 == 0, sides[n], -abs(n - ideal)))
    return across, min(sides[across], _COARSEST)
