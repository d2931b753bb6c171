"""The actions of a pipeline's time line as the drawings need them: columns of numbers."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import floor, log10
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from ...schedule import KINDS
from ...timeline import Event, Timeline

KIND_ORDER = "".join(KINDS)

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

# A time that was typed has few digits; a clock's has all of them.
_DIGITS = 4
_TOLERANCE = 1e-6  # of the last of these digits; sums of typed times are off by far less


@dataclass(frozen=True, eq=False)
class ActionTable:
    """What each rank computes: a column of numbers for each attribute, in order of time.

    Attributes
    ----------
    timeline : Timeline
        Where it comes from.
    rank, kind, stage, microbatch : ndarray of int
        Of each action; a kind is its place in `KIND_ORDER`.
    start, end : ndarray of float
        Seconds since the first action began.
    """

    timeline: Timeline
    rank: Ints
    kind: Ints
    stage: Ints
    microbatch: Ints
    start: Floats
    end: Floats

    @classmethod
    def of(cls, timeline: Timeline) -> "ActionTable":
        """Take the columns out of the events; raise ``ValueError`` if there is none to draw."""
        work = timeline.work
        if not work:
            kinds = ", ".join(KIND_ORDER)
            raise ValueError(f"there is nothing to draw: no event of this time line is {kinds}")
        if not timeline.makespan > 0:
            raise ValueError(f"there is nothing to draw: {len(work)} actions take 0 s in all")
        names = ("rank", "stage", "microbatch", "start", "end")
        rank, stage, microbatch, start, end = (
            np.array([*map(attrgetter(name), work)]) for name in names
        )
        kind = np.array([KIND_ORDER.index(event.name) for event in work])
        # What takes no time comes before what begins as it ends.
        order = np.lexsort((end, start))
        whole = (column[order] for column in (rank, kind, stage, microbatch))
        times = (column[order].astype(float) - work[0].start for column in (start, end))
        return cls(timeline, *whole, *times)

    @property
    def pp(self) -> int:
        """Pipeline ranks."""
        return self.timeline.pp

    @property
    def origin(self) -> float:
        """When, on the clock of the events, the first action began."""
        return self.timeline.work[0].start

    @property
    def seconds(self) -> float:
        """From the first start to the last end."""
        return self.timeline.makespan

    @property
    def kinds(self) -> list[int]:
        """The kinds that occur, in `KIND_ORDER`."""
        found: list[int] = np.unique(self.kind).tolist()
        return found

    @cached_property
    def chunk(self) -> Ints:
        """Which of its rank's stages each action belongs to: 0, 1 …, by number of the stage."""
        stages = int(self.stage.max()) + 1
        held, of_action = np.unique(self.rank * stages + self.stage, return_inverse=True)
        rank = held // stages
        chunks: Ints = (np.arange(len(held)) - np.searchsorted(rank, rank))[of_action]
        return chunks

    @cached_property
    def chunks(self) -> int:
        """The most stages on one rank."""
        return int(self.chunk.max()) + 1

    @property
    def sizes(self) -> str:
        """How many ranks, stages and microbatches."""
        ranks = _counted(self.pp, "rank")
        stages = f" × {self.chunks} stages" if self.chunks > 1 else ""
        return f"{ranks}{stages}, {_counted(len(np.unique(self.microbatch)), 'microbatch', 'es')}"

    @property
    def result(self) -> str:
        """How long it takes, and what share of that is bubble."""
        return f"{with_unit(self.seconds)}, bubble {100 * self.timeline.bubble_fraction:z.1f} %"

    @cached_property
    def unit(self) -> float | None:
        """The longest time of which all times are multiples; None if there is no round one.

        So it is None for what a clock measured, and for what was simulated from that: such
        times differ from run to run, and have no place in a text.
        """
        times = np.concatenate([self.start, self.end - self.start])
        positive = times[times > 0]
        if not len(positive):
            return None
        digit = 10.0 ** (floor(log10(positive.min())) - _DIGITS + 1)
        counts = np.rint(times / digit)
        if np.abs(times / digit - counts).max() > _TOLERANCE or counts.max() > 2**53:
            return None
        return float(np.gcd.reduce(counts.astype(np.int64)) * digit)

    def of_rank(self, rank: int) -> Ints:
        """Return the actions of a rank, in order of time."""
        return np.flatnonzero(self.rank == rank)

    def name(self, action: int) -> str:
        """Return ``F3``, or ``5F3`` where a rank has several stages."""
        stage = str(self.stage[action]) if self.chunks > 1 else ""
        return f"{stage}{KIND_ORDER[self.kind[action]]}{self.microbatch[action]}"

    def doing(self, time: float) -> list[int]:
        """Return the actions under way at a time, at most one for each rank."""
        found: list[int] = np.flatnonzero((self.start <= time) & (time < self.end)).tolist()
        return found

    def waits(self) -> Iterator[tuple[Event, float, float]]:
        """Yield each wait for a message, with its start and end since the first action."""
        for event in self.timeline.events:
            if event.name == "recv":
                start, end = event.start - self.origin, event.end - self.origin
                if end > 0 and start < self.seconds:
                    yield event, max(start, 0.0), min(end, self.seconds)


def with_unit(seconds: float) -> str:
    """Return a time in the unit that suits it.

    >>> with_unit(33.0), with_unit(0.0213), with_unit(0.0)
    ('33 s', '21.3 ms', '0 s')
    """
    scale, unit = time_unit(seconds)
    return f"{seconds / scale:.4g} {unit}"


def time_unit(seconds: float) -> tuple[float, str]:
    """Return the unit that suits a time: its seconds, and its name."""
    units = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))
    return next((unit for unit in units if seconds >= unit[0]), units[-1 if seconds else 0])


def _counted(number: int, thing: str, plural: str = "s") -> str:
    return f"{number} {thing}{'' if number == 1 else plural}"
