"""What a world and its ranks say to each other: small values, pickled."""

from dataclasses import dataclass, field

from ..timeline import Event

CELL = "<ranks cell>"
"""The file name of a learner's cell in tracebacks."""


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
    message : str
        What it waits for from that rank, in words, if the code that waits says so.
    silent : bool
        Whether the rank did not answer at all.
    ran, used : float
        CPU seconds of the thread that works, and of the whole process but for its answers: whether
        it has moved since it was asked before.
    """

    file: str = ""
    line: int = 0
    code: str = ""
    waits_in: str = ""
    group: tuple[int, ...] = ()
    group_name: str = ""
    peer: int | None = None
    message: str = ""
    silent: bool = False
    ran: float = field(default=0.0, compare=False)
    used: float = field(default=0.0, compare=False)


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
    timed_out : bool
        Whether it is a wait for other ranks that took too long.
    awaited : tuple of int
        The ranks that it waited for; empty if that is not known.
    at : float
        When, by ``time.perf_counter``, a clock that all processes of a machine share.
    """

    kind: str
    message: str
    place: Place
    trace: str
    disconnects: bool = False
    timed_out: bool = False
    awaited: tuple[int, ...] = field(default=(), compare=False)
    at: float = field(default=0.0, compare=False)


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
