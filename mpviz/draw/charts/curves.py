"""Curves over the steps of a training, one over the other."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import ceil, floor, hypot, isfinite

from matplotlib.axes import Axes

from ..canvas.glyphs import width_of
from ..canvas.legend import SIDE, legend
from ..canvas.page import Panel, aligned, page
from ..canvas.picture import Picture
from ..canvas.scene import Box, Curve, Item, Label, stroke
from ..canvas.theme import FAINT_EDGE, MAX_WIDTH, PALETTE, PAPER, QUIET, RGB, SMALL, mixed
from ..gantt.axis import round_step

_HEIGHT, _GAP = 190.0, 8.0
_MOST_TICKS, _MOST_LEVELS, _MOST_COLUMNS = 10, 5, 8
_MOST_POINTS = 600
_WIDE, _THIN = 6.0, 1.6
_HUES = (4, 5, 2, 6, 0, 3, 7, 1)

Values = Sequence[float]
Point = tuple[float, float]


def curves(
    named: Mapping[str, Values],
    *,
    title: str = "Loss",
    steps: int | None = None,
    digits: int = 2,
    ax: Axes | None = None,
) -> Picture:
    """Draw a value of each step of a training, and that of other trainings over it.

    The first curve is wide and pale, so that one that is equal can be seen upon it.

    Parameters
    ----------
    named : mapping from str to sequence of float
        By the name of the curve, its value at step 0, 1, 2 …. One that is not finite leaves a gap.
    title : str
        What the values are.
    steps : int, optional
        How many there will be, if more than there are.
    digits : int
        Behind the point in the text twin, which has the values of a few round steps.
    ax : matplotlib Axes, optional
        Draw there.

    Raises
    ------
    ValueError
        When there is no curve, or more than can be told apart.

    Examples
    --------
    >>> curves({"1 process": [3.5, 3.1, 2.2, 1.5], "16 ranks": [3.5, 3.1]})
    Loss
    step       0     1     2     3
    1 process  3.50  3.10  2.20  1.50
    16 ranks   3.50  3.10  –     –
    """
    if not 0 < len(named) <= len(_HUES):
        raise ValueError(f"a chart shows 1 … {len(_HUES)} curves, got {len(named)}")
    last = max(1, (steps or 1) - 1, *(len(values) - 1 for values in named.values()))
    colors = _colors(len(named))
    entries = [
        ([Box(0, SIDE / 2 - line / 2, 2 * SIDE, line, color, color, 0)], name)
        for name, (color, line) in zip(named, colors, strict=True)
    ]
    panels = [_plot(list(named.values()), colors, last), legend(entries)]
    return page(title, panels, [], _text(named, last, digits), ax)


def _colors(count: int) -> list[tuple[RGB, float]]:
    """Return the colour and the width of each curve: of several, the first is wide and pale."""
    faces = [(PALETTE[hue], _THIN) for hue in _HUES[:count]]
    if count > 1:
        faces[0] = mixed(faces[0][0], PAPER, 0.55), _WIDE
    return faces


def _plot(curves: Sequence[Values], colors: Sequence[tuple[RGB, float]], last: int) -> Panel:
    """Return the curves over their axes."""
    levels = _levels([value for values in curves for value in values if isfinite(value)])
    low, high = levels[0], levels[-1]
    left = max(width_of(f"{value:g}", SMALL) for value in levels) + _GAP
    width = MAX_WIDTH - left - width_of(f"step {last:,}", SMALL) / 2
    across, down = width / last, _HEIGHT / (high - low)
    items: list[Item] = []
    for value in levels:
        y = (high - value) * down
        items.append(stroke(left, y, left + width, y, FAINT_EDGE, 0.8))
        items.append(Label(left - _GAP, y, f"{value:g}", SMALL, QUIET, "right"))
    for step in range(0, last + 1, _apart(last, _MOST_TICKS)):
        x = left + step * across
        items.append(stroke(x, _HEIGHT, x, _HEIGHT + 4, QUIET, 0.8))
        words = f"{step:,}" if step else "step 0"
        items.append(Label(x, _HEIGHT + 12, words, SMALL, QUIET, "center"))
    for values, (color, line) in zip(curves, colors, strict=True):
        points = [(left + n * across, (high - value) * down) for n, value in _thinned(values)]
        segments = (ends for ends in pairwise(points) if all(isfinite(y) for _, y in ends))
        items += [_segment(*ends, color, line) for ends in segments]
    return Panel(items, MAX_WIDTH, _HEIGHT + 18)


def _levels(values: Values) -> list[float]:
    """Return round values from below the least to above the greatest.

    From 0, unless the upper half would hold them all.

    >>> _levels([3.5, 0.4]), _levels([3.5, 3.2])
    ([0.0, 1.0, 2.0, 3.0, 4.0], [3.2, 3.3, 3.4, 3.5])
    """
    low, high = min(values, default=0.0), max(values, default=1.0)
    if 0 < low < high / 2:
        low = 0.0
    step = round_step(max((high - low) / _MOST_LEVELS, 1e-9, abs(high) * 1e-9))
    first, last = floor(low / step + 1e-6), ceil(high / step - 1e-6)
    return [round(n * step, 12) for n in range(first, max(last, first + 1) + 1)]


def _segment(start: Point, end: Point, color: RGB, line: float) -> Curve:
    """Return a stroke that is a little longer, so that the next one joins without a gap."""
    (x0, y0), (x1, y1) = start, end
    longer = line / 4 / hypot(x1 - x0, y1 - y0)
    dx, dy = longer * (x1 - x0), longer * (y1 - y0)
    return stroke(x0 - dx, y0 - dy, x1 + dx, y1 + dy, color, line)


def _thinned(values: Values) -> list[tuple[int, float]]:
    """Return the values with their steps; of very many, some, and the last."""
    numbered = list(enumerate(values))
    every = ceil(len(numbered) / _MOST_POINTS) or 1
    return numbered[::every] + (numbered[-1:] if (len(numbered) - 1) % every else [])


def _apart(last: int, most: int) -> int:
    """Return the round number of steps between two that are named."""
    return max(1, round(round_step(last / most)))


def _text(named: Mapping[str, Values], last: int, digits: int) -> str:
    """Return the values at a few round steps, and at the last."""
    steps = [*range(0, last, _apart(last, _MOST_COLUMNS)), last]
    lines = [["step", *(f"{step:,}" for step in steps)]]
    for name, values in named.items():
        said = [f"{values[n]:.{digits}f}" if n < len(values) else "–" for n in steps]
        lines.append([name, *said])
    return aligned(lines)
