"""One rank, seen from the notebook: its process, and the pipes to it."""

import os
import signal
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from weakref import WeakSet

from . import server

UNKNOWN = 256
"""In place of an exit code, where the server died or was stopped before it could tell."""


class RankProcess:
    """A process that the server forked. Its pipe brings its id, and later its exit code."""

    def __init__(self, status: int, pid: int) -> None:
        self.pid = pid
        self._status: int | None = status
        self._exitcode: int | None = None
        self._reading = threading.Lock()

    @property
    def exitcode(self) -> int | None:
        """How the process ended, negative for a signal; None while it is there."""
        return self._ended(0)

    def is_alive(self) -> bool:
        """Whether the process is there."""
        return self._ended(0) is None

    def join(self, seconds: float) -> None:
        """Wait for the end of the process."""
        self._ended(seconds)

    def kill(self) -> None:
        """End the process, unless its end is known."""
        if self._ended(0) in (None, UNKNOWN):
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Forget the process; it is over, or another's."""
        if self._status is not None:
            os.close(self._status)
        self._status = None

    def _ended(self, seconds: float) -> int | None:
        with self._reading:
            status = self._status
            if self._exitcode is None and status is not None and wait([status], seconds):
                data = os.read(status, server.LENGTH.size)
                if data:
                    self._exitcode = server.LENGTH.unpack(data)[0]
                elif not _is_there(self.pid):  # a rank can do without the server
                    self._exitcode = UNKNOWN
            return self._exitcode


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


@dataclass(eq=False)
class Member:
    """One rank: its process, and our ends of its two pipes.

    Attributes
    ----------
    process : RankProcess
        Of the rank.
    jobs, control : Connection
        For work; and for "where are you?", which it answers while it works.
    unanswered : bool
        Whether such a question is still open.
    """

    process: RankProcess
    jobs: Connection
    control: Connection
    unanswered: bool = False

    def __post_init__(self) -> None:
        MEMBERS.add(self)

    def hang_up(self) -> None:
        """End both conversations, even if a child of the rank holds its ends open."""
        for pipe in (self.jobs, self.control):
            with suppress(OSError), socket.socket(fileno=os.dup(pipe.fileno())) as ours:
                ours.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of the rank, whatever it does; to a living one that is the end of its owner."""
        self.jobs.close()
        self.control.close()
        self.process.close()


MEMBERS: "WeakSet[Member]" = WeakSet()
"""All of this process: a fork of the notebook must let go of its copies."""
