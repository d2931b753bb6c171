"""The legend of a chart: a sample of each kind of action, and of whatever else is drawn."""

from collections.abc import Sequence
from dataclasses import replace

from ...schedule import KINDS
from ..canvas.legend import SIDE, legend
from ..canvas.page import Panel
from ..canvas.scene import Box
from ..canvas.theme import FAINT_EDGE
from .action_table import ActionTable
from .boxes import microbatches_in_a_brick
from .frame import Frame
from .style import ACTIVATION_EDGE, ACTIVATION_FACE, BUBBLE, WAIT, Style

_NAMES = [f"{letter} {words}" for letter, words in KINDS.items()]


def chart_legend(frame: Frame, tables: Sequence[ActionTable], *, activations: bool) -> Panel:
    """Return samples and their meaning: of each kind that occurs, and of what is drawn beside."""
    kinds = sorted({kind for table in tables for kind in table.kinds})
    bubble = Box(0, 0, SIDE, SIDE, BUBBLE, FAINT_EDGE, 0.8)
    entries = [(_sample(frame.style, kind), _NAMES[kind]) for kind in kinds]
    entries.append(([bubble], "bubble"))
    if not frame.rows.fine and any(True for table in tables for _ in table.waits()):
        line = Box(0, SIDE / 2 - 0.5, SIDE, 1, WAIT, WAIT, 0)
        entries.append(([bubble, line], "waits for a message"))
    if activations:
        held = Box(0, 0, SIDE, SIDE, ACTIVATION_FACE, ACTIVATION_EDGE, 0.8)
        entries.append(([held], _held(frame.strip)))
    return legend(entries)


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
    row = [Box(0, 0, SIDE * style.tints, SIDE, BUBBLE, FAINT_EDGE, 0.8)]
    bar = Box(0, top * SIDE, SIDE, (bottom - top) * SIDE, BUBBLE, style.edge(kind), 0.8)
    bars = [replace(bar, x=tint * SIDE, face=style.face(kind, tint)) for tint in range(style.tints)]
    return row + bars if style.kind_by_span else bars
