"""Do the ranks call the same operations? Compared as they call, and when a run is over.

Gloo does not compare: of tensors of different sizes or types it makes numbers that mean nothing, or
ends a process, or waits for ever. ``TORCH_DISTRIBUTED_DEBUG=DETAIL`` does, with messages: an
all-reduce of 16 ranks on two cores then takes five times as long (``bench_check.py``), and it does
not see sends and receives. Ranks of one machine can do without messages: each writes what it calls
into a table that all can read, and looks there before it goes on.
"""

import threading
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np

from .excerpt import few, named_ranks
from .protocol import RECEIVES, SENDS, Operation, Summary
from .table import Ranks, Table, compared

MOST_KEPT = 20_000
_MASK = 2**62 - 1
_OF_ARGUMENTS = "ProcessGroupGloo::"
"""How the text begins when torch finds arguments wrong before gloo does anything."""


# ---- in a rank


@dataclass
class _Call:
    """One call of an operation, and how to forget it."""

    operation: Operation
    key: int = 0
    undo: list[tuple[dict[Any, Any], Any, Any]] = field(default_factory=list)

    def put(self, counts: dict[Any, Any], where: Any, value: Any) -> None:
        """Set a count, so that it can be set back."""
        self.undo.append((counts, where, counts.get(where)))
        counts[where] = value


class Log:
    """What a rank calls in a run; an `Observer` that stops it where others called otherwise.

    Attributes
    ----------
    operations : list of Operation
        The first `MOST_KEPT`.
    summary : Summary
        Of all.
    """

    def __init__(self, rank: int, table: Table) -> None:
        self._rank, self._table = rank, table
        self._numbers: dict[tuple[str, tuple[int, ...]], tuple[int, Ranks]] = {}
        self._noting = threading.RLock()  # of one thread again, where a finalizer calls something
        self.start(0)

    def start(self, run: int) -> None:
        """Begin a run; ``run`` is a number that no other run has."""
        self._run = run
        self._messages: dict[Any, int] = {}
        self._unclear: set[tuple[int, int]] = set()
        self.operations: list[Operation] = []
        self.summary = Summary()

    def begin(self, operation: Operation) -> _Call:
        """Note an operation before it is called.

        Raises
        ------
        ValueError
            When another rank has called something here that does not go with it.
        """
        call = _Call(operation)
        if not operation.dtype and operation.name != "barrier":
            return call  # without a tensor: torch says so
        if operation.peer is not None and operation.peer not in operation.group:
            raise ValueError(
                f"{operation.name}: rank {operation.peer} is not in this group of ranks "
                f"{few(operation.group)}"
            )
        with self._noting:
            if len(self.operations) < MOST_KEPT:
                self.operations.append(operation)
            differing = self._note(call)
        if differing:
            raise ValueError(mismatch(operation, differing))
        return call

    def end(self, call: _Call, work: Any) -> Any:
        """Note whose message came, where any rank's could."""
        operation = call.operation
        if operation.name == "recv" and operation.peer is None and isinstance(work, int):
            number, _ = self._numbered(operation)
            channel = (False, number, work, self._rank, operation.tag)
            with self._noting:
                self._messages[channel] = self._messages.get(channel, 0) + 1
        return work

    def fail(self, call: _Call, error: BaseException) -> None:
        """Forget a call that torch refused before it did anything."""
        if not (isinstance(error, TypeError | ValueError) or str(error).startswith(_OF_ARGUMENTS)):
            return
        with self._noting:
            for counts, where, before in call.undo:
                if before is None:
                    del counts[where]
                else:
                    counts[where] = before
            if call.key:
                self._table.erase(call.key)
            last = range(len(self.operations))[::-1]
            kept = (n for n in last if self.operations[n] is call.operation)
            if (at := next(kept, None)) is not None:
                del self.operations[at]

    def _note(self, call: _Call) -> dict[int, Operation]:
        """Count an operation and write it into the table; return who called something else."""
        operation = call.operation
        number, ranks = self._numbered(operation)
        if not operation.is_message:
            meeting = (self._nth_collective(call),)
        elif operation.peer is None:
            self.summary.from_any += 1
            if operation.name == "irecv":
                self._unclear.add((number, operation.tag))
            return {}
        else:
            meeting = self._nth_message(call, number)
            if operation.name in RECEIVES and (number, operation.tag) in self._unclear:
                return {}  # which of the sender's it takes depends on what came to the irecv
            ranks = np.array([operation.peer])
        call.key = hash((number, self._run, *meeting)) & _MASK or 1
        self._table.write(call.key, operation)
        return self._table.differing(call.key, operation, ranks)

    def _nth_collective(self, call: _Call) -> int:
        """Count a collective of a group; return how many came before."""
        operation, counts = call.operation, self.summary.collectives
        where = (operation.group_name, operation.group)
        nth, chain = counts.get(where, (0, 0))
        chain = hash((chain, operation.elements, compared(operation))) & _MASK
        call.put(counts, where, (nth + 1, chain))
        return nth

    def _nth_message(self, call: _Call, number: int) -> tuple[Any, ...]:
        """Count a message of a pair of ranks; return what tells it from all others."""
        operation = call.operation
        sends = operation.name in SENDS
        pair = (self._rank, operation.peer) if sends else (operation.peer, self._rank)
        channel = (sends, number, *pair, operation.tag)
        nth = self._messages.get(channel, 0)
        call.put(self._messages, channel, nth + 1)
        counts: dict[Any, Any] = self.summary.sent if sends else self.summary.received
        where = (operation.group_name, *pair)
        count, marks = counts.get(where, (0, 0))
        mark = hash((operation.tag, nth, operation.elements, compared(operation)))
        call.put(counts, where, (count + 1, (marks + mark) & _MASK))
        return nth, *pair, operation.tag

    def _numbered(self, operation: Operation) -> tuple[int, Ranks]:
        """Return a number for the group, the same on all ranks, and its members."""
        group = operation.group_name, operation.group
        if group not in self._numbers:
            digest = blake2b(repr(group).encode(), digest_size=7).digest()
            self._numbers[group] = int.from_bytes(digest, "little"), np.array(operation.group)
        return self._numbers[group]


