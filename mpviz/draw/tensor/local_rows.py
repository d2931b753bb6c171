"""What each rank of a block computes alone: a row for each, the same steps in all."""

from dataclasses import dataclass, replace
from functools import cached_property

from ...shards import Cut, Local, Product, times
from ..canvas.glyphs import width_of
from ..canvas.scene import Box, Item, Label, shifted
from ..canvas.theme import NORMAL, PAPER, QUIET, SMALL, edge, fill, ink_on, mixed
from .block_steps import LocalStep, columns_of, done_by, heads_of, part_name
from .elements import Element, arrow
from .matrices import drawn_ranks

_MOST_ROWS = 5
_ROW_GAP, _LEFT_OUT = 7.0, 18.0
_PADDING, _STEP = 8.0, 32.0
_STRAIGHT, _SPREADING = 34.0, 52.0
_TALL, _FLAT, _FLAT_GAP = 38.0, 20.0, 4.0
_LINE, _WORD_GAP = 13.0, 5.0
_AWAY = 3.0
_TINT = 0.7


@dataclass(frozen=True)
class LocalRows:
    """The steps that each rank takes alone, at the same places in every row.

    All items start at x = 0 and stand around y = 0.

    Attributes
    ----------
    steps : tuple of Product or Local
        From left to right.
    ranks : int
        Of many, the rows in the middle are left out.
    """

    steps: tuple[LocalStep, ...]
    ranks: int

    # ---- sizes

    @cached_property
    def columns(self) -> list[list[tuple[LocalStep, Box]]]:
        """Each step with its box, around the middle of a row."""
        last = self.ranks - 1  # has the longest names
        x = max(width_of(text, SMALL, bold=True) for text in self._title(last)) + 2 * _PADDING
        columns = []
        for steps in columns_of(self.steps):
            flat = len(steps) > 1
            width = max(_width(step, last, flat=flat) for step in steps) + 2 * _PADDING
            top = -(len(steps) - 1) / 2 * (_FLAT + _FLAT_GAP)
            column = []
            for place, step in enumerate(steps):
                takes_all = isinstance(step, Local) and len(step.inputs) > 1
                tall = self.row_height - 2 * _PADDING if takes_all else _TALL
                height = _FLAT if flat else tall
                y = top + place * (_FLAT + _FLAT_GAP) - height / 2
                column.append((step, Box(x, y, width, height, PAPER, PAPER)))
            columns.append(column)
            x += width + _STEP
        return columns

    @property
    def width(self) -> float:
        """Of a row."""
        _, box = self.columns[-1][0]
        return box.x + box.width + _PADDING

    @cached_property
    def row_height(self) -> float:
        """Of one row."""
        most = max(map(len, columns_of(self.steps)))
        return max(_TALL, most * (_FLAT + _FLAT_GAP) - _FLAT_GAP) + 2 * _PADDING

    @property
    def height(self) -> float:
        """Of all rows."""
        return self.rows[-1][1] - self.rows[0][1] + self.row_height

    @cached_property
    def rows(self) -> list[tuple[int | None, float]]:
        """Each drawn rank and the middle of its row; None stands for those left out."""
        ranks = drawn_ranks(self.ranks, _MOST_ROWS)
        heights = [_LEFT_OUT if rank is None else self.row_height for rank in ranks]
        y = -(sum(heights) + _ROW_GAP * (len(ranks) - 1)) / 2
        rows = []
        for rank, height in zip(ranks, heights, strict=True):
            rows.append((rank, y + height / 2))
            y += height + _ROW_GAP
        return rows

    # ---- items

    @property
    def items(self) -> list[Item]:
        """The rows."""
        items: list[Item] = []
        for rank, y in self.rows:
            if rank is None:
                words = f"… {self.ranks - len(self.rows) + 1} more ranks"
                items.append(Label(self.width / 2, y, words, SMALL, QUIET, "center"))
            else:
                items += shifted(self._row(rank), 0, y)
        return items

    def arrows(self, cut: Cut, *, spread: bool, leaving: bool = False) -> Element:
        """Return the arrows into the rows or out of them: level, or spread from one point."""
        width = _SPREADING if spread else _STRAIGHT
        name_at = width * ((0.24 if leaving else 0.76) if spread else 0.45)
        items: list[Item] = []
        for rank, y in self.rows:
            if rank is not None:
                outside = 0 if spread else y
                start, end = (y, outside) if leaving else (outside, y)
                items += arrow(_AWAY, start, width - _AWAY, end)
                # On the side that a bent arrow leaves free.
                name_y = y + 9 if spread and y > 0 else y - 8
                items.append(_name(cut, rank, name_at, name_y))
        return items, width

    def _title(self, rank: int) -> list[str]:
        return [text for text in (f"rank {rank}", heads_of(self.steps, rank)) if text]

    def _row(self, rank: int) -> list[Item]:
        background = mixed(fill(rank), PAPER, _TINT)
        height = self.row_height
        items: list[Item] = [Box(0, -height / 2, self.width, height, background, edge(rank))]
        title = self._title(rank)
        for line, text in enumerate(title):
            y = (line - (len(title) - 1) / 2) * _LINE
            items.append(Label(_PADDING, y, text, SMALL, bold=line == 0))
        for column in self.columns:
            for step, box in column:
                face = fill(rank) if isinstance(step, Product) else PAPER
                colored = replace(box, face=face, edge=edge(rank))
                items += [colored, *_words(step, rank, colored, flat=len(column) > 1)]
        for column in self.columns[:-1]:
            for step, box in column:
                right, y = box.x + box.width, box.y + box.height / 2
                items += arrow(right + _AWAY, y, right + _STEP - _AWAY, y)
                items.append(_name(step.output, rank, right + 0.45 * _STEP, y - 8))
        return items


def _name(cut: Cut, rank: int, x: float, y: float) -> Label:
    return Label(x, y, part_name(cut, rank), SMALL, align="center")


def _lines(step: LocalStep, rank: int) -> tuple[str, str]:
    """Return the words of a box: a weight and its shape, or a function and its arguments."""
    done = done_by(step, rank)
    if isinstance(step, Product):
        return done, times(step.right.local_shape)
    function, bracket, arguments = done.partition("(")
    return function, bracket + arguments


def _width(step: LocalStep, rank: int, *, flat: bool) -> float:
    """Return the width of the words in a box."""
    first, second = _lines(step, rank)
    widths = width_of(first, NORMAL, bold=True), width_of(second, SMALL)
    return sum(widths) + _WORD_GAP if flat else max(widths)


def _words(step: LocalStep, rank: int, box: Box, *, flat: bool) -> list[Label]:
    """Return the words in a box: beside one another in a flat one, else in two lines."""
    first, second = _lines(step, rank)
    ink, x, y = ink_on(box.face), box.x + box.width / 2, box.y + box.height / 2
    if flat:
        half = _width(step, rank, flat=True) / 2
        return [
            Label(x - half, y, first, NORMAL, ink, bold=True),
            Label(x + half, y, second, SMALL, ink, "right"),
        ]
    return [
        Label(x, y - _LINE / 2, first, NORMAL, ink, "center", bold=True),
        Label(x, y + _LINE / 2, second, SMALL, ink, "center"),
    ]
