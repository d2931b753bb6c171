"""One chart of a pipeline: its result above, its rows, its axis below, and a moment marked."""

from collections.abc import Iterator
from operator import itemgetter

from ..canvas.glyphs import box_of, width_of
from ..canvas.page import Panel, heading
from ..canvas.scene import Item, Label, shifted, stroke
from ..canvas.theme import INK, MAX_WIDTH, SMALL
from . import pixels
from .action_table import ActionTable, with_unit
from .axis import AXIS_HEIGHT, RankRows
from .boxes import boxes, bricks
from .frame import Frame
from .timetable import doing, moment

_FLAG = 14.0


def chart(result: str, table: ActionTable, frame: Frame, at: float | None) -> Panel:
    """Return one chart under its result, with its axis."""
    rows, height = frame.rows, table.pp * frame.rows.pitch
    items = _rank_names(table, rows)
    if rows.fine:
        items.append(pixels.bars(table, frame))
    else:
        items += boxes(table, frame, at)
    words = [item for item in items if isinstance(item, Label)]
    items += frame.axis.items(height - rows.gap / 2)
    height += AXIS_HEIGHT
    if at is not None:
        items = shifted([*items, *_moment(table, frame, at, words)], 0, _FLAG)
        height += _FLAG
    return heading(result, Panel(items, MAX_WIDTH, height))


def strip(table: ActionTable, frame: Frame) -> Panel:
    """Return a row for each rank, as high as the most activations, and its peak at the right."""
    items = _rank_names(table, frame.rows)
    if frame.rows.fine:
        items.append(pixels.activations(table, frame))
    else:
        items += bricks(table, frame)
    peaks = [f"peak {peak}" for peak in table.timeline.peak_in_flight]
    items += frame.rows.labels(frame.axis.right + 6, peaks)
    return Panel(items, MAX_WIDTH, table.pp * frame.rows.pitch)


def _rank_names(table: ActionTable, rows: RankRows) -> list[Item]:
    return rows.labels(0, [f"rank {rank}" for rank in range(table.pp)])


def _moment(table: ActionTable, frame: Frame, at: float, around: list[Label]) -> list[Item]:
    """Return a line through all rows at a time, with its words: who does what then."""
    axis, rows = frame.axis, frame.rows
    x, words = axis.x(at), f"at {with_unit(at)}"
    beside: list[Item] = []
    if rows.all_named:
        beside = rows.labels(axis.right + 6, doing(table, at), bold=True)
    else:
        words += f": {moment(table, at)}"
    half = width_of(words, SMALL, bold=True) / 2
    middle = min(max(x, axis.left + half), axis.right - half)
    flag = Label(middle, 4 - _FLAG, words, SMALL, INK, "center", bold=True)
    return [flag, *_line_around(around, x, -4, table.pp * rows.pitch), *beside]


def _line_around(labels: list[Label], x: float, top: float, bottom: float) -> Iterator[Item]:
    """Yield a line down the picture that leaves words readable."""
    for left, above, right, below in sorted(map(box_of, labels), key=itemgetter(1)):
        if left - 1 <= x <= right + 1:
            yield stroke(x, top, x, above - 2, INK, 1.4)
            top = below + 2
    yield stroke(x, top, x, bottom, INK, 1.4)
