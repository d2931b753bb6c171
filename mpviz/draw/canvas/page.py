"""The page: panels below or beside one another under a title, with notes, and their text."""

from collections.abc import Sequence
from itertools import zip_longest
from typing import NamedTuple

from matplotlib.axes import Axes

from .glyphs import width_of
from .picture import Picture
from .scene import Box, Item, Label, Scene, shifted
from .theme import NORMAL, QUIET, RGB, SMALL, TITLE, ink_on


class Panel(NamedTuple):
    """A part of a picture: its items, and its size in points."""

    items: list[Item]
    width: float
    height: float


_MARGIN = 12.0
_LINE = 14.0
_HEADING = 20.0


def page(
    title: str,
    panels: Sequence[Panel],
    notes: Sequence[str],
    text: str,
    ax: Axes | None,
    *,
    beside: bool = False,
) -> Picture:
    """Put a title above the panels, which stand one below the other or ``beside``, and notes below.

    ``text`` is their twin; it follows the title.
    """
    items: list[Item] = []
    x, y, right, bottom = _MARGIN, _MARGIN + 1.9 * TITLE, 0.0, 0.0
    for panel, width, height in panels:
        items += shifted(panel, x, y)
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


def heading(words: str, panel: Panel) -> Panel:
    """Return a panel under its name."""
    items, width, height = panel
    name = Label(0, NORMAL / 2, words, NORMAL, bold=True)
    width = max(width, width_of(words, NORMAL, bold=True))
    return Panel([name, *shifted(items, 0, _HEADING)], width, _HEADING + height)


def chip_of(x: float, y: float, tag: str, face: RGB, size: float) -> tuple[Box, Label]:
    """Return a tag on a background of its own, around a point."""
    width, height = width_of(tag, size, bold=True) + 5, size + 1.5
    box = Box(x - width / 2, y - height / 2, width, height, face, QUIET, 0.8)
    return box, Label(x, y, tag, size, ink_on(face), "center", bold=True)


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Join words to lines with straight columns; empty columns vanish."""
    widths = [max(map(len, column)) for column in zip_longest(*lines, fillvalue="")]
    return "\n".join(
        "  ".join(
            word.ljust(width) for word, width in zip(line, widths, strict=False) if width
        ).rstrip()
        for line in lines
    )


def elided(count: int, most: int) -> list[int | None]:
    """Return the numbers below ``count``; None stands for those left out of the middle.

    >>> elided(64, most=4)
    [0, 1, None, 63]
    """
    if count <= most:
        return list(range(count))
    return [*range(most - 2), None, count - 1]


def elided_words(words: Sequence[str], most: int) -> list[str]:
    """Return the words; of more than ``most``, an ellipsis for those left out of the middle."""
    return ["…" if n is None else words[n] for n in elided(len(words), most)]
