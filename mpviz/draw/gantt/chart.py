"""One chart of a pipeline: its result above, its rows, its axis below, and a moment marked."""

from collections.abc import Iterator, Sequence
from operator import itemgetter

from ..canvas.glyphs import box_of, width_of
from ..canvas.page import Panel
from ..canvas.scene import Item, Label, shifted, stroke
from ..canvas.theme import INK, MAX_WIDTH, NORMAL, SMALL
from . import pixels
from .action_table import Work, spoken
from .axis import AXIS_HEIGHT, Axis
from .boxes import Rows, boxes
from .style import Look
from .timetable import doing, moment

_HEADING, _FLAG = 20.0, 14.0


def shared_axis(works: Sequence[Work]) -> Axis:
    """Return the scale of the longest, with room for whatever may stand beside the rows."""
    ranks = max(work.pp for work in works)
    peak = max(max(work.timeline.peak_in_flight) for work in works)
    longest = max((work.name(-1) for work in works), key=len)
    tail = max((f"peak {peak}", longest + "0", "waits"), key=len)
    return Axis.beside(max(work.seconds for work in works), f"rank {ranks - 1}", tail)


def chart(result: str, work: Work, axis: Axis, rows: Rows, look: Look, at: float | None) -> Panel:
    """Return one chart under its result, with its axis."""
    height = work.pp * rows.pitch
    items = rows.names(work.pp)
    if rows.fine:
        items.append(pixels.bars(work, axis, rows, look))
    else:
        items += boxes(work, axis, rows, look, at)
    items += axis.items(height - rows.gap / 2)
    above = _HEADING
    if at is not None:
        above += _FLAG
        labels = [item for item in items if isinstance(item, Label) and item.y < height]
        items += _moment(work, axis, rows, at, labels)
    heading = Label(0, NORMAL / 2, result, NORMAL, bold=True)
    return Panel([heading, *shifted(items, 0, above)], MAX_WIDTH, above + height + AXIS_HEIGHT)


def _moment(work: Work, axis: Axis, rows: Rows, at: float, labels: list[Label]) -> list[Item]:
    """Return a line through all rows at a time, with its words: who does what then."""
    x, flag = axis.x(at), f"at {spoken(at)}"
    doings: list[Item] = []
    if rows.all_named:
        doings = [
            Label(axis.right + 6, rows.middle(rank), word, SMALL, INK, bold=True)
            for rank, word in enumerate(doing(work, at))
        ]
    else:
        flag += f": {moment(work, at)}"
    half = width_of(flag, SMALL, bold=True) / 2
    middle = min(max(x, axis.left + half), axis.right - half)
    above = Label(middle, 4 - _FLAG, flag, SMALL, INK, "center", bold=True)
    return [above, *_line_around(labels, x, -4, work.pp * rows.pitch), *doings]


def _line_around(labels: list[Label], x: float, top: float, bottom: float) -> Iterator[Item]:
    """Yield a line down the picture that leaves words readable."""
    for left, above, right, below in sorted(map(box_of, labels), key=itemgetter(1)):
        if left - 1 <= x <= right + 1:
            yield stroke(x, top, x, above - 2, INK, 1.4)
            top = below + 2
    yield stroke(x, top, x, bottom, INK, 1.4)
