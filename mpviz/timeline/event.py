"""One thing that happened on one rank."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Event:
    """One operation on one rank.

    Attributes
    ----------
    rank : int
        Where. In a `Timeline` of a pipeline, the pipeline rank.
    name : str
        What: ``"all_reduce"``, ``"send"`` …; in a pipeline also ``"F"``, ``"B"``, ``"I"`` and
        ``"W"``, as in a plan.
    start, end : float
        Seconds since the run began.
    group : tuple of int
        The ranks that take part, this one included.
    bytes : int
        Size of this rank's tensors in it; what is sent over the wire depends on the algorithm.
    peer : int, optional
        The other rank of a ``send`` or ``recv``, the root of a broadcast or reduce.
    stage, microbatch : int, optional
        Of a pipeline: which chunk of the model computes, sends or waits, and on what.
    """

    rank: int
    name: str
    start: float
    end: float
    group: tuple[int, ...] = ()
    bytes: int = 0
    peer: int | None = None
    stage: int | None = None
    microbatch: int | None = None

    @property
    def duration(self) -> float:
        """Seconds from start to end."""
        return self.end - self.start


def sent_bytes(events: Iterable[Event], world_size: int) -> NDArray[np.int64]:
    """Return who sent how much to whom, in bytes: row sends, column receives.

    Counts messages (``send`` and ``isend``) only: what a collective moves inside is up to its
    algorithm, and not seen here.

    Examples
    --------
    >>> sent_bytes([Event(0, "send", 0.0, 1.0, (0, 1), bytes=8, peer=1)], world_size=2)
    array([[0, 8],
           [0, 0]])
    """
    matrix = np.zeros((world_size, world_size), dtype=np.int64)
    for event in events:
        if event.name in ("send", "isend") and event.peer is not None:
            matrix[event.rank, event.peer] += event.bytes
    return matrix
