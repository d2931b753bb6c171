"""From a board and its colours to a picture and its twin in text."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from .board import EMPTY, Board
from .glyphs import width_of
from .picture import Picture
from .scene import Box, Item, Label, Raster, Scene, shifted
from .theme import (
    CROSSING,
    FAINT_EDGE,
    FRAME,
    NORMAL,
    PAPER,
    QUIET,
    RGB,
    SMALL,
    SYMBOL,
    TITLE,
    edge,
    fill,
    ink_on,
)

SWATCHES = 24
"""Distinct backgrounds; more pieces or groups use them again from the start."""

FADED = SWATCHES
"""The colour index of a rank that is not spoken of."""

_MARGIN = 12.0
_LINE = 14.0
_FADED_PIXEL: RGB = (0.92, 0.92, 0.92)
_MOST_ROWS, _MOST_COLUMNS = 12, 10


@dataclass(frozen=True)
class Skin:
    """How each rank's cell looks.

    Attributes
    ----------
    color : ndarray of uint8, shape (ranks,)
        Index of its background, or `FADED`.
    label : callable
        The large text of a rank.
    tags : mapping from rank to str
        A short mark in the cell's corner.
    crossing : ndarray of bool, shape (ranks,), optional
        Which cells have the dashed border of a group that leaves its node.
    size : float
        Of the label, where a cell has room.
    """

    color: NDArray[np.uint8]
    label: Callable[[int], str]
    tags: Mapping[int, str] = field(default_factory=dict)
    crossing: NDArray[np.bool_] | None = None
    size: float = SYMBOL

    def word(self, rank: int) -> str:
        """Return what stands for a rank in the text twin."""
        if self.color[rank] == FADED:
            return "·"
        tag = f" {self.tags[rank]}" if rank in self.tags else ""
        return f"{self.label(rank)} {rank}{tag}"


def cycled(indices: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return colour indices for any number of pieces, copies or groups."""
    return (indices % SWATCHES).astype(np.uint8)


# ---- the page


def page(
    title: str,
    parts: Sequence[tuple[Sequence[Item], float, float]],
    notes: Sequence[str],
    text: str,
    ax: Axes | None,
    *,
    beside: bool = False,
) -> Picture:
    """Put a title above the parts and notes below them.

    Each part is its items with their width and height; parts stand side by side or one below
    the other.
    """
    items: list[Item] = []
    x, y, right, bottom = _MARGIN, _MARGIN + 1.9 * TITLE, 0.0, 0.0
    for part, width, height in parts:
        items += shifted(part, x, y)
        right, bottom = max(right, x + width), max(bottom, y + height)
        if beside:
            x = right + 2 * _MARGIN
        else:
            y = bottom + _MARGIN
    items.append(Label(_MARGIN, _MARGIN + TITLE / 2, title, TITLE, bold=True))
    right = max(right, _MARGIN + width_of(title, TITLE, bold=True))
    for number, note in enumerate(notes):
        items.append(Label(_MARGIN, bottom + (number + 1) * _LINE, note, SMALL, QUIET))
        right = max(right, _MARGIN + width_of(note, SMALL))
    scene = Scene(right + _MARGIN, bottom + len(notes) * _LINE + _MARGIN, tuple(items))
    return Picture(scene, f"{title}\n{text}", ax)


# ---- cells


def cells(board: Board, skin: Skin) -> tuple[list[Item], float, float]:
    """Return the items of a board, with its width and height."""
    items = _titles(board)
    if board.fine:
        colors = [_pixel(fill(index)) for index in range(SWATCHES)]
        colors += [_pixel(_FADED_PIXEL), _pixel(PAPER)]
        width, height = board.size
        image = board.image(skin.color, background=FADED + 1)
        ranks = board.image(np.arange(len(skin.color)), background=EMPTY)
        place = board.head, 0, width - board.head, height
        items.append(Raster(*place, image, tuple(colors), ranks))
    else:
        if board.framed:
            items += [Box(*around, FRAME, FAINT_EDGE) for around in board.enclosures()]
        for rank, frame in enumerate(board.frames().tolist()):
            items += _cell(board, skin, rank, frame)
    return items, *board.size


def _pixel(color: RGB) -> tuple[int, int, int]:
    red, green, blue = (round(255 * value) for value in color)
    return red, green, blue


def _cell(board: Board, skin: Skin, rank: int, frame: Sequence[float]) -> list[Item]:
    x, y, width, height = frame
    index = int(skin.color[rank])
    faded = index == FADED
    face = PAPER if faded else fill(index)
    crossing = skin.crossing is not None and bool(skin.crossing[rank]) and not faded
    border = CROSSING if crossing else FAINT_EDGE if faded else edge(index)
    ink = QUIET if faded else ink_on(face)
    cell: list[Item] = [
        Box(x, y, width, height, face, border, 1.8 if crossing else 1.0, crossing, rank),
        Label(x + 4, y + 7.5, str(rank), SMALL, ink),
    ]
    tag = skin.tags.get(rank, "")
    if board.roomy:
        cell.append(Label(x + width / 2, y + 22, skin.label(rank), skin.size, ink, "center"))
        cell.append(Label(x + width - 4, y + 7.5, tag, SMALL, ink, "right", bold=True))
    else:
        # No room for both: what the picture is about comes first.
        shown = tag or skin.label(rank)
        cell.append(Label(x + width / 2, y + 19, shown, NORMAL, ink, "center", bool(tag)))
    return cell


def _titles(board: Board) -> list[Item]:
    """Return the names of blocks, rows and columns."""
    items: list[Item] = []
    rows = board.blocks.shape[1]
    if board.fine:
        _, pitch = board.fine_pitch
        every = max(1, int(np.ceil(1.3 * NORMAL / pitch)))
        for row in range(0, board.down, every):
            y = row * pitch + board.cell[1] * rows / 2
            items.append(Label(0, y, board.block_title(row * board.across), NORMAL, bold=True))
        return items
    width, height = board.cell
    for block in range(len(board.blocks)):
        x, y = board.origin(block)
        left = x - board.head
        items.append(Label(left, y + height / 2, board.block_title(block), NORMAL, bold=True))
        for row, title in enumerate(board.row_titles):
            at = y + (row + 0.5) * height
            items.append(Label(left + board.title_width, at, title, SMALL, QUIET))
        if block < board.across:
            for column, title in enumerate(board.column_titles):
                at = x + (column + 0.5) * width - 2
                items.append(Label(at, 6, title, SMALL, QUIET, "center"))
    return items


# ---- the twin in text


def table(board: Board, skin: Skin) -> str:
    """Return the board in characters; of a large one, its corners."""
    count, rows, _ = board.blocks.shape
    lines = [["", "", *board.column_titles]] if board.column_titles else []
    wanted = _elided(count * rows, _MOST_ROWS if board.fine else count * rows)
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


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Join words to lines with straight columns; empty columns vanish."""
    widths = [max(map(len, column)) for column in zip_longest(*lines, fillvalue="")]
    return "\n".join(
        "  ".join(
            word.ljust(width) for word, width in zip(line, widths, strict=False) if width
        ).rstrip()
        for line in lines
    )


def _elided(count: int, most: int) -> list[int | None]:
    """Return the numbers below ``count``; None stands for those left out of the middle."""
    if count <= most:
        return list(range(count))
    return [*range(most - 2), None, count - 1]


def _shortened(line: list[str]) -> list[str]:
    kept = _elided(len(line), _MOST_COLUMNS)
    return ["…" if index is None else line[index] for index in kept]
