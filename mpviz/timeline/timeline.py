"""The time line of a pipeline, simulated or measured, and what it costs."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from .._checks import whole_number
from ..schedule import KINDS, Action
from ..schedule.dataflow import DATAFLOW
from .event import Event
from .export import from_chrome_trace, from_json, to_chrome_trace, to_json


@dataclass(frozen=True, repr=False)
class Timeline:
    """What each pipeline rank did, and when.

    A rank works while it runs an ``F``, ``B``, ``I`` or ``W``; a ``recv`` is the time for which it
    waits for a message, a ``send`` the time that handing one over takes. The events of a rank do
    not overlap.

    Parameters
    ----------
    events : iterable of Event
        In any order; kept in order of time.
    pp : int, optional
        Pipeline ranks; by default, as many as the events speak of.
    link : float
        Seconds that a message was simulated to take. Measured: 0, it is in what was measured.

    Raises
    ------
    ValueError
        When an action is there twice: one time line holds one run of one pipeline. When work says
        no stage or no microbatch, an event ends before it starts, or its rank is not 0 … pp - 1.

    Examples
    --------
    >>> from mpviz import schedule
    >>> from mpviz.timeline import simulate
    >>> timeline = simulate(schedule.gpipe(pp=4, microbatches=8), {"F": 1, "B": 1})
    >>> timeline
    4 ranks, 64 actions in 22 s, bubble 27.3 %
    >>> timeline.bubble_fraction == 3 / 11, timeline.bubble_overhead == 3 / 8
    (True, True)
    """

    events: tuple[Event, ...]
    pp: int = 0
    link: float = 0.0

    def __post_init__(self) -> None:
        events = tuple(self.events)
        start, end, rank = (_column(events, name) for name in ("start", "end", "rank"))
        lasts = np.isfinite(start) & np.isfinite(end) & (start <= end)
        _check_each(events, lasts, "ends before it starts, or never")
        _check_each(events, (rank >= 0) & (rank % 1 == 0), "is on no rank: they count from 0")
        in_order = tuple(events[n] for n in np.lexsort((rank, start)).tolist())
        object.__setattr__(self, "events", in_order)
        _check_once(self.work)
        highest = int(rank.max(initial=0))
        if self.pp == 0:
            object.__setattr__(self, "pp", highest + 1)
        if whole_number("pp", self.pp) <= highest:
            raise ValueError(
                f"an event is on rank {highest}, but pp={self.pp} has 0 … {self.pp - 1}"
            )

    # ---- how long, and how much of it for nothing

    @cached_property
    def work(self) -> tuple[Event, ...]:
        """The events in which a rank computes, in order of time."""
        return tuple(event for event in self.events if event.name in KINDS)

    @cached_property
    def makespan(self) -> float:
        """Seconds from the first start to the last end of work."""
        if not self.work:
            return 0.0
        return max(event.end for event in self.work) - self.work[0].start

    @cached_property
    def busy(self) -> tuple[float, ...]:
        """Seconds of work of each rank."""
        seconds = [0.0] * self.pp
        for event in self.work:
            seconds[event.rank] += event.duration
        return tuple(seconds)

    @property
    def bubble_fraction(self) -> float:
        """Idle share of all ranks' time: 1 - busy / (pp × makespan).

        (p-1)/(m+p-1) for GPipe and 1F1B. Source: the bubble of Huang et al. 2019 (arXiv
        1811.06965) and the bubble rate of Qi et al. 2023 (arXiv 2401.10241).
        """
        return 1 - sum(self.busy) / (self.pp * self.makespan) if self.makespan else 0.0

    @property
    def bubble_overhead(self) -> float:
        """Idle time over ideal time: (pp × makespan - busy) / busy.

        (p-1)/m for GPipe and 1F1B, (p-1)/(v m) interleaved. Source: bubble time over ideal time
        of Narayanan et al. 2021 (arXiv 2104.04473), section 2.2.
        """
        busy = sum(self.busy)
        return self.pp * self.makespan / busy - 1 if busy else 0.0

    # ---- who works when

    def at(self, time: float) -> tuple[Event | None, ...]:
        """Return what each rank works on at a time, or None where it waits.

        Examples
        --------
        >>> from mpviz import schedule
        >>> from mpviz.timeline import simulate
        >>> timeline = simulate(schedule.gpipe(pp=2, microbatches=1), {"F": 1, "B": 2})
        >>> [event and event.name for event in timeline.at(1.5)]
        [None, 'F']
        """
        doing: list[Event | None] = [None] * self.pp
        for event in self.work:
            if event.start <= time < event.end:
                doing[event.rank] = event
        return tuple(doing)

    # ---- activations in flight

    @cached_property
    def in_flight(self) -> tuple[tuple[tuple[float, int], ...], ...]:
        """How many activations each rank holds: from each time on, so many.

        A stage holds those of a microbatch from the start of its ``F`` to the end of its ``B``,
        or ``W``. Where a rank has v stages, each counts, and is 1/v of what it would hold of all.

        Examples
        --------
        >>> from mpviz import schedule
        >>> from mpviz.timeline import simulate
        >>> simulate(schedule.gpipe(pp=1, microbatches=2)).in_flight
        (((0.0, 1), (1.0, 2), (4.0, 1), (6.0, 0)),)
        """
        changes: list[dict[float, int]] = [defaultdict(int) for _ in range(self.pp)]
        for event in self.work:
            change = DATAFLOW[event.name].in_flight
            if change:
                changes[event.rank][event.start if change > 0 else event.end] += change
        return tuple(
            tuple(zip(sorted(mine), accumulate(mine[time] for time in sorted(mine)), strict=True))
            for mine in changes
        )

    @cached_property
    def peak_in_flight(self) -> tuple[int, ...]:
        """The most activations that each rank holds at once.

        Examples
        --------
        >>> from mpviz import schedule
        >>> from mpviz.timeline import simulate
        >>> simulate(schedule.one_forward_one_backward(pp=4, microbatches=8)).peak_in_flight
        (4, 3, 2, 1)
        """
        return tuple(max((held for _, held in steps), default=0) for steps in self.in_flight)

    # ---- as text

    def to_json(self) -> str:
        """Write as JSON; `from_json` reads it back, equal."""
        return to_json(self.events, pp=self.pp, link=self.link)

    @classmethod
    def from_json(cls, text: str) -> "Timeline":
        """Read what `to_json` wrote; raise ``ValueError`` at anything else."""
        return cls(**from_json(text))

    def to_chrome_trace(self) -> str:
        """Write as a Chrome trace, which https://ui.perfetto.dev and chrome://tracing show."""
        return to_chrome_trace(self.events, pp=self.pp, link=self.link)

    @classmethod
    def from_chrome_trace(cls, text: str) -> "Timeline":
        """Read what `to_chrome_trace` wrote, equal; raise ``ValueError`` at any other trace."""
        return cls(**from_chrome_trace(text))

    def __repr__(self) -> str:
        plural = "" if self.pp == 1 else "s"
        return (
            f"{self.pp} rank{plural}, {len(self.work)} actions in {self.makespan:.4g} s, "
            f"bubble {100 * self.bubble_fraction:z.1f} %"
        )


_NAMED = attrgetter("stage", "name", "microbatch")


def _column(events: Sequence[Event], name: str) -> NDArray[np.float64]:
    return np.fromiter(map(attrgetter(name), events), np.float64, len(events))


def _check_each(events: Sequence[Event], good: NDArray[np.bool_], problem: str) -> None:
    if not good.all():
        raise ValueError(f"{events[int(good.argmin())]} {problem}")


def _check_once(work: Sequence[Event]) -> None:
    """Raise unless each event of work says which action it is, and no two are the same."""
    unsaid = any(None in map(attrgetter(name), work) for name in ("stage", "microbatch"))
    if not unsaid and len(set(map(_NAMED, work))) == len(work):
        return
    since: dict[Action, float] = {}
    for event in work:
        action = _action(event)
        if action in since:
            raise ValueError(
                f"{action} is there twice, from {since[action]:g} s and from {event.start:g} s: "
                f"a Timeline holds one run of one pipeline; take the events of one run, and of "
                f"the ranks of one pp group"
            )
        since[action] = event.start


def _action(event: Event) -> Action:
    if event.stage is None or event.microbatch is None:
        raise ValueError(f"{event} is work of a pipeline, but says no stage or no microbatch")
    return Action(event.stage, event.name, event.microbatch)
