"""Do the ranks call the same operations? Compared as they call, and when a run is over.

Gloo does not compare: of tensors of different sizes or types it makes numbers that mean nothing, or
ends a process, or waits for ever. ``TORCH_DISTRIBUTED_DEBUG=DETAIL`` does, with messages: an
all-reduce of 16 ranks on two cores then takes 47 ms in place of 8, and it does not see sends and
receives. Ranks of one machine can do without messages: each writes what it calls into a table that
all can read, and looks there before it goes on.
"""

import mmap
import os
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from .protocol import RECEIVES, SENDS, Operation, Summary, is_cell

_NAMES = (
    *("all_reduce", "broadcast", "reduce", "all_gather", "all_gather_into_tensor"),
    *("all_gather_single", "reduce_scatter", "reduce_scatter_tensor", "reduce_scatter_single"),
    *("gather", "scatter", "all_to_all", "all_to_all_single", "barrier"),
    *(*SENDS, *RECEIVES),
)
_DTYPES = (
    *("", "float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8"),
    *("bool", "complex64", "complex128"),
)
_REDUCTIONS = ("", "sum", "avg", "product", "min", "max", "band", "bor", "bxor")

_SLOTS = 1024
_FIELDS = 4  # elements, what, line, key
_BODY, _KEY = struct.Struct("=3q"), struct.Struct("=q")
_ROW_SIZE = _BODY.size + _KEY.size
MOST_KEPT = 20_000
_MOST_NAMED = 16
_SETTLED = 0.02
"""Seconds after which what seemed to differ is looked at again."""

_MASK = 2**62 - 1
_OF_ARGUMENTS = "ProcessGroupGloo::"
"""How the text begins when torch finds arguments wrong before gloo does anything."""

Ranks = np.ndarray[Any, np.dtype[np.int64]]


class Table:
    """What each rank of a machine called last, in memory that all of them can read.

    A file of 32 kB for each rank. An operation stands in the slot that its key says, until another
    one needs it.

    Parameters
    ----------
    path : Path
        The same for all ranks.
    rank, world_size : int
        Who writes here, and how many may.

    Raises
    ------
    OSError
        When the disk is full.
    """

    def __init__(self, path: Path, rank: int, world_size: int) -> None:
        size = _SLOTS * _ROW_SIZE
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.ftruncate(file, world_size * size)
            os.pwrite(file, bytes(size), rank * size)  # a full disk is told now, and by an error
            self._memory = mmap.mmap(file, world_size * size)
        finally:
            os.close(file)
        self._rows = np.frombuffer(self._memory, np.int64).reshape(world_size, _SLOTS, _FIELDS)
        self._first = rank * size

    def write(self, key: int, operation: Operation) -> None:
        """Write down an operation of this rank; its key last, so that others read all or none."""
        at = self._first + key % _SLOTS * _ROW_SIZE
        self.erase(key)
        line = operation.line if is_cell(operation.file) else 0
        _BODY.pack_into(self._memory, at, operation.elements, _what(operation), line)
        _KEY.pack_into(self._memory, at + _BODY.size, key)

    def erase(self, key: int) -> None:
        """Take an operation of this rank back."""
        _KEY.pack_into(self._memory, self._first + key % _SLOTS * _ROW_SIZE + _BODY.size, 0)

    def differing(self, key: int, operation: Operation, ranks: Ranks) -> dict[int, Operation]:
        """Return what ranks have written under this key, if it does not go with an operation."""
        if not self._differing(key, operation, ranks):
            return {}
        time.sleep(_SETTLED)  # a rank may just be writing there, or take back what torch refuses
        return self._differing(key, operation, ranks)

    def _differing(self, key: int, operation: Operation, ranks: Ranks) -> dict[int, Operation]:
        rows = self._rows[ranks, key % _SLOTS]
        compared = _DTYPE_BITS if operation.is_message else -1
        differ = (rows[:, 1] ^ _what(operation)) & compared != 0
        differ |= rows[:, 0] != operation.elements
        differ &= rows[:, 3] == key
        if not differ.any():
            return {}
        return {int(ranks[n]): _read(rows[n]) for n in np.flatnonzero(differ)}


_DTYPE_BITS = 0xFF00


def _what(operation: Operation) -> int:
    """Return all but the number of elements that must be the same, as one number."""
    name, dtype = _NAMES.index(operation.name), _number(_DTYPES, operation.dtype)
    reduction = _number(_REDUCTIONS, operation.reduction)
    root = 0 if operation.is_message or operation.peer is None else operation.peer + 1
    return name | dtype << 8 | reduction << 16 | root << 24


def _number(names: Sequence[str], name: str) -> int:
    return names.index(name) if name in names else 255


def _read(row: Ranks) -> Operation:
    """Return what a row of the table tells of an operation."""
    elements, what, line, _ = row.tolist()
    root = (what >> 24) - 1
    names = (_NAMES, _DTYPES, _REDUCTIONS)
    name, dtype, reduction = (
        names[n][number] if (number := what >> 8 * n & 255) < len(names[n]) else "of another type"
        for n in range(3)
    )
    return Operation(
        name,
        elements=elements,
        dtype=dtype,
        reduction=reduction,
        peer=None if root < 0 else root,
        line=line,
    )


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
                f"{_some(operation.group)}"
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
        chain = hash((chain, operation.elements, _what(operation))) & _MASK
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
        mark = hash((operation.tag, nth, operation.elements, _what(operation) & _DTYPE_BITS))
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
    said = " and ".join(f"{_ranks_call(who)} {what}" for what, who in ranks.items())
    return (
        f"this rank calls {mine}, and {said}; the ranks of a group call the same, with tensors of "
        f"one size and type"
    )


def _ranks_call(ranks: Sequence[int]) -> str:
    return f"ranks {_some(ranks)} call" if len(ranks) > 1 else f"rank {_some(ranks)} calls"


def _some(ranks: Sequence[int]) -> str:
    return " ".join(map(str, ranks[:_MOST_NAMED])) + " …" * (len(ranks) > _MOST_NAMED)


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
