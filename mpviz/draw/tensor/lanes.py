"""What each rank of a block computes alone: a lane for each, the same steps in all."""

from dataclasses import dataclass
from functools import cached_property

from ...shards import Cut, Local, Product, times
from ..canvas.glyphs import width_of
from ..canvas.scene import Box, Item, Label, shifted
from ..canvas.theme import NORMAL, PAPER, QUIET, SMALL, edge, fill, ink_on, mixed
from .matrices import drawn_ranks
from .pieces import Piece, arrow
from .steps import Inner, done_by, heads_of, named, stages_of

_MOST_LANES = 5
_LANE_GAP, _LEFT_OUT = 7.0, 18.0
_PADDING, _STEP = 8.0, 32.0
_HANDING, _SPREADING = 34.0, 52.0
_TALL, _FLAT, _FLAT_GAP = 38.0, 20.0, 4.0
_LINE, _WORD_GAP = 13.0, 5.0
_AWAY = 3.0
_TINT = 0.7


@dataclass(frozen=True)
class Lanes:
    """The steps that each rank takes alone, at the same places in every lane.

    All items start at x = 0 and stand around y = 0.

    Attributes
    ----------
    inner : tuple of Product or Local
        The steps.
    ranks : int
        Of many, the lanes in the middle are left out.
    """

    inner: tuple[Inner, ...]
    ranks: int

    # ---- sizes

    @cached_property
    def stages(self) -> list[list[Inner]]:
        """The boxes of a lane from left to right; what is side by side stands in one column."""
        return stages_of(self.inner)

    @cached_property
    def columns(self) -> list[tuple[float, float]]:
        """Left edge and width of the boxes of each stage."""
        last = self.ranks - 1  # has the longest names
        x = max(width_of(text, SMALL, bold=True) for text in self._title(last)) + 2 * _PADDING
        columns = []
        for stage in self.stages:
            width = max(_width(step, last, flat=len(stage) > 1) for step in stage) + 2 * _PADDING
            columns.append((x, width))
            x += width + _STEP
        return columns

    @property
    def width(self) -> float:
        """Of a lane."""
        return sum(self.columns[-1]) + _PADDING

    @property
    def lane_height(self) -> float:
        """Of one lane."""
        return max(_TALL, _stacked(max(map(len, self.stages)))) + 2 * _PADDING

    @property
    def height(self) -> float:
        """Of all lanes."""
        return self.rows[-1][1] + self.lane_height / 2 - (self.rows[0][1] - self.lane_height / 2)

    @cached_property
    def rows(self) -> list[tuple[int | None, float]]:
        """Each drawn rank and the middle of its lane; None stands for those left out."""
        ranks = drawn_ranks(self.ranks, _MOST_LANES)
        heights = [_LEFT_OUT if rank is None else self.lane_height for rank in ranks]
        y = -(sum(heights) + _LANE_GAP * (len(ranks) - 1)) / 2
        rows = []
        for rank, height in zip(ranks, heights, strict=True):
            rows.append((rank, y + height / 2))
            y += height + _LANE_GAP
        return rows

    # ---- items

    @property
    def items(self) -> list[Item]:
        """The lanes."""
        items: list[Item] = []
        for rank, y in self.rows:
            if rank is None:
                left_out = self.ranks - len(self.rows) + 1
                words = f"… {left_out} more ranks"
                items.append(Label(self.width / 2, y, words, SMALL, QUIET, "center"))
            else:
                items += shifted(self._lane(rank), 0, y)
        return items

    def entering(self, cut: Cut, *, together: bool) -> Piece:
        """Return the arrows into the lanes: all from one place, or each at its own height."""
        width = _SPREADING if together else _HANDING
        items: list[Item] = []
        for rank, y in self._drawn:
            items += arrow(_AWAY, 0 if together else y, width - _AWAY, y)
            items.append(_handed(cut, rank, width * (0.76 if together else 0.45), y, together))
        return items, width

    def leaving(self, cut: Cut, *, together: bool) -> Piece:
        """Return the arrows out of the lanes, likewise."""
        width = _SPREADING if together else _HANDING
        items: list[Item] = []
        for rank, y in self._drawn:
            items += arrow(_AWAY, y, width - _AWAY, 0 if together else y)
            items.append(_handed(cut, rank, width * (0.24 if together else 0.45), y, together))
        return items, width

    @property
    def _drawn(self) -> list[tuple[int, float]]:
        return [(rank, y) for rank, y in self.rows if rank is not None]

    def _title(self, rank: int) -> list[str]:
        return [text for text in (f"rank {rank}", heads_of(self.inner, rank)) if text]

    def _lane(self, rank: int) -> list[Item]:
        ground = mixed(fill(rank), PAPER, _TINT)
        height = self.lane_height
        items: list[Item] = [Box(0, -height / 2, self.width, height, ground, edge(rank))]
        title = self._title(rank)
        for line, text in enumerate(title):
            y = (line - (len(title) - 1) / 2) * _LINE
            items.append(Label(_PADDING, y, text, SMALL, bold=line == 0))
        for stage, (x, width) in zip(self.stages, self.columns, strict=True):
            for step, (y, tall) in zip(stage, self._places(stage), strict=True):
                flat = len(stage) > 1
                items += shifted(_done(step, rank, width, tall, flat=flat), x, y - tall / 2)
        for stage, (x, width) in zip(self.stages[:-1], self.columns, strict=False):
            for step, (y, _) in zip(stage, self._places(stage), strict=True):
                items += arrow(x + width + _AWAY, y, x + width + _STEP - _AWAY, y)
                items.append(_handed(step.output, rank, x + width + 0.45 * _STEP, y))
        return items

    def _places(self, stage: list[Inner]) -> list[tuple[float, float]]:
        """Return middle and height of each box of a stage."""
        if len(stage) > 1:
            pitch = _FLAT + _FLAT_GAP
            return [((n - (len(stage) - 1) / 2) * pitch, _FLAT) for n in range(len(stage))]
        takes_all = isinstance(stage[0], Local) and len(stage[0].inputs) > 1
        return [(0.0, self.lane_height - 2 * _PADDING if takes_all else _TALL)]


