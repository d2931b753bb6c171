"""What a world and its ranks say to each other: small values, pickled."""

from dataclasses import dataclass, field
from typing import NamedTuple
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


def is_cell(file: str) -> bool:
    """Whether a file is a cell, of ranks or of the notebook, whose lines the reader can count.

    >>> is_cell(cell_name("x = 1")), is_cell("train.py")
    (True, False)
    """
    return file.startswith((CELL, "<ipython")) or "ipykernel_" in file


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
    number : int
        No other job of the ranks has it.
    compare : bool
        Stop a rank that calls another operation than the others, and sum up all operations.
    report_operations : bool
        Nothing else: return the operations of the job before.
    """

    source: str = ""
    call: bytes = b""
    record_from: float | None = None
    number: int = 0
    compare: bool = True
    report_operations: bool = False


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
    calls : int
        How many collectives of the group it has called in this run, the one it waits in included.
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
    calls: int = 0
    silent: bool = False
    ran: float = field(default=0.0, compare=False)
    used: float = field(default=0.0, compare=False)


SENDS, RECEIVES = ("send", "isend"), ("recv", "irecv")


class Operation(NamedTuple):
    """One call of a collective, a send or a receive.

    Attributes
    ----------
    name : str
        Of the function.
    group : tuple of int
        The members' ranks.
    group_name : str
        What torch calls the group; no other group of the world has this name.
    bytes : int
        Of what this rank contributes or receives.
    elements : int
        In the tensor that must be as large on every member; 0 where sizes may differ.
    dtype : str
        Of its elements, as ``"float32"``; empty where there is no tensor.
    reduction : str
        ``"sum"`` …; empty where nothing is reduced.
    peer : int, optional
        The root of a collective that has one; the other rank of a message.
    tag : int
        Of a message.
    file, line
        The learner's innermost line.
    """

    name: str
    group: tuple[int, ...] = ()
    group_name: str = ""
    bytes: int = 0
    elements: int = 0
    dtype: str = ""
    reduction: str = ""
    peer: int | None = None
    tag: int = 0
    file: str = ""
    line: int = 0

    @property
    def is_message(self) -> bool:
        """Whether it is a send or a receive."""
        return self.name in SENDS + RECEIVES

    @property
    def tensor(self) -> str:
        """What is sent or received: "4 float32"; empty where there is no tensor."""
        return f"{self.elements} {self.dtype}" if self.elements else self.dtype

    def __str__(self) -> str:
        tensor = f" of {self.tensor}" if self.tensor else ""
        how = f" ({self.reduction})" if self.reduction else ""
        root = f" with root {self.peer}" if self.peer is not None else ""
        return f"{self.name}{tensor}{how}{root}"


@dataclass
class Summary:
    """The operations of a rank's run, small enough to send after each run.

    Attributes
    ----------
    collectives : dict
        For each group, by torch's name and the members: how many, and a hash of all in order.
    sent, received : dict
        For each pair of ranks, by the name of the group, sender and receiver: how many messages,
        and a hash of them in any order.
    from_any : int
        Messages received from whoever came first.
    """

    collectives: dict[tuple[str, tuple[int, ...]], tuple[int, int]] = field(default_factory=dict)
    sent: dict[tuple[str, int, int], tuple[int, int]] = field(default_factory=dict)
    received: dict[tuple[str, int, int], tuple[int, int]] = field(default_factory=dict)
    from_any: int = 0

    def calls(self, group: tuple[int, ...]) -> int:
        """Return how many collectives of a group were called."""
        return sum(count for (_, who), (count, _) in self.collectives.items() if who == group)


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
    summary : Summary
        Of the operations it called.
    groups_gone : bool
        Whether it has destroyed process groups that the next run would need.
    """

    text: str = ""
    value: bytes = b""
    output: str = ""
    failure: Failure | None = None
    events: tuple[Event, ...] = ()
    summary: Summary = field(default_factory=Summary)
    groups_gone: bool = False
