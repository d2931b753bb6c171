"""Bars of memory: what a rank holds, by kind, and what it sends."""

from collections.abc import Mapping

from matplotlib.axes import Axes

from ..._checks import listed
from ..canvas.glyphs import width_of
from ..canvas.legend import SIDE, legend, swatch
from ..canvas.page import Panel, aligned, heading, page
from ..canvas.picture import Picture
from ..canvas.scene import Box, Item, Label, shifted, stroke
from ..canvas.theme import (
    CROSSING,
    FAINT_EDGE,
    MAX_WIDTH,
    PAPER,
    RGB,
    SMALL,
    edge,
    fill,
    ink_on,
    mixed,
)

_PITCH, _HEIGHT, _GAP = 26.0, 20.0, 8.0
_PALE = 0.7
"""The share of paper in the colours of bars that are not chosen."""
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
_MOST_BARS = 32
_SHORTEST = 200.0
"""Width of the longest bar, however long their names are."""

Bars = Mapping[str, Mapping[str, float]]


def memory(
    bars: Bars,
    *,
    sent: Bars | None = None,
    chosen: str | None = None,
    capacity: float | None = None,
    title: str = "Memory of one rank",
    ax: Axes | None = None,
) -> Picture:
    """Draw a bar for each rank, or each way to train, in one part for each kind of memory.

    Parameters
    ----------
    bars : mapping from str to mapping from str to float
        Of each bar, by its name: bytes by kind, such as ``{"weights": 15e9, "gradients": 15e9}``.
    sent : the same, optional
        Bytes sent in a step, by collective: a second chart below, on a scale of its own.
    chosen : str, optional
        The bar that it is about: the others are pale.
    capacity : float, optional
        Bytes that a GPU has: marked by a line.
    title : str
        What it is called.
    ax : matplotlib Axes, optional
        Draw there.

    Raises
    ------
    ValueError
        When there is nothing to draw, too much, a number of bytes is negative, or no bar has the
        name of the chosen one.

    Examples
    --------
    The paper's model of 7.5 billion parameters on 64 ranks, in 2 + 2 + 12 bytes each:

    >>> each = {"weights": 2 * 7.5e9, "gradients": 2 * 7.5e9, "optimizer": 12 * 7.5e9}
    >>> cut = {0: (), 1: ("optimizer",), 2: ("optimizer", "gradients"), 3: tuple(each)}
    >>> memory({
    ...     f"stage {stage}": {k: size / 64 if k in kinds else size for k, size in each.items()}
    ...     for stage, kinds in cut.items()
    ... })
    Memory of one rank
             weights   gradients  optimizer  in all
    stage 0  15 GB     15 GB      90 GB      120 GB
    stage 1  15 GB     15 GB      1.41 GB    31.4 GB
    stage 2  15 GB     0.234 GB   1.41 GB    16.6 GB
    stage 3  0.234 GB  0.234 GB   1.41 GB    1.88 GB
    """
    _check(bars, "holds", chosen, capacity)
    held = _Chart(bars, chosen, capacity)
    parts, text = [held.panel, held.legend], [aligned(held.lines)]
    if capacity is not None:
        text.append(f"line: {held.marked}")
    if sent is not None:
        _check(sent, "sends", chosen)
        below = _Chart(sent, chosen, hue=len(held.hues))
        parts += [heading("Sent in a step", below.panel), below.legend]
        text += ["Sent in a step", aligned(below.lines)]
    return page(title, parts, [], "\n".join(text), ax)


def _check(bars: Bars, verb: str, chosen: str | None, capacity: float | None = None) -> None:
    if not any(bars.values()):
        raise ValueError("there is no bar to draw")
    if len(bars) > _MOST_BARS:
        raise ValueError(f"{len(bars)} bars cannot be read; at most {_MOST_BARS}")
    if chosen is not None and chosen not in bars:
        raise ValueError(f"no bar {chosen!r} to choose; there are {listed(bars)}")
    for name, held in bars.items():
        for kind, size in held.items():
            _check_bytes(f"{name} {verb} {size!r} bytes of {kind}", size)
    _check_bytes(f"a GPU has {capacity!r} bytes", capacity or 0)


def _check_bytes(said: str, size: object) -> None:
    if not isinstance(size, int | float) or not 0 <= size < float("inf"):
        raise ValueError(f"{said}; expected 0 or more")


def _unit_of(size: float) -> tuple[float, str]:
    """Return the unit in which a number of bytes is said, and its bytes.

    >>> _unit_of(15e9)
    (1000000000.0, 'GB')
    """
    power = next((n for n in range(len(_UNITS)) if size < 1000 ** (n + 1)), len(_UNITS) - 1)
    return 1000.0**power, _UNITS[power]


