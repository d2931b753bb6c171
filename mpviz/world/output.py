"""What a rank prints: kept, within limits, until its job is done."""

import os
import sys
from collections import deque
from io import RawIOBase, TextIOBase
from pathlib import Path
from typing import Any

_HEAD, _TAIL = 200, 50
_LONGEST_LINE = 2_000
_MOST_NATIVE = 20_000


class Capture(TextIOBase):
    """Standard output and error of a rank; of very much, the first and the last lines.

    Python's prints never touch a file. What libraries write below Python goes to ``log``, which
    also tells what a rank said before it died.
    """

    encoding = "utf-8"
    errors = "replace"

    def __init__(self, log: Path) -> None:
        self._log = os.open(log, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        for stream in (1, 2):
            os.dup2(self._log, stream)
        sys.stdout = sys.stderr = self
        self.buffer = _Bytes(self)
        self._reset()

    def _reset(self) -> None:
        self._head: list[str] = []
        self._tail: deque[str] = deque(maxlen=_TAIL)
        self._left_out = 0
        self._line = ""

    def writable(self) -> bool:
        """Return True, as a text stream does that can be printed to."""
        return True

    def fileno(self) -> int:
        """Return the log's descriptor, for what writes below Python, such as a subprocess."""
        return self._log

    def close(self) -> None:
        """Do nothing: a rank prints for as long as it lives."""

    def write(self, text: str) -> int:
        """Keep a piece of text."""
        *lines, self._line = (self._line + text).split("\n")
        self._line = self._line[:_LONGEST_LINE]
        for line in lines:
            self._keep(line[:_LONGEST_LINE])
        return len(text)

    def _keep(self, line: str) -> None:
        if len(self._head) < _HEAD:
            self._head.append(line)
            return
        self._left_out += len(self._tail) == _TAIL
        self._tail.append(line)

    def taken(self) -> str:
        """Return what was printed since last time, and forget it."""
        if self._line:
            self._keep(self._line)
        gap = [f"… {self._left_out:,} lines left out …"] if self._left_out else []
        lines = [*self._head, *gap, *self._tail]
        self._reset()
        return "\n".join([*lines, *self._native()])

    def _native(self) -> list[str]:
        size = os.fstat(self._log).st_size
        if not size:
            return []
        text = os.pread(self._log, _MOST_NATIVE, max(0, size - _MOST_NATIVE))
        os.ftruncate(self._log, 0)
        return text.decode(errors="replace").splitlines()


class _Bytes(RawIOBase):
    """``sys.stdout.buffer``: bytes that are printed as text."""

    def __init__(self, text: Capture) -> None:
        self._text = text

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self._text.write(piece.decode("utf-8", "replace"))
        return len(piece)

    def close(self) -> None:
        pass
