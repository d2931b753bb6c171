"""Every collective and message of a run, as events."""

import time
from collections.abc import Callable
from typing import Any

from ..timeline import Event
from .protocol import Operation


class Recorder:
    """An `Observer` that notes when each operation began, and when it was over.

    Parameters
    ----------
    rank : int
        Who records.
    begun : float
        The reading of ``time.perf_counter`` from which seconds are counted.
    """

    def __init__(self, rank: int, begun: float) -> None:
        self._rank = rank
        self._begun = begun
        self._seen: list[tuple[Operation, float, list[float]]] = []

    def begin(self, operation: Operation) -> list[float]:
        """Note when an operation begins; return where its end will be noted."""
        ended: list[float] = []
        self._seen.append((operation, self._now(), ended))
        return ended

    def end(self, ended: list[float], work: Any) -> Any:
        """Note when it is over; if it is pending, return a handle that notes the end of a wait."""
        if hasattr(work, "wait"):
            return _TimedWork(work, ended, self._now)
        ended.append(self._now())
        return work

    def fail(self, ended: list[float], error: BaseException) -> None:
        """Note when it raised."""
        ended.append(self._now())

    def events(self) -> tuple[Event, ...]:
        """Return what was seen until now; what nobody waited for ends now."""
        return tuple(
            Event(
                self._rank,
                operation.name,
                start,
                ended[0] if ended else self._now(),
                group=operation.group,
                bytes=operation.bytes,
                peer=operation.peer,
            )
            for operation, start, ended in self._seen
        )

    def _now(self) -> float:
        return time.perf_counter() - self._begun


class _TimedWork:
    """A pending operation that notes when the wait for it is over."""

    def __init__(self, work: Any, ended: list[float], now: Callable[[], float]) -> None:
        self._work, self._ended, self._now = work, ended, now

    def wait(self, *args: Any, **kwargs: Any) -> Any:
        result = self._work.wait(*args, **kwargs)
        self._ended.append(self._now())
        return result

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        """The class of the operation, for who asks with `isinstance`."""
        return type(self._work)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._work, name)
