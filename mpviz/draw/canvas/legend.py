"""The legend of any picture: samples with what each stands for, in lines or in columns."""

from collections.abc import Iterable, Mapping, Sequence
from math import ceil

from .glyphs import width_of
from .page import Panel
from .scene import Box, Item, Label, shifted
from .theme import MAX_WIDTH, RGB, SMALL, edge_of

SIDE = 10.0
"""Height of a sample."""

ROW = 15.0
"""From one entry of a column to the next."""

_LINE, _GAP = 14.0, 18.0


def legend(entries: Iterable[tuple[Sequence[Box], str]], most: float = MAX_WIDTH) -> Panel:
    """Return samples, each with its words, in as many lines of at most ``most`` as they need."""
    items: list[Item] = []
    x, y, right = 0.0, 0.0, 0.0
    for sample, words in entries:
        start = max(box.x + box.width for box in sample) + 5
        width = start + width_of(words, SMALL)
        if x and x + width > most:
            x, y = 0.0, y + _LINE
        items += shifted([*sample, Label(start, SIDE / 2, words, SMALL)], x, y)
        right = max(right, x + width)
        x += width + _GAP
    return Panel(items, right, y + SIDE)


def swatches(named: Mapping[RGB, str], most: float = MAX_WIDTH) -> Panel:
    """Return colours with what each stands for."""
    return legend((([swatch(color)], words) for color, words in named.items()), most)


def swatch(color: RGB) -> Box:
    """Return a sample of a colour."""
    return Box(0, 0, SIDE, SIDE, color, edge_of(color))


def in_columns(entries: Sequence[Panel], height: float) -> Panel:
    """Return entries of one width in a column of at most ``height``, else in several columns."""
    width, count = entries[0].width, len(entries)
    rows = max(1, int(height // ROW) - 1)
    if rows < count:
        rows = ceil(count / max(1, int(MAX_WIDTH // width)))
    items: list[Item] = []
    for place, entry in enumerate(entries):
        column, row = divmod(place, rows)
        items += shifted(entry.items, column * width, row * ROW)
    return Panel(items, ceil(count / rows) * width, min(rows, count) * ROW)
