"""One chart of a pipeline: its result above, its rows, its axis below, and a moment marked."""

from collections.abc import Iterator, Sequence
from operator import itemgetter

from ..canvas.glyphs import box_of, width_of
from ..canvas.page import Panel, heading
from ..canvas.scene import Item, Label, shifted, stroke
from ..canvas.theme import INK, MAX_WIDTH, SMALL
from . import pixels
from .action_table import ActionTable, spoken
from .axis import AXIS_HEIGHT, Axis, RankRows
from .boxes import boxes, bricks, microbatches_in_a_brick
from .style import Style
from .timetable import doing, moment

_FLAG = 14.0


def shared_axis(tables: Sequence[ActionTable]) -> Axis:
    """Return the scale of the longest, with room for whatever may stand beside the rows."""
    ranks = max(table.pp for table in tables)
    peak = max(max(table.timeline.peak_in_flight) for table in tables)
    longest = max((table.name(-1) for table in tables), key=len)
    tail = max((f"peak {peak}", longest + "0", "waits"), key=len)
    return Axis.beside(max(table.seconds for table in tables), f"rank {ranks - 1}", tail)


def chart(
    result: str, table: ActionTable, axis: Axis, rows: RankRows, style: Style, at: float | None
) -> Panel:
    """Return one chart under its result, with its axis."""
    height = table.pp * rows.pitch
    items = rows.labels(0, [f"rank {rank}" for rank in range(table.pp)])
    if rows.fine:
        items.append(pixels.bars(table, axis, rows, style))
    else:
        items += boxes(table, axis, rows, style, at)
    labels = [item for item in items if isinstance(item, Label)]
    items += axis.items(height - rows.gap / 2)
    height += AXIS_HEIGHT
    if at is not None:
        items = shifted([*items, *_moment(table, axis, rows, at, labels)], 0, _FLAG)
        height += _FLAG
    return heading(result, Panel(items, MAX_WIDTH, height))


def strip(table: ActionTable, axis: Axis, rows: RankRows, style: Style, most: int) -> Panel:
    """Return a row for each rank, as high as ``most`` activations, and its peak at the right."""
    items = rows.labels(0, [f"rank {rank}" for rank in range(table.pp)])
    if rows.fine:
        items.append(pixels.held(table, axis, rows, style, most))
    else:
        items += bricks(table, axis, rows, most)
    peaks = [f"peak {peak}" for peak in table.timeline.peak_in_flight]
    return Panel(items + rows.labels(axis.right + 6, peaks), MAX_WIDTH, table.pp * rows.pitch)


def meaning(rows: RankRows, style: Style, most: int) -> str:
    """Return what a brick in a strip, or the colour where there are none, stands for."""
    if style.low:
        return "activations held, the darker the more"
    if rows.fine:
        return "activations held"
    each = microbatches_in_a_brick(rows, most)
    whose = "a microbatch" if each == 1 else f"{each} microbatches"
    return f"activations of {whose}" + (" in one stage" if style.chunks > 1 else "")


def _moment(
    table: ActionTable, axis: Axis, rows: RankRows, at: float, labels: list[Label]
) -> list[Item]:
    """Return a line through all rows at a time, with its words: who does what then."""
    x, words = axis.x(at), f"at {spoken(at)}"
    beside: list[Item] = []
    if rows.all_named:
        beside = rows.labels(axis.right + 6, doing(table, at), bold=True)
    else:
        words += f": {moment(table, at)}"
    half = width_of(words, SMALL, bold=True) / 2
    middle = min(max(x, axis.left + half), axis.right - half)
    flag = Label(middle, 4 - _FLAG, words, SMALL, INK, "center", bold=True)
    return [flag, *_line_around(labels, x, -4, table.pp * rows.pitch), *beside]


def _line_around(labels: list[Label], x: float, top: float, bottom: float) -> Iterator[Item]:
    """Yield a line down the picture that leaves words readable."""
    for left, above, right, below in sorted(map(box_of, labels), key=itemgetter(1)):
        if left - 1 <= x <= right + 1:
            yield stroke(x, top, x, above - 2, INK, 1.4)
            top = below + 2
    yield stroke(x, top, x, bottom, INK, 1.4)
