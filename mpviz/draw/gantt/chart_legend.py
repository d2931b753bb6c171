"""The legend of a chart: a sample of each kind of action, and of whatever else is drawn."""

from collections.abc import Sequence
from dataclasses import replace

from ...schedule import KINDS
from ..canvas.glyphs import width_of
from ..canvas.page import Panel
from ..canvas.scene import Box, Item, Label, shifted
from ..canvas.theme import FAINT_EDGE, MAX_WIDTH, SMALL
from .action_table import ActionTable
from .boxes import microbatches_in_a_brick
from .frame import Frame
from .style import BUBBLE, HELD_EDGE, HELD_FACE, WAIT, Style

_NAMES = [f"{letter} {words}" for letter, words in KINDS.items()]
_LINE, _SIDE, _GAP = 15.0, 10.0, 16.0


def legend(frame: Frame, tables: Sequence[ActionTable], *, activations: bool) -> Panel:
    """Return samples and their meaning: of each kind that occurs, and of what is drawn beside."""
    kinds = sorted({kind for table in tables for kind in table.kinds})
    bubble = Box(0, 0, _SIDE, _SIDE, BUBBLE, FAINT_EDGE, 0.8)
    entries = [(_sample(frame.style, kind), _NAMES[kind]) for kind in kinds]
    entries.append(([bubble], "bubble"))
    if not frame.rows.fine and any(True for table in tables for _ in table.waits()):
        line = Box(0, _SIDE / 2 - 0.5, _SIDE, 1, WAIT, WAIT, 0)
        entries.append(([bubble, line], "waits for a message"))
    if activations:
        held = Box(0, 0, _SIDE, _SIDE, HELD_FACE, HELD_EDGE, 0.8)
        entries.append(([held], _held(frame.strip)))
    return _in_lines(entries)


def _held(strip: Frame) -> str:
    """Return what a brick in a strip, or the colour where there are none, stands for."""
    if strip.style.low:
        return "activations held, the darker the more"
    if strip.rows.fine:
        return "activations held"
    each = microbatches_in_a_brick(strip)
    held = "a microbatch" if each == 1 else f"{each} microbatches"
    return f"activations of {held}" + (" in one stage" if strip.style.chunks > 1 else "")


def _sample(style: Style, kind: int) -> list[Box]:
    """Return a bar of each tint, standing in a row as it does in the chart."""
    top, bottom = style.span(kind)
    row = [Box(0, 0, _SIDE * style.tints, _SIDE, BUBBLE, FAINT_EDGE, 0.8)]
    bar = Box(0, top * _SIDE, _SIDE, (bottom - top) * _SIDE, BUBBLE, style.edge(kind), 0.8)
    bars = [
        replace(bar, x=tint * _SIDE, face=style.face(kind, tint)) for tint in range(style.tints)
    ]
    return row + bars if style.spans_tell else bars


def _in_lines(entries: Sequence[tuple[list[Box], str]]) -> Panel:
    """Return the samples with their words, in as many lines as they need."""
    items: list[Item] = []
    x, y, right = 0.0, 0.0, 0.0
    for sample, words in entries:
        start = max(box.x + box.width for box in sample) + 5
        width = start + width_of(words, SMALL)
        if x and x + width > MAX_WIDTH:
            x, y = 0.0, y + _LINE
        items += [*shifted(sample, x, y), Label(x + start, y + _SIDE / 2, words, SMALL)]
        right = max(right, x + width)
        x += width + _GAP
    return Panel(items, right, y + _SIDE)
