"""Time to the right: one scale for all that stands above one another."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, log10

from ..canvas.glyphs import width_of
from ..canvas.scene import Item, Label, stroke
from ..canvas.theme import MAX_WIDTH, QUIET, SMALL
from .action_table import time_unit

AXIS_HEIGHT = 18.0
PIXELS_PER_POINT = 192 / 72
"""Of the sharp screen for which rasters are made."""

_HEAD_GAP = 8.0
_MOST_TICKS = 10


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
    def beside(cls, seconds: float, head: str, tail: str) -> "Axis":
        """Leave room for the longest text left of the rows, and right of them."""
        left, right = (ceil(width_of(text, SMALL) + _HEAD_GAP) for text in (head, tail))
        return cls(seconds, left, MAX_WIDTH - left - right)

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
        items: list[Item] = []
        for time, word in self._ticks():
            x = self.x(time)
            items.append(stroke(x, y, x, y + 4, QUIET, 0.8))
            items.append(Label(x, y + 12, word, SMALL, QUIET, "center"))
        return items

    def _ticks(self) -> Iterator[tuple[float, str]]:
        scale, unit = time_unit(self.seconds)
        end = self.seconds / scale
        step = _round_step(end / _MOST_TICKS)
        count = int(end / step * (1 + 1e-9))
        for number in range(count + 1):
            word = f"{number * step:g}"
            yield number * step * scale, f"{word} {unit}" if number == count else word


def _round_step(least: float) -> float:
    """Return 1, 2 or 5 times a power of ten: the first that is not less.

    >>> _round_step(3.3), _round_step(0.16), _round_step(12)
    (5.0, 0.2, 20.0)
    """
    power = 10.0 ** (ceil(log10(least)) - 1)
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))
