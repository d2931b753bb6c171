"""What each rank of a machine called last: a table in memory that all of them can read."""

import mmap
import os
import struct
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .protocol import RECEIVES, SENDS, Operation, is_cell

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
_SETTLED = 0.02
"""Seconds after which what seemed to differ is looked at again."""

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
        differ = (rows[:, 1] ^ _what(operation)) & _bits(operation) != 0
        differ |= rows[:, 0] != operation.elements
        differ &= rows[:, 3] == key
        if not differ.any():
            return {}
        return {int(ranks[n]): _read(rows[n]) for n in np.flatnonzero(differ)}


def compared(operation: Operation) -> int:
    """Return all but the number of elements that the others must call alike, as one number."""
    return _what(operation) & _bits(operation)


def _bits(operation: Operation) -> int:
    """Return which part of `_what` counts: of a message the type alone."""
    return 0xFF00 if operation.is_message else -1


def _what(operation: Operation) -> int:
    """Return what the table says of an operation beside its size and line, as one number."""
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
