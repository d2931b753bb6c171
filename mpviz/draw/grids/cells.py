"""From a board and the style of its cells to their items, and to the text twin."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil

import numpy as np
from numpy.typing import NDArray

from ..canvas.glyphs import width_of
from ..canvas.page import Panel, aligned, chip_of, elided, elided_words
from ..canvas.scene import Box, Item, Label, Raster, stroke
from ..canvas.theme import (
    FAINT_EDGE,
    FRAME,
    INK,
    NORMAL,
    PAPER,
    QUIET,
    RGB,
    SMALL,
    SWATCHES,
    SYMBOL,
    TICK,
    edge_of,
    fill,
    ink_on,
    to_bytes,
)
from .board import CELL_GAP, EMPTY, Board, Frame

FILLS = tuple(fill(index) for index in range(SWATCHES))

FADED = 255
"""The colour index of a rank that the picture is not about."""

_FADED_PIXEL: RGB = (0.92, 0.92, 0.92)
_MOST_ROWS, _MOST_COLUMNS = 12, 10


@dataclass(frozen=True)
class CellStyle:
    """How each rank's cell looks.

    Attributes
    ----------
    color : ndarray of uint8, shape (ranks,)
        Which of ``colors`` its background has, or `FADED`.
    label : callable
        The large text of a rank.
    text : callable, optional
        What stands for a rank in the text twin; by default its label, number and tag.
    tags : mapping from rank to str
        A short mark in the cell's corner.
    chips : mapping from rank to (red, green, blue)
        The background of a tag, if it has one.
    bold : collection of int
        Ranks whose cells have a thick dark border.
    size : float
        Of the label, where a cell has room.
    inset : float
        How much smaller than its place a cell is, for a frame around it, on each side.
    colors : sequence of (red, green, blue)
        At most 250.
    """

    color: NDArray[np.uint8]
    label: Callable[[int], str]
    text: Callable[[int], str] | None = None
    tags: Mapping[int, str] = field(default_factory=dict)
    chips: Mapping[int, RGB] = field(default_factory=dict)
    bold: Collection[int] = ()
    size: float = SYMBOL
    inset: float = 0.0
    colors: Sequence[RGB] = FILLS

    def word(self, rank: int) -> str:
        """Return what stands for a rank in the text twin."""
        if self.text is not None:
            return self.text(rank)
        if self.color[rank] == FADED:
            return "·"
        return f"{self.label(rank)} {rank} {self.tags.get(rank, '')}".rstrip()


def cycled(indices: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return colour indices for any number of pieces, copies or groups."""
    return (indices % SWATCHES).astype(np.uint8)


def cells(board: Board, style: CellStyle, under: Sequence[Item] = ()) -> Panel:
    """Return the cells of a board with their titles; ``under`` lies below the cells."""
    if board.fine:
        titles = _axes(board) if len(board.blocks) == 1 else _line_titles(board)
        return Panel([*titles, _pixels(board, style)], *board.size)
    items = _titles(board)
    if board.framed:
        enclosures = (board.around(n, wider=CELL_GAP) for n in range(len(board.blocks)))
        items += [Box(*enclosure, FRAME, FAINT_EDGE) for enclosure in enclosures]
    items += under
    for rank, frame in board.frames.items():
        items += _cell(board, style, rank, frame)
    return Panel(items, *board.size)


def _pixels(board: Board, style: CellStyle) -> Raster:
    count = len(style.colors)
    color = np.minimum(style.color, count).astype(np.uint8)  # FADED: the first after the colours
    image = board.image(color, background=count + 1)
    ranks = board.image(np.arange(len(style.color)), background=EMPTY)
    rows, columns = image.shape
    size = columns * board.cell[0], rows * board.cell[1]
    colors = map(to_bytes, (*style.colors, _FADED_PIXEL, PAPER))
    return Raster(*board.origin(0), *size, image, tuple(colors), ranks)


