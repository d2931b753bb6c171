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

from ... import shards
from ...layout import ParallelLayout
from ...rankgrid import Ranks
from ..canvas.glyphs import width_of
from ..canvas.theme import NORMAL, SMALL, TICK

_Kind = TypeVar("_Kind", np.uint8, np.intp)

Titles = tuple[Callable[[int], str], Sequence[str], Sequence[str]]
"""Of a block of a number, of each row of a block, of each column."""

EMPTY = -1
"""Stands in a block where there is no rank."""

ROOMY, TIGHT = (58.0, 40.0), (37.0, 30.0)
CELL_GAP = 4.0
_TITLE_GAP = 8.0
_BLOCK_GAP = (20.0, 12.0)
_MOST_CELLS = 256
_EASY_HEIGHT, _MOST_HEIGHT = 400.0, 760.0
_WIDEST_BLOCK, _FOLDED_BLOCK = 16, 12

# A fine board aims at this many points, and its pixels at whole pixels of the screen.
_FINE_HEIGHT, _ONE_BLOCK_HEIGHT = 200.0, 330.0
_COARSEST, _WIDEST, _NEARLY = 24, 96, 0.8
PIXELS_PER_POINT = 192 / 72

MOST_RANKS = 2**20
"""Of one picture, which has not many more pixels: at most about 1 s and 0.2 GB."""


MOST_ROWS = 2**12
"""Where each rank has a row, a lane or a part of its own: more cannot even be told apart."""


@dataclass(frozen=True)
class Noun:
    """What a block is called: copies are counted from 1, nodes from 0.

    >>> Noun("copy", "copies", 1).span(0, 15), Noun("node", "nodes", 0).span(3, 3)
    ('copies 1–16', 'node 3')
    """

    one: str
    many: str
    first: int

    def span(self, start: int, stop: int) -> str:
        """Return the name of the blocks of these numbers, both included."""
        start, stop = start + self.first, stop + self.first
        return f"{self.one} {start:,}" if start == stop else f"{self.many} {start:,}–{stop:,}"


_COPY, _NODE = Noun("copy", "copies", 1), Noun("node", "nodes", 0)


