"""From a board and its colours to a picture and its twin in text."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil

import numpy as np
from numpy.typing import NDArray

from ..canvas.glyphs import width_of
from ..canvas.page import Panel, aligned, chip_of, elided
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
    SYMBOL,
    TICK,
    edge_of,
    fill,
    ink_on,
)
from .board import EMPTY, Board

SWATCHES = 24
"""Distinct backgrounds; more pieces or groups use them again from the start."""

FILLS = tuple(fill(index) for index in range(SWATCHES))

FADED = 255
"""The colour index of a rank that is not spoken of."""

_FADED_PIXEL: RGB = (0.92, 0.92, 0.92)
_MOST_ROWS, _MOST_COLUMNS = 12, 10


@dataclass(frozen=True)
class Skin:
    """How each rank's cell looks.

    Attributes
    ----------
    color : ndarray of uint8, shape (ranks,)
        Which of ``colors`` its background has, or `FADED`.
    label : callable
        The large text of a rank.
    tags : mapping from rank to str
        A short mark in the cell's corner.
    chips : mapping from rank to (red, green, blue)
        The ground of a tag, if it has one.
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
    tags: Mapping[int, str] = field(default_factory=dict)
    chips: Mapping[int, RGB] = field(default_factory=dict)
    bold: Collection[int] = ()
    size: float = SYMBOL
    inset: float = 0.0
    colors: Sequence[RGB] = FILLS

    def word(self, rank: int) -> str:
        """Return what stands for a rank in the text twin."""
        if self.color[rank] == FADED:
            return "·"
        tag = f" {self.tags[rank]}" if rank in self.tags else ""
        return f"{self.label(rank)} {rank}{tag}"


def cycled(indices: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return colour indices for any number of pieces, copies or groups."""
    return (indices % SWATCHES).astype(np.uint8)


def cells(board: Board, skin: Skin, under: Sequence[Item] = ()) -> Panel:
    """Return the items of a board, with its width and height; ``under`` lies below its cells."""
    if board.fine:
        return Panel([*_fine_titles(board), _pixels(board, skin)], *board.size)
    items = _titles(board)
    if board.framed:
        items += [Box(*around, FRAME, FAINT_EDGE) for around in board.enclosures()]
    items += under
    for rank, frame in board.frames.items():
        items += _cell(board, skin, rank, frame)
    return Panel(items, *board.size)


def _pixels(board: Board, skin: Skin) -> Raster:
    count = len(skin.colors)
    colors = [*map(_bytes, skin.colors), _bytes(_FADED_PIXEL), _bytes(PAPER)]
    color = np.minimum(skin.color, count).astype(np.uint8)  # FADED is the first after the colours
    image = board.image(color, background=count + 1)
    ranks = board.image(np.arange(len(skin.color)), background=EMPTY)
    left, top = board.origin(0)
    rows, columns = image.shape
    width, height = columns * board.cell[0], rows * board.cell[1]
    return Raster(left, top, width, height, image, tuple(colors), ranks)


def _bytes(color: RGB) -> tuple[int, int, int]:
    red, green, blue = (round(255 * value) for value in color)
    return red, green, blue


def _cell(board: Board, skin: Skin, rank: int, frame: Sequence[float]) -> list[Item]:
    x, y, width, height = frame
    index, inset = int(skin.color[rank]), skin.inset
    faded = index == FADED
    face = PAPER if faded else skin.colors[index]
    border = FAINT_EDGE if faded else face if board.low else edge_of(face)
    ink = QUIET if faded else ink_on(face)
    shape = (x + inset, y + inset, width - 2 * inset, height - 2 * inset)
    border, line = (INK, 2.2) if rank in skin.bold else (border, 1.0)
    cell: list[Item] = [Box(*shape, face, border, line, rank=rank)]
    if board.low:
        return [*cell, Label(x + width / 2, y + height / 2, str(rank), SMALL, ink, "center")]
    cell.append(Label(x + 4, y + 7.5, str(rank), SMALL, ink))
    tag = skin.tags.get(rank, "")
    if board.roomy:
        cell.append(Label(x + width / 2, y + 22, skin.label(rank), skin.size, ink, "center"))
        inside = 4 + (2.5 if rank in skin.chips else 0)
        corner = x + width - inside - width_of(tag, SMALL, bold=True) / 2
        cell += _tagged(corner, y + 8, tag, skin.chips.get(rank), ink, SMALL)
    elif tag:
        # No room for both: what the picture is about comes first.
        cell += _tagged(x + width / 2, y + 19, tag, skin.chips.get(rank), ink, NORMAL)
    else:
        cell.append(Label(x + width / 2, y + 19, skin.label(rank), NORMAL, ink, "center"))
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


def _fine_titles(board: Board) -> list[Item]:
    """Return which blocks stand in each line, or of a single block its two axes."""
    if len(board.blocks) == 1:
        return _axes(board)
    _, pitch = board.fine_pitch
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


def table(board: Board, skin: Skin) -> str:
    """Return the board in characters; of a large one, its corners."""
    count, rows, _ = board.blocks.shape
    lines = [["", "", *board.column_titles]] if board.column_titles else []
    wanted = elided(count * rows, _MOST_ROWS if board.fine else count * rows)
    for line in wanted:
        if line is None:
            lines.append(["⋮"])
            continue
        block, row = divmod(line, rows)
        name = board.block_title(block) if row == 0 else ""
        ranks = [int(rank) for rank in board.blocks[block, row] if rank != EMPTY]
        title = board.row_titles[row] if board.row_titles else ""
        lines.append([name, title, *map(skin.word, ranks)])
    if board.fine:
        lines = [_shortened(line) for line in lines]
    return aligned(lines)


def _shortened(line: list[str]) -> list[str]:
    kept = elided(len(line), _MOST_COLUMNS)
    return ["…" if index is None else line[index] for index in kept]
