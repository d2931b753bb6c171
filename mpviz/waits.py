"""What a thread waits for, said where its stack shows it.

Whoever asks where a rank is sees the functions it is in, and a wait for other ranks looks like any
other call. So code that waits does it inside `waiting`, and `awaited_in` finds it on the stack. The
two know nothing of each other: the code runs under torchrun as well, where nobody asks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Awaited:
    """What is waited for, and from whom.

    Attributes
    ----------
    call : str
        The function that waits, as its user knows it: ``"pipeline.execute"``.
    group : ProcessGroup, optional
        The ranks that must come.
    peer : int, optional
        The one rank of the world whose message is waited for.
    what : str
        That message, in words.
    """

    call: str
    group: Any = None
    peer: int | None = None
    what: str = ""


def waiting(awaited: Awaited, wait: Callable[[], T]) -> T:
    """Call ``wait``; while it runs, the stack shows what it waits for.

    Parameters
    ----------
    awaited : Awaited
        What it waits for.
    wait : callable
        Without arguments; what it returns is returned, what it raises is raised.

    Examples
    --------
    >>> waiting(Awaited("all_reduce"), lambda: "done")
    'done'
    """
    return wait()


def awaited_in(frame: FrameType) -> Awaited | None:
    """Return what a frame waits for, if it is one of `waiting`.

    Examples
    --------
    >>> import sys
    >>> waiting(Awaited("barrier"), lambda: awaited_in(sys._getframe(1)))
    Awaited(call='barrier', group=None, peer=None, what='')
    """
    if frame.f_code is not waiting.__code__:
        return None
    awaited = frame.f_locals.get("awaited")
    return awaited if isinstance(awaited, Awaited) else None
