"""Where each rank's cell stands, in points: blocks of cells, as many side by side as fit.

A block is a model copy, of tp rows and pp columns, or a node, of GPUs. Where cells would be too
small for text the board is *fine*: each cell is a few pixels of one image.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ...rankgrid import Ranks
from ..canvas.glyphs import width_of
from ..canvas.theme import NORMAL, SMALL, TICK

_Kind = TypeVar("_Kind", np.uint8, np.intp)
Frame = tuple[float, float, float, float]
"""Left, top, width, height."""

EMPTY = -1
"""Stands in a block where there is no rank."""

ROOMY, TIGHT = (58.0, 40.0), (37.0, 30.0)
CELL_GAP = 4.0
_TITLE_GAP = 8.0
_BLOCK_GAP = (20.0, 12.0)


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
    framed : bool
        Whether a box is drawn around each block.
    headroom : float
        Free space above and below each block, for links between cells.
    cell : (width, height)
        Of one cell, in points.
    across : int
        Blocks side by side.
    fine : bool
        Whether cells are pixels of one image.
    """

    blocks: Ranks
    noun: Noun
    block_title: Callable[[int], str]
    row_titles: Sequence[str] = ()
    column_titles: Sequence[str] = ()
    framed: bool = False
    headroom: float = 0.0
    cell: tuple[float, float] = ROOMY
    across: int = 1
    fine: bool = False

    @property
    def roomy(self) -> bool:
        """Whether a cell has room for a large symbol."""
        return self.cell[0] >= ROOMY[0]

    @property
    def low(self) -> bool:
        """Whether a cell has room for its rank alone."""
        return self.cell[1] < TIGHT[1]

    @property
    def down(self) -> int:
        """Blocks one above the other."""
        return ceil(len(self.blocks) / self.across)

    @property
    def _names_cells(self) -> bool:
        """Whether rows and columns have titles: blocks of pixels stand too close together."""
        return not self.fine or len(self.blocks) == 1

    @cached_property
    def title_width(self) -> float:
        """Room left of a block for its title; a single one of pixels has none."""
        last = len(self.blocks) - 1
        if self.fine and not last:
            return 0.0
        longest = self.noun.span(last, last + 1) if self.fine else self.block_title(last)
        return width_of(longest, NORMAL, bold=True) + _TITLE_GAP

    @cached_property
    def head(self) -> float:
        """Room left of a block for both kinds of titles."""
        longest = max(self.row_titles, key=len, default="")
        if not longest or not self._names_cells:
            return self.title_width
        return self.title_width + width_of(longest, SMALL) + _TITLE_GAP + self.fine * TICK

    @property
    def column_head(self) -> float:
        """Room above the first row of blocks for the titles of columns."""
        return 16.0 if self.column_titles and self._names_cells else 0.0

    @property
    def gap(self) -> tuple[float, float]:
        """Between blocks, to the right and down: of pixels, one cell."""
        return self.cell if self.fine else _BLOCK_GAP

    @cached_property
    def pitch(self) -> tuple[float, float]:
        """From one block to the next: to the right, and down."""
        _, rows, columns = self.blocks.shape
        titles = 0.0 if self.fine else self.head
        return (
            titles + columns * self.cell[0] + self.gap[0],
            self.headroom + rows * self.cell[1] + self.gap[1],
        )

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the whole board, in points."""
        titles = self.head if self.fine else 0.0
        return (
            titles + self.pitch[0] * self.across - self.gap[0],
            self.column_head + self.pitch[1] * self.down - self.gap[1] + self.headroom,
        )

    def origin(self, block: int) -> tuple[float, float]:
        """Return the left top corner of a block's first cell."""
        below, beside = divmod(block, self.across)
        return (
            beside * self.pitch[0] + self.head,
            self.column_head + below * self.pitch[1] + self.headroom,
        )

    @cached_property
    def frames(self) -> dict[int, Frame]:
        """The place of each rank's cell, in the order of ranks."""
        origins = np.array([self.origin(block) for block in range(len(self.blocks))])
        at = np.argwhere(self.blocks != EMPTY)
        ranks = self.blocks[tuple(at.T)]
        corners = origins[at[:, 0]] + at[:, :0:-1] * self.cell
        width, height = (side - CELL_GAP for side in self.cell)
        placed = sorted(zip(ranks.tolist(), corners.tolist(), strict=True))
        return {rank: (x, y, width, height) for rank, (x, y) in placed}

    def around(
        self, block: int, rows: slice = slice(None), columns: slice = slice(None), *, wider: float
    ) -> Frame:
        """Return a frame around cells of a block, ``wider`` than they are on each side."""
        (top, bottom, _), (left, right, _) = map(
            slice.indices, (rows, columns), self.blocks.shape[1:]
        )
        (x, y), (width, height) = self.origin(block), self.cell
        return (
            x + left * width - wider,
            y + top * height - wider,
            (right - left) * width - CELL_GAP + 2 * wider,
            (bottom - top) * height - CELL_GAP + 2 * wider,
        )

    def image(self, of_rank: NDArray[_Kind], background: int) -> NDArray[_Kind]:
        """Return the image of a fine board, a pixel a cell, given each rank's colour index."""
        count, rows, columns = self.blocks.shape
        tiles = np.full((self.down * self.across, rows + 1, columns + 1), background, of_rank.dtype)
        inside = tiles[:count, :rows, :columns]
        inside[:] = np.where(self.blocks == EMPTY, background, of_rank[self.blocks])
        tiled = tiles.reshape(self.down, self.across, rows + 1, columns + 1).swapaxes(1, 2)
        return tiled.reshape(self.down * (rows + 1), -1)[:-1, :-1]
