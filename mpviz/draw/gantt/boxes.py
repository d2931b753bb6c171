"""Actions and activations as boxes: each as long as it lasts, in the row of its rank."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import ceil

from ..canvas.glyphs import width_of
from ..canvas.scene import Box, Item, Label, stroke
from ..canvas.theme import FAINT_EDGE, INK, SMALL, ink_on
from .action_table import KIND_ORDER, ActionTable
from .frame import Frame
from .style import ACTIVATION_EDGE, ACTIVATION_FACE, BUBBLE, WAIT

_PADDING = 3.0
_LOWEST_TEXT = 9.0
_LOWEST_BRICK = 2.0


def boxes(table: ActionTable, frame: Frame, at: float | None) -> list[Item]:
    """Return the bubble of each rank, its waits, and a box for each action.

    What is under way at a moment comes last, with a strong border.
    """
    axis, rows, style = frame.axis, frame.rows, frame.style
    bubble = Box(axis.left, 0, axis.scale * table.seconds, rows.height, BUBBLE, FAINT_EDGE, 0.8)
    items: list[Item] = [replace(bubble, y=rank * rows.pitch) for rank in range(table.pp)]
    for event, start, end in table.waits():
        y = event.rank * rows.pitch + rows.height / 2
        items.append(stroke(axis.x(start), y, axis.x(end), y, WAIT, 1.0))
    columns = (table.rank, table.kind, table.chunk, table.microbatch, table.start, table.end)
    under_way = set() if at is None else set(table.doing(at))
    active: list[Box] = []
    for action, (rank, kind, chunk, microbatch, start, end) in enumerate(
        zip(*(column.tolist() for column in columns), strict=True)
    ):
        top, bottom = style.span(kind)
        y, height = rank * rows.pitch + top * rows.height, (bottom - top) * rows.height
        face = style.face(kind, style.tint(chunk))
        width = (end - start) * axis.scale
        box = Box(axis.x(start), y, width, height, face, style.edge(kind), 0.8)
        if action in under_way:
            active.append(replace(box, edge=INK, line=2.0))
        else:
            items.append(box)
        word = f"{KIND_ORDER[kind]}{microbatch}" if style.lettered else str(microbatch)
        if height >= _LOWEST_TEXT and width >= width_of(word, SMALL) + _PADDING:
            middle = (box.x + width / 2, y + height / 2)
            items.append(Label(*middle, word, SMALL, ink_on(face), "center"))
    return items + active


def microbatches_in_a_brick(strip: Frame) -> int:
    """Return how many activations a brick stands for, so that it can be seen."""
    return ceil(strip.most * _LOWEST_BRICK / strip.rows.height)


def bricks(table: ActionTable, strip: Frame) -> Iterator[Item]:
    """Yield the floor of each rank, and a brick for each activation for as long as it is held."""
    axis, rows = strip.axis, strip.rows
    each = microbatches_in_a_brick(strip)
    thickness = rows.height / ceil(strip.most / each)
    for rank, steps in enumerate(table.timeline.in_flight):
        floor = rank * rows.pitch + rows.height
        yield stroke(axis.left, floor, axis.x(table.seconds), floor, FAINT_EDGE, 0.8)
        for layer, start, end in _layers(steps, each, table.origin + table.seconds):
            x, y = axis.x(start - table.origin), floor - (layer + 1) * thickness
            width = (end - start) * axis.scale
            yield Box(x, y, width, thickness, ACTIVATION_FACE, ACTIVATION_EDGE, 0.6)


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