def _said(size: float, scale: float, unit: str) -> str:
    """Say a size in three digits.

    >>> _said(31_406_250_000, 1e9, "GB")
    '31.4 GB'
    """
    return f"{size / scale:.3g} {unit}" if size < 999.5 * scale else f"{size / scale:,.0f} {unit}"


class _Chart:
    """Bars on one scale, their legend, and the same in words."""

    def __init__(
        self, bars: Bars, chosen: str | None, capacity: float | None = None, hue: int = 0
    ) -> None:
        self.bars, self.chosen, self.capacity = bars, chosen, capacity
        kinds = dict.fromkeys(kind for held in bars.values() for kind in held)
        self.hues = {kind: hue + number for number, kind in enumerate(kinds)}
        self.totals = {name: sum(held.values()) for name, held in bars.items()}
        self.longest = max(*self.totals.values(), capacity or 0.0, 1.0)

    def said(self, size: float) -> str:
        """Return a number of bytes, in one unit for all: that of a GPU's, if it is known."""
        return _said(size, *_unit_of(self.capacity or self.longest))

    @property
    def lines(self) -> list[list[str]]:
        """The sizes of all parts."""
        lines = [["", *self.hues, "in all"]]
        for name, held in self.bars.items():
            parts = [self.said(held[kind]) if kind in held else "–" for kind in self.hues]
            lines.append([self._named(name), *parts, self.said(self.totals[name])])
        return lines

    @property
    def marked(self) -> str:
        """What the line stands for."""
        return f"{self.said(self.capacity or 0)}, what a GPU has"

    @property
    def legend(self) -> Panel:
        """What the colours stand for, and the line."""
        entries = [([swatch(fill(hue))], kind) for kind, hue in self.hues.items()]
        if self.capacity is not None:
            entries.append(([Box(4, 0, 1.6, SIDE, CROSSING, CROSSING)], self.marked))
        return legend(entries)

    @property
    def panel(self) -> Panel:
        """The bars, each between its name and its size."""
        left = max(width_of(self._named(name), SMALL, bold=True) for name in self.bars) + _GAP
        right = max(width_of(self.said(n), SMALL, bold=True) for n in self.totals.values()) + _GAP
        scale = max(_SHORTEST, MAX_WIDTH - left - right) / self.longest
        line = None if self.capacity is None else left + self.capacity * scale
        items: list[Item] = []
        for row, name in enumerate(self.bars):
            items += shifted(self._bar(name, left, scale, line), 0, row * _PITCH)
        bottom = len(self.bars) * _PITCH
        items.append(stroke(left, -3, left, bottom - 3, FAINT_EDGE, 1.0))
        if line is not None:
            items.append(stroke(line, -3, line, bottom - 3, CROSSING, 1.6))
        return Panel(items, left + scale * self.longest + right, bottom)

    def _named(self, name: str) -> str:
        return f"▸ {name}" if name == self.chosen else name

    def _bar(self, name: str, left: float, scale: float, line: float | None) -> list[Item]:
        """Return one bar with its name and its size."""
        pale = _PALE if self.chosen not in (None, name) else 0.0
        middle, x, size = _HEIGHT / 2, left, self.said(self.totals[name])
        items: list[Item] = [Label(0, middle, self._named(name), SMALL, bold=name == self.chosen)]
        for kind, hue in self.hues.items():
            width = self.bars[name].get(kind, 0) * scale
            colors = mixed(fill(hue), PAPER, pale), mixed(edge(hue), PAPER, pale)
            items += _part(x, width, kind, *colors, line)
            x += width
        x += _GAP / 2
        if line is not None and x - _GAP / 2 <= line <= x + width_of(size, SMALL, bold=True):
            x = line + _GAP / 2  # else the line would run through the number
        return [*items, Label(x, middle, size, SMALL, bold=True)]


def _part(
    x: float, width: float, kind: str, face: RGB, border: RGB, line: float | None
) -> list[Item]:
    """Return one part of a bar with its name, where there is room beside the line."""
    if width <= 0:
        return []
    box = Box(x, 0, width, _HEIGHT, face, border, 0.8)
    middle, half = x + width / 2, width_of(kind, SMALL) / 2 + 3
    if line is not None and abs(line - middle) < half:
        middle = line - half if line - 2 * half >= x else line + half
    if middle - half < x or middle + half > x + width:
        return [box]
    return [box, Label(middle, _HEIGHT / 2, kind, SMALL, ink_on(face), "center")]