@dataclass(frozen=True, eq=False)
class Board:
    """Blocks of ranks, and the room they take.

    Attributes
    ----------
    blocks : ndarray of int, shape (blocks, rows, columns)
        The rank in each cell, or `EMPTY`.
    noun : Noun
        What a block is.
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
    noun: Noun
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

    @property
    def low(self) -> bool:
        """Whether a cell has room for its rank alone."""
        return self.cell[1] < TIGHT[1]

    @cached_property
    def title_width(self) -> float:
        """Room left of a block for its title."""
        if not self.fine:
            return _room(self.block_title(len(self.blocks) - 1))
        return _fine_room(self.noun, self.blocks, self.row_titles)

    @cached_property
    def head(self) -> float:
        """Room left of a block for both kinds of titles."""
        longest = max(self.row_titles, key=len, default="")
        shown = longest and not self.fine
        return self.title_width + (width_of(longest, SMALL) + _TITLE_GAP if shown else 0)

    @property
    def column_head(self) -> float:
        """Room above the first row of blocks for the titles of columns."""
        if not self.column_titles or (self.fine and len(self.blocks) > 1):
            return 0.0
        return 16.0

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
            width, height = columns * self.cell[0], rows * self.cell[1]
            return self.head + width, self.column_head + height
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

    @cached_property
    def frames(self) -> dict[int, tuple[float, float, float, float]]:
        """Left, top, width, height of each rank's cell, in the order of ranks."""
        origins = np.array([self.origin(block) for block in range(len(self.blocks))])
        at = np.argwhere(self.blocks != EMPTY)
        ranks = self.blocks[tuple(at.T)]
        corners = origins[at[:, 0]] + at[:, :0:-1] * self.cell
        width, height = (side - CELL_GAP for side in self.cell)
        placed = sorted(zip(ranks.tolist(), corners.tolist(), strict=True))
        return {rank: (x, y, width, height) for rank, (x, y) in placed}

    def around(self, block: int, rows: slice, columns: slice) -> tuple[float, float, float, float]:
        """Return left, top, width, height of neighbouring cells of a block, as one box."""
        x, y = self.origin(block)
        width, height = self.cell
        return (
            x + columns.start * width,
            y + rows.start * height,
            (columns.stop - columns.start) * width - CELL_GAP,
            (rows.stop - rows.start) * height - CELL_GAP,
        )

    def enclosures(self) -> list[tuple[float, float, float, float]]:
        """Return left, top, width, height of the box around each block."""
        _, rows, columns = self.blocks.shape
        width, height = columns * self.cell[0], rows * self.cell[1]
        corners = [self.origin(block) for block in range(len(self.blocks))]
        return [
            (x - CELL_GAP, y - CELL_GAP, width + CELL_GAP, height + CELL_GAP) for x, y in corners
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


def check_drawable(layout: ParallelLayout) -> None:
    """Raise ``ValueError`` before a layout takes the memory of a picture that shows nothing."""
    if layout.world_size > MOST_RANKS:
        raise ValueError(
            f"a picture shows at most {MOST_RANKS:,} ranks, it has not many more pixels; this "
            f"layout has {layout.world_size:,}"
        )


def check_rows(ranks: int) -> None:
    """Raise ``ValueError`` for more ranks than a picture with a row for each is made of."""
    if ranks > MOST_ROWS:
        raise ValueError(
            f"a picture with a row for each rank takes at most {MOST_ROWS:,} ranks, and this one "
            f"would have {ranks:,}"
        )


def grid_board(
    layout: ParallelLayout,
    *,
    max_width: float,
    cells: Sequence[tuple[float, float]] = (ROOMY, TIGHT),
) -> Board:
    """Lay out the slide grid: a block for each model copy, tp down, pp across.

    With context parallelism a block has tp rows for each cp rank: they share one copy's work.
    ``cells`` are the sizes of a cell to try, the preferred first.
    """
    check_drawable(layout)
    at = layout.coordinates(np.arange(layout.world_size))
    row = at["cp"] * layout.tp + at["tp"]
    place = (at["dp"] * layout.cp * layout.tp + row) * layout.pp + at["pp"]
    blocks = np.argsort(place).reshape(layout.dp, layout.cp * layout.tp, layout.pp)
    rows = grid_rows(layout)
    columns = [f"pp {pp_rank}" for pp_rank in range(layout.pp)]
    if layout.pp > _WIDEST_BLOCK and layout.world_size <= _MOST_CELLS:
        blocks, rows, columns = _banded(blocks, rows)
    titles = (lambda i: f"model{shards.subscript(i + 1)}", rows, columns)
    return _board(blocks, _COPY, titles, max_width, cells=cells)


def grid_rows(layout: ParallelLayout) -> list[str]:
    """Return what stands beside each row of a model copy.

    >>> grid_rows(ParallelLayout(nodes=1, gpus_per_node=4, tp=2, cp=2))
    ['cp 0, tp 0', 'cp 0, tp 1', 'cp 1, tp 0', 'cp 1, tp 1']
    """
    of_cp = [f"cp {cp_rank}, " for cp_rank in range(layout.cp)] if layout.cp > 1 else [""]
    return [f"{cp}tp {tp_rank}" for cp in of_cp for tp_rank in range(layout.tp)]


def cluster_board(
    layout: ParallelLayout, *, max_width: float, beside: int = 8, headroom: float = 0.0
) -> Board:
    """Lay out the cluster: a block for each node, at most ``beside`` GPUs in a row."""
    check_drawable(layout)
    per_node = layout.gpus_per_node
    fitting = [n for n in range(2, beside + 1) if per_node % n == 0]
    columns = per_node if per_node <= beside else max(fitting, default=beside)
    padded = np.full((layout.nodes, ceil(per_node / columns) * columns), EMPTY)
    padded[:, :per_node] = np.arange(layout.world_size).reshape(layout.nodes, per_node)
    blocks = padded.reshape(layout.nodes, -1, columns)
    titles: Titles = (lambda i: f"node {i}", [], [])
    return _board(blocks, _NODE, titles, max_width, headroom, framed=True)


def _banded(blocks: Ranks, names: Sequence[str]) -> tuple[Ranks, list[str], list[str]]:
    """Fold rows too long for a page: stages 12 … 23 stand below stages 0 … 11."""
    copies, height, pp = blocks.shape
    bands = ceil(pp / _FOLDED_BLOCK)
    width = ceil(pp / bands)
    padded = np.full((copies, height, bands * width), EMPTY)
    padded[:, :, :pp] = blocks
    folded = padded.reshape(copies, height, bands, width).swapaxes(1, 2).reshape(copies, -1, width)
    spans = [(start, min(start + width, pp) - 1) for start in range(0, pp, width)]
    rows = [f"pp {first}–{last}, {name}" for first, last in spans for name in names]
    return folded, rows, []


def _board(
    blocks: Ranks,
    noun: Noun,
    titles: Titles,
    max_width: float,
    headroom: float = 0.0,
    framed: bool = False,
    cells: Sequence[tuple[float, float]] = (ROOMY, TIGHT),
) -> Board:
    """Choose the largest cells, then the fewest blocks side by side, that fit; else go fine."""
    least: Board | None = None
    if (blocks != EMPTY).sum() <= _MOST_CELLS:
        for cell in cells:
            for across in range(1, len(blocks) + 1):
                board = Board(blocks, noun, *titles, cell, across, headroom, framed)
                if board.size[0] > max_width:
                    break
                if board.size[1] <= _EASY_HEIGHT:
                    return board
                if least is None or board.size[1] < least.size[1]:
                    least = board
    if least is not None and least.size[1] <= _MOST_HEIGHT:
        return least
    room = max_width - _fine_room(noun, blocks, titles[1])
    for height in (_FINE_HEIGHT if len(blocks) > 1 else _ONE_BLOCK_HEIGHT, _MOST_HEIGHT):
        across, pixels = _tiling(blocks.shape, room, height)
        if pixels:
            wide = pixels
            if len(blocks) == 1:  # room for the names of its columns
                wide = max(pixels, min(int(room * PIXELS_PER_POINT / blocks.shape[2]), _WIDEST))
            cell = (wide / PIXELS_PER_POINT, pixels / PIXELS_PER_POINT)
            return Board(blocks, noun, *titles, cell, across, fine=True)
    raise ValueError(
        f"{len(blocks):,} {noun.one if len(blocks) == 1 else noun.many} of {blocks.shape[1]:,} × "
        f"{blocks.shape[2]:,} ranks have no pixel for each rank in a picture of "
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


def _fine_room(noun: Noun, blocks: Ranks, row_titles: Sequence[str]) -> float:
    """Return the room left of a fine board for the names of its blocks, or of one's rows."""
    last = len(blocks) - 1
    rows = max(row_titles, key=len, default="")
    if last == 0:
        return width_of(rows, SMALL) + TICK + _TITLE_GAP if rows else 0.0
    return _room(noun.span(last, last + 1))


def _room(title: str) -> float:
    """Return the width of the titles' column, given the longest."""
    return width_of(title, NORMAL, bold=True) + _TITLE_GAP