def _stacked(boxes: int) -> float:
    """Return the height of boxes one above the other."""
    return boxes * (_FLAT + _FLAT_GAP) - _FLAT_GAP


def _handed(cut: Cut, rank: int, x: float, y: float, spread: bool = False) -> Label:
    """Return the name of what an arrow hands on, on the side that a bent arrow leaves free."""
    return Label(x, y + (9 if spread and y > 0 else -8), named(cut, rank), SMALL, align="center")


# ---- one box


def _lines(step: Inner, rank: int) -> tuple[str, str]:
    """Return the words of a box: a weight and its shape, or a function and its arguments."""
    done = done_by(step, rank)
    if isinstance(step, Product):
        return done, times(step.right.local_shape)
    function, bracket, arguments = done.partition("(")
    return function, bracket + arguments


def _width(step: Inner, rank: int, *, flat: bool) -> float:
    """Return the width of the words in a box."""
    first, second = _lines(step, rank)
    widths = width_of(first, NORMAL, bold=True), width_of(second, SMALL)
    return sum(widths) + _WORD_GAP if flat else max(widths)


def _done(step: Inner, rank: int, width: float, height: float, *, flat: bool) -> list[Item]:
    """Return the box of one step: a weight in the rank's colour, a function in white."""
    face = fill(rank) if isinstance(step, Product) else PAPER
    ink = ink_on(face)
    first, second = _lines(step, rank)
    if flat:
        left = (width - _width(step, rank, flat=True)) / 2
        words = [
            Label(left, height / 2, first, NORMAL, ink, bold=True),
            Label(width - left, height / 2, second, SMALL, ink, "right"),
        ]
    else:
        words = [
            Label(width / 2, (height - _LINE) / 2, first, NORMAL, ink, "center", bold=True),
            Label(width / 2, (height + _LINE) / 2, second, SMALL, ink, "center"),
        ]
    return [Box(0, 0, width, height, face, edge(rank)), *words]
