"""Where each rank's cell stands: the slide grid and the cluster view, at any size.

Both are blocks of cells: a model copy is a block of tp rows and pp columns, a node is a block of
GPUs. Blocks flow into as many columns as fit; when cells would become too small for text, the
board turns *fine*: every cell a few pixels of one image.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil, sqrt
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from .. import shards
from ..layout import ParallelLayout
from ..rankgrid import Ranks
from .glyphs import width_of
from .theme import NORMAL, SMALL

_Kind = TypeVar("_Kind", np.uint8, np.intp)

EMPTY = -1
"""Stands in a block where there is no rank."""

ROOMY, TIGHT = (58.0, 40.0), (37.0, 30.0)
_CELL_GAP = 4.0
_TITLE_GAP = 8.0
_BLOCK_GAP = (20.0, 12.0)
_MOST_CELLS = 256
_EASY_HEIGHT, _MOST_HEIGHT = 400.0, 760.0
_WIDEST_BLOCK, _FOLDED_BLOCK = 16, 12

# A fine board aims at this many points, and its pixels at whole pixels of the screen.
_FINE_HEIGHT = 330.0
_COARSEST = 24
_PIXELS_PER_POINT = 192 / 72


@dataclass(frozen=True, eq=False)
class Board:
    """Blocks of ranks, and the room they take.

    Attributes
    ----------
    blocks : ndarray of int, shape (blocks, rows, columns)
        The rank in each cell, or `EMPTY`.
    block_title : callable
        What stands beside the block of a number.
    row_titles, column_titles : list of str
        What stands beside each row of a block, above its columns.
    cell : (width, height)
        Of one cell, in points.
    across : int
        Blocks side by side.
    headroom : float
        Free space above and below each block, for links between cells.
    framed : bool
        Whether a box is drawn around each block.
    fine : bool
        Whether cells are pixels of one image.
    """

    blocks: Ranks
    block_title: Callable[[int], str]
    row_titles: Sequence[str]
    column_titles: Sequence[str]
    cell: tuple[float, float]
    across: int
    headroom: float = 0.0
    framed: bool = False
    fine: bool = False

    @property
    def roomy(self) -> bool:
        """Whether a cell has room for a large symbol."""
        return self.cell[0] >= ROOMY[0]

    @cached_property
    def title_width(self) -> float:
        """Room left of a block for its title."""
        return _title_room(self.block_title, len(self.blocks))

    @cached_property
    def head(self) -> float:
        """Room left of a block for both kinds of titles."""
        longest = max(self.row_titles, key=len, default="")
        shown = longest and not self.fine
        return self.title_width + (width_of(longest, SMALL) + _TITLE_GAP if shown else 0)

    @property
    def column_head(self) -> float:
        """Room above the first row of blocks for the titles of columns."""
        return 16.0 if self.column_titles and not self.fine else 0.0

    @cached_property
    def pitch(self) -> tuple[float, float]:
        """From one block to the next: to the right, and down."""
        _, rows, columns = self.blocks.shape
        return (
            self.head + columns * self.cell[0] + _BLOCK_GAP[0],
            self.headroom + rows * self.cell[1] + _BLOCK_GAP[1],
        )

    @property
    def down(self) -> int:
        """Blocks one above the other."""
        return ceil(len(self.blocks) / self.across)

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the whole board, in points."""
        if self.fine:
            rows, columns = self.fine_shape
            return self.head + columns * self.cell[0], rows * self.cell[1]
        width, height = self.pitch
        return (
            width * self.across - _BLOCK_GAP[0],
            self.column_head + height * self.down - _BLOCK_GAP[1] + self.headroom,
        )

    def origin(self, block: int) -> tuple[float, float]:
        """Return the left top corner of a block's first cell."""
        below, beside = divmod(block, self.across)
        return (
            beside * self.pitch[0] + self.head,
            self.column_head + below * self.pitch[1] + self.headroom,
        )

    def frames(self) -> NDArray[np.float64]:
        """Return left, top, width, height of every rank's cell, shape (ranks, 4)."""
        origins = np.array([self.origin(block) for block in range(len(self.blocks))])
        at = np.argwhere(self.blocks != EMPTY)
        ranks = self.blocks[tuple(at.T)]
        corners = origins[at[:, 0]] + at[:, :0:-1] * self.cell
        frames = np.empty((len(ranks), 4))
        frames[ranks, :2] = corners
        frames[:, 2:] = np.array(self.cell) - _CELL_GAP
        return frames

    def enclosures(self) -> list[tuple[float, float, float, float]]:
        """Return left, top, width, height of the box around each block."""
        _, rows, columns = self.blocks.shape
        width, height = columns * self.cell[0], rows * self.cell[1]
        corners = [self.origin(block) for block in range(len(self.blocks))]
        return [
            (x - _CELL_GAP, y - _CELL_GAP, width + _CELL_GAP, height + _CELL_GAP)
            for x, y in corners
        ]

    # ---- fine boards

    @property
    def fine_pitch(self) -> tuple[float, float]:
        """From one block of a fine board to the next: to the right, and down."""
        _, rows, columns = self.blocks.shape
        return (columns + 1) * self.cell[0], (rows + 1) * self.cell[1]

    @property
    def fine_shape(self) -> tuple[int, int]:
        """Rows and columns of cells, one left free between blocks."""
        _, rows, columns = self.blocks.shape
        return self.down * (rows + 1) - 1, self.across * (columns + 1) - 1

    def image(self, of_rank: NDArray[_Kind], background: int) -> NDArray[_Kind]:
        """Return the image of a fine board, a pixel a cell, given each rank's colour index."""
        count, rows, columns = self.blocks.shape
        tiles = np.full((self.down * self.across, rows + 1, columns + 1), background, of_rank.dtype)
        inside = tiles[:count, :rows, :columns]
        inside[:] = np.where(self.blocks == EMPTY, background, of_rank[self.blocks])
        tiled = tiles.reshape(self.down, self.across, rows + 1, columns + 1).swapaxes(1, 2)
        return tiled.reshape(self.down * (rows + 1), -1)[:-1, :-1]


