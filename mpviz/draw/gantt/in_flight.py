"""The strip under a chart: how many activations each rank holds, brick upon brick."""

from collections.abc import Iterator, Sequence
from math import ceil

from ..canvas.page import Panel
from ..canvas.scene import Box, Item, Label, stroke
from ..canvas.theme import FAINT_EDGE, MAX_WIDTH, SMALL
from . import pixels
from .action_table import Work
from .axis import Axis
from .boxes import Rows
from .style import HELD_EDGE, HELD_FACE, Look

_SHARE, _HEIGHT = 0.9, 165.0
_LOWEST_BRICK = 2.0


def strip(work: Work, axis: Axis, chart: Rows, look: Look, most: int) -> Panel:
    """Return a row for each rank, as high as ``most`` activations, and its peak at the right."""
    rows = _rows(chart)
    items: list[Item] = rows.names(work.pp)
    if rows.fine:
        items.append(pixels.held(work, axis, rows, look, most))
    else:
        items += bricks(work, axis, rows, most)
    for rank in rows.named:
        if rank < work.pp:
            peak = f"peak {work.timeline.peak_in_flight[rank]}"
            items.append(Label(axis.right + 6, rows.middle(rank), peak, SMALL))
    return Panel(items, MAX_WIDTH, work.pp * rows.pitch)


def meaning(chart: Rows, look: Look, most: int) -> str:
    """Return what a brick, or the colour where there are none, stands for."""
    if look.low:
        return "activations held, the darker the more"
    if chart.fine:
        return "activations held"
    each = _in_a_brick(_rows(chart), most)
    whose = "a microbatch" if each == 1 else f"{each} microbatches"
    return f"activations of {whose}" + (" in one stage" if look.chunks > 1 else "")


def _rows(chart: Rows) -> Rows:
    return chart.lower(_SHARE, _HEIGHT)


def _in_a_brick(rows: Rows, most: int) -> int:
    """Return how many activations a brick stands for, so that it can be seen."""
    return ceil(most * _LOWEST_BRICK / (rows.pitch - rows.gap))


def bricks(work: Work, axis: Axis, rows: Rows, most: int) -> Iterator[Item]:
    """Yield the floor of each rank and what lies on it, in rows of ``most`` activations."""
    height = rows.pitch - rows.gap
    each = _in_a_brick(rows, most)
    thickness = height / ceil(most / each)
    for rank, steps in enumerate(work.timeline.in_flight):
        bottom = rank * rows.pitch + height
        yield stroke(axis.left, bottom, axis.x(work.seconds), bottom, FAINT_EDGE, 0.8)
        for layer, start, end in _layers(steps, each, work.origin + work.seconds):
            x, y = axis.x(start - work.origin), bottom - (layer + 1) * thickness
            width = (end - start) * axis.scale
            yield Box(x, y, width, thickness, HELD_FACE, HELD_EDGE, 0.6)


def _layers(
    steps: Sequence[tuple[float, int]], each: int, end: float
) -> Iterator[tuple[int, float, float]]:
    """Yield each brick: how many are below it, from when to when it lies there."""
    lying: list[float] = []
    for time, count in (*steps, (end, 0)):
        height = ceil(max(count, 0) / each)
        while len(lying) > height:
            since = lying.pop()
            yield len(lying), since, time
        lying += [time] * (height - len(lying))