def _cell(board: Board, style: CellStyle, rank: int, frame: Frame) -> list[Item]:
    x, y, width, height = frame
    middle, inset = x + width / 2, style.inset
    faded = style.color[rank] == FADED
    face = PAPER if faded else style.colors[style.color[rank]]
    ink = QUIET if faded else ink_on(face)
    border, line = FAINT_EDGE if faded else face if board.low else edge_of(face), 1.0
    if rank in style.bold:
        border, line = INK, 2.2
    shape = (x + inset, y + inset, width - 2 * inset, height - 2 * inset)
    cell: list[Item] = [Box(*shape, face, border, line, rank=rank)]
    if board.low:
        return [*cell, Label(middle, y + height / 2, str(rank), SMALL, ink, "center")]
    cell.append(Label(x + 4, y + 7.5, str(rank), SMALL, ink))
    tag, chip = style.tags.get(rank, ""), style.chips.get(rank)
    if board.roomy:
        cell.append(Label(middle, y + 22, style.label(rank), style.size, ink, "center"))
        inside = 4 + (2.5 if chip else 0) + width_of(tag, SMALL, bold=True) / 2
        cell += _tagged(x + width - inside, y + 8, tag, chip, ink, SMALL)
    elif tag:
        # No room for both: what the picture is about comes first.
        cell += _tagged(middle, y + 19, tag, chip, ink, NORMAL)
    else:
        cell.append(Label(middle, y + 19, style.label(rank), NORMAL, ink, "center"))
    return cell


def _tagged(x: float, y: float, tag: str, chip: RGB | None, ink: RGB, size: float) -> list[Item]:
    """Return a tag around a point, on its chip if it has one."""
    if chip is None:
        return [Label(x, y, tag, size, ink, "center", bold=True)]
    return list(chip_of(x, y, tag, chip, size))


def _titles(board: Board) -> list[Item]:
    """Return the names of blocks, rows and columns."""
    items: list[Item] = []
    width, height = board.cell
    for block in range(len(board.blocks)):
        x, y = board.origin(block)
        left = x - board.head
        items.append(Label(left, y + height / 2, board.block_title(block), NORMAL, bold=True))
        for row, title in enumerate(board.row_titles):
            at = y + (row + 0.5) * height - 2
            items.append(Label(left + board.title_width, at, title, SMALL, QUIET))
        if block < board.across:
            for column, title in enumerate(board.column_titles):
                at = x + (column + 0.5) * width - 2
                items.append(Label(at, 6, title, SMALL, QUIET, "center"))
    return items


def _line_titles(board: Board) -> list[Item]:
    """Return which blocks of pixels stand in each line."""
    _, pitch = board.pitch
    middle = board.cell[1] * board.blocks.shape[1] / 2
    items: list[Item] = []
    for row in range(0, board.down, max(1, ceil(1.3 * NORMAL / pitch))):
        last = min((row + 1) * board.across, len(board.blocks)) - 1
        name = board.noun.span(row * board.across, last)
        items.append(Label(0, row * pitch + middle, name, NORMAL, bold=True))
    return items


def _axes(board: Board) -> list[Item]:
    """Return marks with names at some rows and columns of a block, at round numbers."""
    (left, top), (width, height) = board.origin(0), board.cell
    items: list[Item] = []
    for row in _round_places(len(board.row_titles), 1.4 * SMALL / height):
        y = top + (row + 0.5) * height
        items.append(stroke(left - TICK, y, left - 1, y, QUIET, 0.8))
        items.append(Label(left - TICK - 2, y, board.row_titles[row], SMALL, QUIET, "right"))
    widest = max((width_of(title, SMALL) for title in board.column_titles), default=0.0) + 8
    for column in _round_places(len(board.column_titles), widest / width):
        x = left + (column + 0.5) * width
        items.append(stroke(x, top - TICK, x, top - 1, QUIET, 0.8))
        items.append(Label(x, top - TICK - 6, board.column_titles[column], SMALL, QUIET, "center"))
    return items


def _round_places(count: int, apart: float) -> range:
    """Return places to name: each, or each second, fourth or eighth one."""
    step = 1
    while step < apart:
        step *= 2
    return range(0, count, step)


# ---- the twin in text


def table(board: Board, style: CellStyle) -> str:
    """Return the board in characters; of a large one, its corners."""
    count, rows, _ = board.blocks.shape
    lines = [["", "", *board.column_titles]] if board.column_titles else []
    for line in elided(count * rows, _MOST_ROWS if board.fine else count * rows):
        if line is None:
            lines.append(["⋮"])
            continue
        block, row = divmod(line, rows)
        name = board.block_title(block) if row == 0 else ""
        ranks = [int(rank) for rank in board.blocks[block, row] if rank != EMPTY]
        title = board.row_titles[row] if board.row_titles else ""
        lines.append([name, title, *map(style.word, ranks)])
    if board.fine:
        lines = [elided_words(line, _MOST_COLUMNS) for line in lines]
    return aligned(lines)