def grid_board(
    layout: ParallelLayout,
    *,
    max_width: float,
    cells: Sequence[tuple[float, float]] = (ROOMY, TIGHT),
) -> Board:
    """Lay out the slide grid: a block for each model copy, tp down, pp across.

    ``cells`` are the sizes of a cell to try, the preferred first.
    """
    ranks = np.arange(layout.world_size)
    copies = layout.dp * layout.cp
    place = shards.copy_of(layout, ranks) * layout.tp * layout.pp + shards.piece_of(layout, ranks)
    blocks = np.argsort(place).reshape(copies, layout.tp, layout.pp)
    rows = [f"tp {tp_rank}" for tp_rank in range(layout.tp)]
    columns = [f"pp {pp_rank}" for pp_rank in range(layout.pp)]
    if layout.pp > _WIDEST_BLOCK and layout.world_size <= _MOST_CELLS:
        blocks, rows, columns = _banded(blocks)
    return _board(
        blocks, lambda i: f"model{shards.subscript(i + 1)}", rows, columns, max_width, cells=cells
    )


def cluster_board(
    layout: ParallelLayout, *, max_width: float, beside: int = 8, headroom: float = 0.0
) -> Board:
    """Lay out the cluster: a block for each node, at most ``beside`` GPUs in a row."""
    per_node = layout.gpus_per_node
    fitting = [n for n in range(2, beside + 1) if per_node % n == 0]
    columns = per_node if per_node <= beside else max(fitting, default=beside)
    padded = np.full((layout.nodes, ceil(per_node / columns) * columns), EMPTY)
    padded[:, :per_node] = np.arange(layout.world_size).reshape(layout.nodes, per_node)
    blocks = padded.reshape(layout.nodes, -1, columns)
    return _board(blocks, lambda i: f"node {i}", [], [], max_width, headroom, framed=True)


def _banded(blocks: Ranks) -> tuple[Ranks, list[str], list[str]]:
    """Fold rows too long for a page: stages 12 … 23 stand below stages 0 … 11."""
    copies, tp, pp = blocks.shape
    bands = ceil(pp / _FOLDED_BLOCK)
    width = ceil(pp / bands)
    padded = np.full((copies, tp, bands * width), EMPTY)
    padded[:, :, :pp] = blocks
    folded = padded.reshape(copies, tp, bands, width).swapaxes(1, 2).reshape(copies, -1, width)
    spans = [(start, min(start + width, pp) - 1) for start in range(0, pp, width)]
    rows = [f"pp {first}–{last}, tp {t}" for first, last in spans for t in range(tp)]
    return folded, rows, []


def _board(
    blocks: Ranks,
    block_title: Callable[[int], str],
    row_titles: Sequence[str],
    column_titles: Sequence[str],
    max_width: float,
    headroom: float = 0.0,
    framed: bool = False,
    cells: Sequence[tuple[float, float]] = (ROOMY, TIGHT),
) -> Board:
    """Choose the largest cells, then the fewest blocks side by side, that fit; else go fine."""
    titles = (block_title, row_titles, column_titles)
    least: Board | None = None
    if (blocks != EMPTY).sum() <= _MOST_CELLS:
        for cell in cells:
            for across in range(1, len(blocks) + 1):
                board = Board(blocks, *titles, cell, across, headroom, framed)
                if board.size[0] > max_width:
                    break
                if board.size[1] <= _EASY_HEIGHT:
                    return board
                if least is None or board.size[1] < least.size[1]:
                    least = board
    if least is not None and least.size[1] <= _MOST_HEIGHT:
        return least
    across, pixels = _tiling(blocks.shape, max_width - _title_room(block_title, len(blocks)))
    side = pixels / _PIXELS_PER_POINT
    return Board(blocks, *titles, (side, side), across, fine=True)


def _tiling(shape: tuple[int, ...], max_width: float) -> tuple[int, int]:
    """Return how many blocks stand side by side, and how many whole pixels a cell gets."""
    count, rows, columns = shape
    width, height = max_width * _PIXELS_PER_POINT, _FINE_HEIGHT * _PIXELS_PER_POINT

    def side(across: int) -> int:
        down = ceil(count / across)
        return int(min(width / (across * (columns + 1)), height / (down * (rows + 1))))

    ideal = sqrt(count * (rows + 1) / (columns + 1) * width / height)
    least, most = min(count, max(1, int(0.7 * ideal))), min(count, ceil(1.3 * ideal))
    nearby = range(least, most + 1)
    # Of equally large cells, rather a full rectangle, or at least round numbers at its side.
    across = max(nearby, key=lambda n: (side(n), count % n == 0, n % 8 == 0, -abs(n - ideal)))
    return across, max(1, min(side(across), _COARSEST))


def _title_room(title: Callable[[int], str], count: int) -> float:
    """Return the width of the titles' column; the last title is among the longest."""
    return width_of(title(count - 1), NORMAL, bold=True) + _TITLE_GAP
