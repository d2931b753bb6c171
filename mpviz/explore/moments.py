"""Move through a recorded step of training, and see in which kind of group each rank is."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .._checks import whole_number
from ..draw.gantt.lanes import recorded_step
from ..layout import ParallelLayout
from ..timeline import Event, RecordedStep
from .controls import Control, Slider
from .explorer import Explorer, Fix, Setting, Settings, View

_MOST_RANKS = 6
_NOTE = (
    "Calls and bytes are those of one rank: what it puts into a collective, and messages it sends. "
    "A rank that is in no group computes, or waits for a message."
)


class StepExplorer(Explorer):
    """A slider over the moments of a recorded step; made by `step`."""

    _title = "Explore one recorded step"
    _call = "explore.step"
    _defaults: Mapping[str, Any] = {"time": None}
    _recorded: Mapping[str, Sequence[Any]] = {"time": (None, *range(0, 101, 2))}

    time = Setting()

    def __init__(self, recorded: RecordedStep, settings: Settings) -> None:
        self._step = recorded
        super().__init__(settings)

    def _controls(self, settings: Settings) -> Sequence[Control]:
        return [Slider("time", "time, %", range(-1, 101), plays=True)]

    def _check(self, settings: Settings) -> None:
        if settings["time"] is not None:
            whole_number("time", settings["time"], least=0)

    def _viewed(self, settings: Settings) -> View:
        recorded, time = self._step, settings["time"]
        if time is not None and time > 100:
            raise ValueError(f"time must be 0 … 100 % of the step, got {time}")
        at = None if time is None else time / 100 * recorded.seconds
        picture = recorded_step(recorded, at=at)
        doing = None if at is None else recorded.at(at)
        return View(picture, _summary(recorded, doing), table(recorded, doing), _NOTE, doing)

    def _fixes(self, settings: Settings, moved: str) -> list[Fix]:
        return [Fix("time = 100", {"time": 100})]

    def _code(self, settings: Settings) -> str:
        time = settings["time"]
        return f"{self._call}(events, layout{'' if time is None else f', time={time}'})"


def step(
    events: Iterable[Event], layout: ParallelLayout, *, time: int | None = None
) -> StepExplorer:
    """Show a recorded step with a slider over its time, which plays as a film.

    Parameters
    ----------
    events : iterable of Event
        ``world.events`` of a cell under ``%%ranks --record``.
    layout : ParallelLayout
        Tells the kind of each group.
    time : int, optional
        A moment to look at, in percent of the step.

    Returns
    -------
    StepExplorer
        Its ``value`` is the kind of group in which each rank is at the moment, None where it is in
        none; None without a moment.

    Raises
    ------
    ValueError
        When no event was recorded, or one is of no rank of the layout.

    Examples
    --------
    >>> both = {"group": (0, 1), "bytes": 64}
    >>> explorer = step(
    ...     [Event(0, "all_reduce", 0.0, 2.0, **both), Event(1, "all_reduce", 1.0, 2.0, **both)],
    ...     ParallelLayout(nodes=1, gpus_per_node=4, tp=2, pp=2),
    ... )
    >>> explorer.time = 25
    >>> explorer.value
    ('tp', None, None, None)
    """
    return StepExplorer(RecordedStep(tuple(events), layout), {"time": time})


def table(recorded: RecordedStep, doing: Sequence[str | None] | None) -> list[tuple[str, ...]]:
    """Return a row for each kind: who is in it at the moment, and calls and bytes of a rank."""
    rows: list[tuple[str, ...]] = [("group", "in it now", "calls", "bytes put in")]
    for kind in recorded.kinds:
        inside = [rank for rank, one in enumerate(doing or ()) if one == kind]
        called = [rank for rank, counts in recorded.counts.items() if counts[kind]]
        counts = [recorded.counts[rank][kind] for rank in called]
        sizes = [recorded.bytes[rank][kind] for rank in called]
        now = "–" if doing is None else _ranks(inside)
        rows.append((kind, now, _span(counts), _span(sizes)))
    return rows


def _summary(recorded: RecordedStep, doing: Sequence[str | None] | None) -> str:
    ranks = recorded.layout.world_size
    if doing is None:
        return f"a step on {ranks:,} ranks communicates over {', '.join(recorded.kinds)}"
    busy = [f"{kind} {doing.count(kind)}" for kind in recorded.kinds if kind in doing]
    return f"of {ranks:,} ranks are in a group: {', '.join(busy) or 'none'}"


def _span(numbers: Sequence[int]) -> str:
    """Return the least and the most.

    >>> _span([5, 3000, 5]), _span([4, 4]), _span([])
    ('5 – 3,000', '4', '–')
    """
    ends = dict.fromkeys((min(numbers, default=0), max(numbers, default=0)))
    return " – ".join(f"{number:,}" for number in ends) if numbers else "–"


def _ranks(ranks: Sequence[int]) -> str:
    """Return a few ranks, or how many they are.

    >>> _ranks([0, 1, 4]), _ranks(range(16)), _ranks([])
    ('0 1 4', '16 ranks', 'nobody')
    """
    if len(ranks) > _MOST_RANKS:
        return f"{len(ranks):,} ranks"
    return " ".join(map(str, ranks)) or "nobody"
