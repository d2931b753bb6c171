"""Pieces of a figure, set side by side around one line."""

from collections.abc import Iterable

from ..canvas.glyphs import box_of
from ..canvas.page import Panel
from ..canvas.scene import Box, Curve, Item, Label, shifted
from ..canvas.theme import QUIET

Piece = tuple[list[Item], float]
"""Items from x = 0 to a width, around y = 0."""

"""Items from the left top corner, with width and height."""

_STROKE, _HEAD = 1.2, 3.5
_FOOT = 5.0


def beside(pieces: Iterable[Piece]) -> Piece:
    """Join pieces from left to right."""
    items: list[Item] = []
    x = 0.0
    for piece, width in pieces:
        items += shifted(piece, x, 0)
        x += width
    return items, x


def panel(piece: Piece) -> Panel:
    """Return a piece moved down to y = 0, with its height and some air below."""
    items, width = piece
    spans = [box_of(item)[1::2] for item in items if isinstance(item, Label)]
    spans += [(item.y, item.y + item.height) for item in items if isinstance(item, Box)]
    top, bottom = min(top for top, _ in spans), max(bottom for _, bottom in spans)
    return Panel(shifted(items, 0, -top), width, bottom - top + _FOOT)


def below(panels: Iterable[Panel], gap: float) -> Panel:
    """Set panels one below the other."""
    items: list[Item] = []
    most, y = 0.0, -gap
    for part, width, height in panels:
        items += shifted(part, 0, y + gap)
        most, y = max(most, width), y + gap + height
    return Panel(items, most, y)


def arrow(x0: float, y0: float, x1: float, y1: float) -> list[Curve]:
    """Return an arrow that leaves and arrives horizontally."""
    bend = (x1 - x0) / 2
    tips = [(x1 - _HEAD, y1 + side) for side in (-_HEAD, _HEAD)]
    return [
        Curve(((x0, y0), (x0 + bend, y0), (x1 - bend, y1), (x1, y1)), QUIET, _STROKE),
        *(Curve((tip, tip, (x1, y1), (x1, y1)), QUIET, _STROKE) for tip in tips),
    ]
