"""A step of training that real ranks recorded, told by kind of group."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from math import isfinite

from ..layout import ParallelLayout
from ..names import GROUP_KINDS
from .event import Event

WORLD, OTHER = "world", "other"
"""Kinds of a group that the layout has no name for: of all ranks, or of some."""

_HANDED_OVER, _RECEIVED = ("send", "isend"), ("recv", "irecv")
_MOMENTS = 100
"""A message lasts a moment. It is seen for this share of a step, or nobody would see it."""


@dataclass(frozen=True)
class Call:
    """A collective or a message, as one rank saw it.

    Attributes
    ----------
    rank : int
        Who called.
    kind : str
        Of its group: a name of `GROUP_KINDS`, ``"world"`` or ``"other"``.
    start, end : float
        Seconds since the step's first call. Equal for a pending message (``isend``, ``irecv``):
        the moment when it was handed over, or when the wait for it was over.
    bytes : int
        What this rank puts in; 0 of what it receives.
    received : bool
        Whether it is a message that came in.
    """

    rank: int
    kind: str
    start: float
    end: float
    bytes: int
    received: bool


@dataclass(frozen=True, eq=False)
class RecordedStep:
    """What each rank called in a recorded step, by kind of group.

    An event knows the members of its group. Its kind is the first of `GROUP_KINDS` that has a
    group of just these members, so of several the one of fewest axes: ``dp``, not ``dp-cp``, where
    cp = 1. With two stages the embedding group is the pp group; a message is then told as ``pp``,
    a collective as ``embedding``. Barriers are left out: they move nothing.

    Parameters
    ----------
    events : iterable of Event
        ``world.events`` of a cell under ``%%ranks --record``.
    layout : ParallelLayout
        Who is who.

    Raises
    ------
    ValueError
        When there is no event, one is of no rank of the layout, or ends before it starts, or never.

    Examples
    --------
    >>> layout = ParallelLayout(nodes=1, gpus_per_node=4, tp=2, pp=2)
    >>> step = RecordedStep([
    ...     Event(0, "all_reduce", 0.0, 1.0, (0, 1), bytes=64),
    ...     Event(1, "all_reduce", 0.0, 1.0, (0, 1), bytes=64),
    ...     Event(0, "isend", 1.0, 3.0, (0, 2), bytes=8, peer=2),
    ...     Event(2, "irecv", 0.0, 2.0, (0, 2), bytes=8, peer=0),
    ... ], layout)
    >>> step.bytes[0], step.bytes[2]
    ({'tp': 64, 'pp': 8}, {'tp': 0, 'pp': 0})
    >>> step.at(0.5), step.at(2.0)
    (('tp', 'tp', None, None), (None, None, 'pp', None))
    """

    events: tuple[Event, ...]
    layout: ParallelLayout

    def __post_init__(self) -> None:
        events = tuple(self.events)
        for event in events:
            self.layout.check_rank(event.rank)
            if not (isfinite(event.start) and isfinite(event.end) and event.start <= event.end):
                raise ValueError(f"{event} ends before it starts, or never")
        moving = tuple(event for event in events if event.name != "barrier")
        if not moving:
            what = "no event but barriers" if events else "no event"
            raise ValueError(f"there is {what} in this step; was it recorded (%%ranks --record)?")
        object.__setattr__(self, "events", moving)

    @cached_property
    def calls(self) -> tuple[Call, ...]:
        """Every call, in order of time."""
        kinds = kinds_of_groups(self.layout)
        begin = min(_span(event)[0] for event in self.events)
        calls = []
        for event in self.events:
            start, end = _span(event)
            kind = self._kind(event, kinds)
            received = event.name in _RECEIVED
            size = 0 if received else event.bytes
            calls.append(Call(event.rank, kind, start - begin, end - begin, size, received))
        return tuple(sorted(calls, key=lambda call: call.start))

    def _kind(self, event: Event, kinds: dict[tuple[int, ...], str]) -> str:
        members = tuple(sorted(event.group))
        kind = kinds.get(members, WORLD if len(members) == self.layout.world_size else OTHER)
        message = event.name in _HANDED_OVER + _RECEIVED
        return "embedding" if kind == "pp" and len(members) == 2 and not message else kind

    @cached_property
    def seconds(self) -> float:
        """From the first call until the last is over."""
        return max(call.end for call in self.calls)

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """The kinds that occur, in the order of `GROUP_KINDS`."""
        occur = {call.kind for call in self.calls}
        return tuple(kind for kind in (*GROUP_KINDS, WORLD, OTHER) if kind in occur)

    @cached_property
    def bytes(self) -> dict[int, dict[str, int]]:
        """What each rank puts in along each kind: tensors of collectives, and messages it sends.

        What a collective sends over the wire depends on its algorithm.
        """
        sums: Counter[tuple[int, str]] = Counter()
        for call in self.calls:
            sums[call.rank, call.kind] += call.bytes
        return self._by_rank(sums)

    @cached_property
    def counts(self) -> dict[int, dict[str, int]]:
        """How many collectives and sends each rank calls along each kind."""
        return self._by_rank(Counter((c.rank, c.kind) for c in self.calls if not c.received))

    def _by_rank(self, sums: Counter[tuple[int, str]]) -> dict[int, dict[str, int]]:
        ranks = range(self.layout.world_size)
        return {rank: {kind: sums[rank, kind] for kind in self.kinds} for rank in ranks}

    def at(self, time: float) -> tuple[str | None, ...]:
        """Return the kind of group in which each rank is at a time.

        None where it computes, or waits for a message. A message counts for a hundredth of the
        step.

        Parameters
        ----------
        time : float
            Seconds, 0 … `seconds`.
        """
        doing: list[str | None] = [None] * self.layout.world_size
        shown = self.seconds / _MOMENTS
        for call in self.calls:  # a collective hides a message: it is what the rank waits in
            if call.start == call.end and call.start <= time < call.start + shown:
                doing[call.rank] = call.kind
        for call in self.calls:
            if call.start <= time < call.end:
                doing[call.rank] = call.kind
        return tuple(doing)


def kinds_of_groups(layout: ParallelLayout) -> dict[tuple[int, ...], str]:
    """Return the kind of each group of a layout by its members; of several, the first."""
    kinds: dict[tuple[int, ...], str] = {}
    for kind in GROUP_KINDS:
        try:
            groups = layout.groups(kind)
        except ValueError:
            continue  # a dense order may have no expert grid
        for members in groups.tolist():
            kinds.setdefault(tuple(sorted(members)), kind)
    return kinds


def _span(event: Event) -> tuple[float, float]:
    """Return from when to when the rank was in it; of a pending message, its moment twice."""
    if event.name == "isend":
        return event.start, event.start
    return (event.end if event.name == "irecv" else event.start), event.end
