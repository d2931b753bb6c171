"""When each rank did what: the chart of a pipeline, or of a recorded run."""

from collections.abc import Iterable, Mapping, Sequence

from matplotlib.axes import Axes

from ...timeline import Event, Timeline
from ..canvas.limits import check_rows
from ..canvas.page import Panel, page
from ..canvas.picture import Picture
from .action_table import ActionTable
from .axis import RankRows
from .chart import chart, strip
from .chart_legend import chart_legend
from .frame import Frame
from .recorded import operations
from .timetable import timetable

_MOST_SPANS = 8


def timeline(
    events: Timeline | Iterable[Event],
    *,
    title: str | None = None,
    at: float | None = None,
    activations: bool = True,
    ax: Axes | None = None,
) -> Picture:
    """Draw when each rank did what: a row for each rank, time to the right.

    Of a pipeline, simulated or measured: a box for each forward and backward, with its
    microbatch; where a row is empty is the bubble. Of any other recorded run: a box for each
    operation.

    The text twin has no times where they would differ from run to run: of a measured pipeline it
    gives the order of each rank's actions. Where all times are multiples of a round one, a column
    of the text lasts that long.

    Parameters
    ----------
    events : Timeline or iterable of Event
        Of a pipeline if the events have a stage.
    title : str, optional
        What it is called; of a pipeline, the sizes follow. By default they stand alone, or the
        number of operations.
    at : float, optional
        A moment of a pipeline, in seconds after the first action began: mark it, and say who does
        what then.
    activations : bool
        Whether a strip under the chart of a pipeline shows how many activations each rank holds.
    ax : matplotlib Axes, optional
        Draw there.

    Raises
    ------
    ValueError
        When there is nothing to draw, or ``at`` is not on the time line.

    Examples
    --------
    >>> from mpviz import schedule
    >>> from mpviz.timeline import simulate
    >>> timeline(simulate(schedule.gpipe(pp=2, microbatches=2), {"F": 1, "B": 2}), title="GPipe")
    GPipe: 2 ranks, 2 microbatches
    9 s, bubble 33.3 %
    rank 0  F0 F1 ·  ·  ·  B0 B0 B1 B1
    rank 1  ·  F0 F1 B0 B0 B1 B1 ·  ·
    one column: 1 s · · is a bubble
    most activations held: 2 2
    >>> sent = Event(0, "send", 0.0, 1.0, (0, 1), 8, peer=1)
    >>> timeline([sent, Event(1, "recv", 0.0, 1.0, (0, 1), 8, peer=0)])
    2 operations on 2 ranks
    rank 0  send → 1
    rank 1  recv ← 0
    """
    if not isinstance(events, Timeline):
        events = tuple(events)
        if not events:
            raise ValueError("there is no event to draw; was the run recorded?")
        if all(event.stage is None for event in events):
            if at is not None:
                raise ValueError(f"at={at} marks a moment of a pipeline; these events are of none")
            return operations(events, title, ax)
        events = Timeline(events)
    return _charts({"": events}, title, at, activations, ax)


def timelines(
    named: Mapping[str, Timeline],
    *,
    title: str | None = None,
    at: float | None = None,
    activations: bool = False,
    ax: Axes | None = None,
) -> Picture:
    """Draw time lines of pipelines one above the other, on one scale of time.

    Parameters
    ----------
    named : mapping from str to Timeline
        From the top: simulated and measured, say, or two schedules.
    title : str, optional
        By default their names, and the sizes if they share them.
    at, activations, ax
        As for `timeline`. A moment is counted from the first action of each.

    Examples
    --------
    >>> from mpviz import schedule
    >>> from mpviz.timeline import simulate
    >>> sizes = {"pp": 2, "microbatches": 2}
    >>> plans = [schedule.gpipe(**sizes), schedule.one_forward_one_backward(**sizes)]
    >>> timelines({plan.name: simulate(plan, {"F": 1, "B": 1}) for plan in plans})
    GPipe above 1F1B: 2 ranks, 2 microbatches
    GPipe: 6 s, bubble 33.3 %
    rank 0  F0 F1 ·  ·  B0 B1
    rank 1  ·  F0 F1 B0 B1 ·
    one column: 1 s · · is a bubble
    1F1B: 6 s, bubble 33.3 %
    rank 0  F0 F1 ·  B0 ·  B1
    rank 1  ·  F0 B0 F1 B1 ·
    one column: 1 s · · is a bubble
    """
    if not named:
        raise ValueError("there is no time line to draw")
    return _charts(named, title, at, activations, ax)


def _charts(
    named: Mapping[str, Timeline],
    title: str | None,
    at: float | None,
    activations: bool,
    ax: Axes | None,
) -> Picture:
    check_rows(max(each.pp for each in named.values()))
    tables = [ActionTable.of(each) for each in named.values()]
    frame = Frame.of(tables)
    if at is not None and not 0 <= at <= frame.axis.seconds:
        raise ValueError(f"at must be 0 … {frame.axis.seconds:g} s, got {at!r}")
    panels: list[Panel] = []
    lines: list[str] = []
    for name, table in zip(named, tables, strict=True):
        result = f"{name}: {table.result}" if name else table.result
        panels.append(chart(result, table, frame, at))
        if activations:
            panels.append(strip(table, frame.strip))
        lines += [result] if table.unit else [name] if name else []
        lines += timetable(table, at, activations=activations)
    panels.append(chart_legend(frame, tables, activations=activations))
    sizes = {table.sizes for table in tables}
    words = [title or " above ".join(named), *(sizes if len(sizes) == 1 else ())]
    heading = ": ".join(filter(None, words))
    return page(heading, panels, _notes(tables, frame.rows), "\n".join(lines), ax)


def _notes(tables: Sequence[ActionTable], rows: RankRows) -> list[str]:
    """Return what the legend cannot show."""
    words = [] if rows.fine else ["number: microbatch"]
    table = max(tables, key=lambda table: table.chunks)
    if table.chunks > 1:
        drawn = range(min(table.chunks, _MOST_SPANS))
        stages = [table.stage[table.chunk == chunk] for chunk in drawn]
        spans = [f"{numbers.min()}–{numbers.max()}" for numbers in stages]
        spans += ["…"] if table.chunks > _MOST_SPANS else []
        words.append(f"light to dark: stages {', '.join(spans)}")
    return [" · ".join(words)] if words else []
