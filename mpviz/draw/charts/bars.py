"""Bars of memory: what a rank holds, by kind."""

from collections.abc import Mapping

from matplotlib.axes import Axes

from ..canvas.glyphs import width_of
from ..canvas.legend import swatches
from ..canvas.page import Panel, aligned, page
from ..canvas.picture import Picture
from ..canvas.scene import Box, Item, Label, stroke
from ..canvas.theme import CROSSING, FAINT_EDGE, MAX_WIDTH, RGB, SMALL, edge_of, fill, ink_on

_PITCH, _HEIGHT, _GAP = 26.0, 20.0, 8.0
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
_MOST_BARS = 32


def memory(
    bars: Mapping[str, Mapping[str, float]],
    *,
    capacity: float | None = None,
    title: str = "Memory of one rank",
    ax: Axes | None = None,
) -> Picture:
    """Draw a bar for each rank, or each way to train, in one part for each kind of memory.

    Parameters
    ----------
    bars : mapping from str to mapping from str to float
        Of each bar, by its name: bytes by kind, such as ``{"weights": 15e9, "gradients": 15e9}``.
    capacity : float, optional
        Bytes that a GPU has: marked by a line.
    title : str
        What it is called.
    ax : matplotlib Axes, optional
        Draw there.

    Raises
    ------
    ValueError
        When there is nothing to draw, too much, or a number of bytes is negative.

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
    kinds = list(dict.fromkeys(kind for held in bars.values() for kind in held))
    _check(bars, kinds)
    totals = {name: sum(held.values()) for name, held in bars.items()}
    longest = max(*totals.values(), capacity or 0.0)
    scale, unit = _unit_of(longest)
    lines = [["", *kinds, "in all"]]
    for name, held in bars.items():
        numbers = (held.get(kind, 0) for kind in kinds)
        lines.append(
            [name, *(_said(n, scale, unit) for n in numbers), _said(totals[name], scale, unit)]
        )
    notes = []
    if capacity is not None:
        notes.append(f"line: {_said(capacity, scale, unit)}, what a GPU has")
    faces = {fill(number): kind for number, kind in enumerate(kinds)}
    words = {name: _said(total, scale, unit) for name, total in totals.items()}
    parts = [_bars(bars, kinds, words, longest, capacity), swatches(faces)]
    return page(title, parts, notes, "\n".join([aligned(lines), *notes]), ax)


def _check(bars: Mapping[str, Mapping[str, float]], kinds: list[str]) -> None:
    if not bars or not kinds:
        raise ValueError("there is no bar to draw")
    if len(bars) > _MOST_BARS:
        raise ValueError(f"{len(bars)} bars cannot be read; at most {_MOST_BARS}")
    for name, held in bars.items():
        for kind, size in held.items():
            if not 0 <= size < float("inf"):
                raise ValueError(f"{name} holds {size!r} bytes of {kind}; expected 0 or more")


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


def _bars(
    bars: Mapping[str, Mapping[str, float]],
    kinds: list[str],
    words: Mapping[str, str],
    longest: float,
    capacity: float | None,
) -> Panel:
    left = max(width_of(name, SMALL) for name in bars) + _GAP
    right = max(width_of(word, SMALL, bold=True) for word in words.values()) + _GAP
    scale = (MAX_WIDTH - left - right) / (longest or 1.0)
    line = None if capacity is None else left + capacity * scale
    items: list[Item] = []
    for row, (name, held) in enumerate(bars.items()):
        y, x = row * _PITCH, left
        items.append(Label(0, y + _HEIGHT / 2, name, SMALL))
        for number, kind in enumerate(kinds):
            items += _part(x, y, held.get(kind, 0) * scale, kind, fill(number), line)
            x += held.get(kind, 0) * scale
        at = x + _GAP / 2
        if line is not None and x <= line <= at + width_of(words[name], SMALL, bold=True):
            at = line + _GAP / 2  # else the line would run through the number
        items.append(Label(at, y + _HEIGHT / 2, words[name], SMALL, bold=True))
    bottom = len(bars) * _PITCH
    items.append(stroke(left, -3, left, bottom - 3, FAINT_EDGE, 1.0))
    if line is not None:
        items.append(stroke(line, -3, line, bottom - 3, CROSSING, 1.6))
    return Panel(items, MAX_WIDTH, bottom)


def _part(x: float, y: float, width: float, kind: str, face: RGB, line: float | None) -> list[Item]:
    """Return one part of a bar with its name, where there is room beside the line."""
    if width <= 0:
        return []
    box = Box(x, y, width, _HEIGHT, face, edge_of(face), 0.8)
    middle, half = x + width / 2, width_of(kind, SMALL) / 2 + 3
    if line is not None and abs(line - middle) < half:
        middle = line - half if line - 2 * half >= x else line + half
    if middle - half < x or middle + half > x + width:
        return [box]
    return [box, Label(middle, y + _HEIGHT / 2, kind, SMALL, ink_on(face), "center")]
