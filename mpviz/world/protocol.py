"""What a world and its ranks say to each other: small values, pickled."""

from dataclasses import dataclass, field
from zlib import crc32

from ..timeline import Event

CELL = "<ranks cell"
"""How the file name of a learner's cell begins in tracebacks."""


def cell_name(source: str) -> str:
    """Return the file name of a cell: its own, for its functions are still called from later ones.

    >>> cell_name("x = 1")
    '<ranks cell 475ba176>'
    """
    return f"{CELL} {crc32(source.encode(errors='replace')):08x}>"


@dataclass(frozen=True)
class Job:
    """Something for a rank to do.

    Attributes
    ----------
    source : str
        The text of a cell; empty for a call.
    call : bytes
        A function with its arguments, by cloudpickle; empty for a cell.
    record_from : float, optional
        Record the communication, and count seconds from this reading of ``time.perf_counter``,
        a clock that all processes of a machine share.
    """

    source: str = ""
    call: bytes = b""
    record_from: float | None = None


@dataclass(frozen=True)
class Place:
    """Where a rank is: a line of the learner's code, and the operation it waits in, if any.

    Attributes
    ----------
    file, line, code
        File, line number and text of the learner's innermost line.
    waits_in : str
        ``"all_reduce"`` …; empty when it computes.
    group : tuple of int
        The ranks it waits for, itself included.
    group_name : str
        ``"dp"`` …; ``"world"`` for all ranks, empty for a group made by the learner.
    peer : int, optional
        The other rank of a send or recv.
    silent : bool
        Whether the rank did not answer at all.
    """

    file: str = ""
    line: int = 0
    code: str = ""
    waits_in: str = ""
    group: tuple[int, ...] = ()
    group_name: str = ""
    peer: int | None = None
    silent: bool = False


@dataclass(frozen=True)
class Failure:
    """What a rank raised.

    Attributes
    ----------
    kind, message : str
        Type and text of the exception.
    place : Place
        The learner's line.
    trace : str
        The traceback, the package's own frames left out.
    disconnects : bool
        Whether it comes out of the communication itself; gloo then gives up the connection.
    """

    kind: str
    message: str
    place: Place
    trace: str
    disconnects: bool = False


@dataclass(frozen=True)
class Outcome:
    """How a job ended on one rank.

    Attributes
    ----------
    text : str
        The result as Python shows it, text without quotes; empty for None.
    value : bytes
        The result, pickled; empty for None.
    output : str
        What the rank printed.
    failure : Failure, optional
        What it raised.
    events : tuple of Event
        What it recorded.
    """

    text: str = ""
    value: bytes = b""
    output: str = ""
    failure: Failure | None = None
    events: tuple[Event, ...] = field(default=())
