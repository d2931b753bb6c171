"""Where things stand in a chart: times to the right, ranks below one another."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log10

import numpy as np

from ..canvas.glyphs import width_of
from ..canvas.scene import Item, Label, stroke
from ..canvas.theme import MAX_WIDTH, PIXELS_PER_POINT, QUIET, SMALL
from .action_table import ActionTable, Floats, time_unit

AXIS_HEIGHT = 18.0

_HEAD_GAP = 8.0
_MOST_TICKS = 10
_ROW_GAP = 4.0
_TALLEST, _LOWEST, _HEIGHT = 30.0, 13.0, 250.0
_FINE_HEIGHT = 330.0
_STRIP_SHARE, _STRIP_HEIGHT = 0.9, 165.0
_NARROWEST, _MOST_BOXES = 4.0, 1500


@dataclass(frozen=True)
class Axis:
    """Where a time stands.

    Attributes
    ----------
    seconds : float
        The end of the axis; it begins at 0.
    left, width : float
        In points.
    """

    seconds: float
    left: float
    width: float

    @classmethod
    def beside(cls, seconds: float, head: str, tail: str, width: float = MAX_WIDTH) -> "Axis":
        """Leave room for the longest text left of the rows, and right of them."""
        left, right = (ceil(width_of(text, SMALL) + _HEAD_GAP) for text in (head, tail))
        return cls(seconds, left, width - left - right)

    @property
    def scale(self) -> float:
        """Points for a second."""
        return self.width / self.seconds

    @property
    def right(self) -> float:
        """Where the end stands."""
        return self.left + self.width

    def x(self, time: float) -> float:
        """Return where a time stands."""
        return self.left + time * self.scale

    def items(self, y: float) -> list[Item]:
        """Return the marks of round times, below ``y``, and their words."""
        scale, unit = time_unit(self.seconds)
        step = round_step(self.seconds / scale / _MOST_TICKS)
        last = int(self.seconds / scale / step * (1 + 1e-9))
        items: list[Item] = []
        for number in range(last + 1):
            x, word = self.x(number * step * scale), f"{number * step:g}"
            words = f"{word} {unit}" if number == last else word
            items.append(stroke(x, y, x, y + 4, QUIET, 0.8))
            items.append(Label(x, y + 12, words, SMALL, QUIET, "center"))
        return items


def round_step(least: float) -> float:
    """Return 1, 2 or 5 times a power of ten: the first that is not less.

    >>> round_step(3.3), round_step(0.16), round_step(12)
    (5.0, 0.2, 20.0)
    """
    power = 10.0 ** (ceil(log10(least)) - 1)
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))


@dataclass(frozen=True)
class RankRows:
    """How the ranks stand below one another.

    Attributes
    ----------
    count : int
        Ranks.
    pitch : float
        From one to the next, in points.
    fine : bool
        Whether actions are drawn as pixels, because boxes would be too narrow or too many.
    """

    count: int
    pitch: float
    fine: bool

    @classmethod
    def of(cls, tables: Sequence[ActionTable], axis: Axis) -> "RankRows":
        """Choose rows that suit all of these."""
        count = max(table.pp for table in tables)
        pitch = min(_TALLEST, _HEIGHT / count)
        widths = np.concatenate([typical_widths(table, axis) for table in tables])
        wide = widths[widths > 0].min(initial=np.inf) >= _NARROWEST
        if pitch >= _LOWEST and wide and sum(len(t.start) for t in tables) <= _MOST_BOXES:
            return cls(count, pitch, fine=False)
        return cls(count, whole_pixels(min(_TALLEST, _FINE_HEIGHT / count)), fine=True)

    @property
    def strip(self) -> "RankRows":
        """The lower rows in which activations are drawn."""
        pitch = min(self.pitch * _STRIP_SHARE, _STRIP_HEIGHT / self.count)
        return RankRows(self.count, whole_pixels(pitch) if self.fine else pitch, self.fine)

    @property
    def gap(self) -> float:
        """Free space between two rows; none between rows of a few pixels."""
        return 0.0 if self.fine and not self.all_named else min(_ROW_GAP, self.pitch / 5)

    @property
    def height(self) -> float:
        """Of what is drawn in a row."""
        return self.pitch - self.gap

    @property
    def all_named(self) -> bool:
        """Whether each row has room for a line of text."""
        return self.pitch >= _LOWEST

    def middle(self, rank: int) -> float:
        """Return where the middle of a row is."""
        return (rank + 0.5) * self.pitch - self.gap / 2

    def labels(self, x: float, words: Sequence[str], *, bold: bool = False) -> list[Item]:
        """Return the word of each rank, or of as many as there is room for."""
        named = range(0, len(words), ceil(_LOWEST / self.pitch))
        return [Label(x, self.middle(rank), words[rank], SMALL, bold=bold) for rank in named]


def typical_widths(table: ActionTable, axis: Axis) -> Floats:
    """Return how wide a box of each kind that occurs typically is."""
    spans = (table.end - table.start) * axis.scale
    return np.array([np.median(spans[table.kind == kind]) for kind in table.kinds])


def whole_pixels(points: float) -> float:
    """Return a length that is a whole number of pixels, at least one."""
    return max(1, int(points * PIXELS_PER_POINT)) / PIXELS_PER_POINT
