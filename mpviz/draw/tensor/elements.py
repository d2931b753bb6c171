"""Elements of a figure, set side by side around one line."""

from collections.abc import Iterable, Sequence

from ..canvas.glyphs import box_of, width_of
from ..canvas.page import Panel
from ..canvas.scene import Box, Curve, Item, Label, shifted
from ..canvas.theme import QUIET

Element = tuple[list[Item], float]
"""Items from x = 0 to a width, around y = 0."""

_STROKE, _HEAD = 1.2, 3.5
_FOOT = 5.0


def beside(elements: Iterable[Element]) -> Element:
    """Join elements from left to right."""
    items: list[Item] = []
    x = 0.0
    for element, width in elements:
        items += shifted(element, x, 0)
        x += width
    return items, x


def captioned(
    items: Sequence[Item],
    size: tuple[float, float],
    captions: Sequence[Label],
    *,
    left: float = 0.0,
    right: float = 0.0,
) -> Element:
    """Set captions over and under the middle of what is drawn, with room for the widest.

    ``left`` and ``right`` is what stands out of ``size``, its width and height.
    """
    width, height = size
    widest = max(width_of(label.text, label.size, label.bold) for label in captions)
    reach = (widest - width) / 2
    left, right = max(left, reach), max(right, reach)
    moved = shifted([*items, *shifted(captions, width / 2, 0)], left, -height / 2)
    return moved, left + width + right


def panel(element: Element) -> Panel:
    """Return an element moved down to y = 0, with its height and some air below."""
    items, width = element
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
    middle = (x0 + x1) / 2
    curves = [((x0, y0), (middle, y0), (middle, y1), (x1, y1))]
    for side in (-_HEAD, _HEAD):
        tip = (x1 - _HEAD, y1 + side)
        curves.append((tip, tip, (x1, y1), (x1, y1)))
    return [Curve(points, QUIET, _STROKE) for points in curves]
