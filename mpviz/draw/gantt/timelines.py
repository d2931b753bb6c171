"""When each rank did what: the chart of a pipeline, or of a recorded run."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from ...timeline import Event, Timeline
from ..canvas.limits import check_rows
from ..canvas.page import Panel, page
from ..canvas.picture import Picture
from .action_table import Work
from .boxes import Rows, lettered
from .chart import chart, shared_axis
from .in_flight import meaning, strip
from .recorded import operations
from .style import Look, legend
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

    The text twin has no times where they would differ from run to run: a measured pipeline is
    told in the order of each rank's actions. It is told in columns of time if all times are
    multiples of a round one.

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
    check_rows(events.pp)
    work = Work.of(events)
    heading = f"{title}: {work.sizes}" if title else work.sizes
    return _pictured(heading, {"": work}, at, activations, ax)


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
    for each in named.values():
        check_rows(each.pp)
    works = {name: Work.of(one) for name, one in named.items()}
    sizes = dict.fromkeys(work.sizes for work in works.values())
    heading = title or " above ".join(works)
    heading += f": {', '.join(sizes)}" if len(sizes) == 1 else ""
    return _pictured(heading, works, at, activations, ax)


def _pictured(
    title: str, works: Mapping[str, Work], at: float | None, activations: bool, ax: Axes | None
) -> Picture:
    drawn = list(works.values())
    axis = shared_axis(drawn)
    if at is not None and not 0 <= at <= axis.seconds:
        raise ValueError(f"at must be 0 … {axis.seconds:g} s, got {at!r}")
    rows = Rows.of(drawn, axis)
    letters = not rows.fine and all(lettered(work, axis) for work in drawn)
    look = Look(max(work.chunks for work in drawn), letters, low=not rows.all_named)
    most = max(1, *(max(work.timeline.peak_in_flight) for work in drawn))
    parts: list[Panel] = []
    lines: list[str] = []
    for name, work in works.items():
        result = f"{name}: {work.result}" if name else work.result
        parts.append(chart(result, work, axis, rows, look, at))
        if activations:
            parts.append(strip(work, axis, rows, look, most))
        lines += [result] if work.unit else [name] if name else []
        lines += timetable(work, at, activations=activations)
    kinds = sorted({kind for work in drawn for kind in work.kinds})
    waits = not rows.fine and any(True for work in drawn for _ in work.waits())
    held = meaning(rows, look, most) if activations else ""
    parts.append(legend(look, kinds, waits=waits, held=held))
    return page(title, parts, _notes(drawn, rows), "\n".join(lines), ax)


def _notes(works: Sequence[Work], rows: Rows) -> list[str]:
    """Return what the legend cannot show."""
    words = [] if rows.fine else ["number: microbatch"]
    work = max(works, key=lambda work: work.chunks)
    if work.chunks > 1:
        held = [np.unique(work.stage[work.chunk == chunk]) for chunk in range(work.chunks)]
        spans = ", ".join(f"{stages[0]}–{stages[-1]}" for stages in held[:_MOST_SPANS])
        more = ", …" if len(held) > _MOST_SPANS else ""
        words.append(f"light to dark: stages {spans}{more}")
    return [" · ".join(words)] if words else []