def mismatch(mine: Operation, theirs: Mapping[int, Operation]) -> str:
    """Return what is wrong when ranks call operations that do not go together.

    >>> x, y = (Operation("broadcast", elements=2, dtype="int32", peer=root) for root in (0, 1))
    >>> print(mismatch(x, {3: y}).partition(", and ")[2].partition("; ")[0])
    rank 3 calls broadcast of 2 int32 with root 1
    """
    if mine.is_message:
        ((rank, other),) = theirs.items()
        verb, verbs = ("sends", "receives") if mine.name in SENDS else ("receives", "sends")
        toward = "to" if mine.name in SENDS else "from"
        return (
            f"this rank {verb} {mine.tensor} {toward} rank {rank}, which {verbs} {other.tensor}"
            f"{_at_line(other)}; a message is received in a tensor of its own size and type"
        )
    ranks: dict[str, list[int]] = defaultdict(list)
    for rank, other in theirs.items():
        ranks[f"{other}{_at_line(other)}"].append(rank)
    said = " and ".join(
        f"{named_ranks(who)} {'call' if len(who) > 1 else 'calls'} {what}"
        for what, who in ranks.items()
    )
    return (
        f"this rank calls {mine}, and {said}; the ranks of a group call the same, with tensors of "
        f"one size and type"
    )


def _at_line(operation: Operation) -> str:
    return f" (line {operation.line})" if operation.line else ""


# ---- in the notebook


def matched(summaries: Mapping[int, Summary]) -> bool:
    """Whether everything that ranks called in a run found its counterpart.

    Parameters
    ----------
    summaries : mapping of int to Summary
        Of each rank that ran.
    """
    nothing = Summary()
    collectives = all(
        summaries.get(member, nothing).collectives.get(group) == called
        for summary in summaries.values()
        for group, called in summary.collectives.items()
        for member in group[1]
    )
    return collectives and _messages_matched(summaries)


def _messages_matched(summaries: Mapping[int, Summary]) -> bool:
    sent = {pair: said for summary in summaries.values() for pair, said in summary.sent.items()}
    received = {
        pair: said for summary in summaries.values() for pair, said in summary.received.items()
    }
    from_any = {rank: summary.from_any for rank, summary in summaries.items() if summary.from_any}
    if not from_any:
        return sent == received
    counts: dict[int, int] = defaultdict(int)
    for pairs, sign in ((sent, 1), (received, -1)):
        for (_, _, receiver), (count, _) in pairs.items():
            counts[receiver] += sign * count
    return all(counts[rank] == from_any.get(rank, 0) for rank in {*counts, *from_any})
