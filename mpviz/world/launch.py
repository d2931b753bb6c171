"""Starting the rank processes, through a server that has imported torch once and forks.

Sixteen ranks then cost a quarter of a second and about 15 MB each. Standard library only; the
notebook's own process never needs torch.
"""

import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import IO, Any

from ..layout import ParallelLayout
from . import server
from .member import MEMBERS, Member, RankProcess
from .requirements import StartError, address_space

IMPORT_DEADLINE = 120.0
_REPLY_DEADLINE = 30.0
_MOST_SAID = 20_000


class Server:
    """The process that has imported torch, and forks ranks; it ends with the notebook."""

    def __init__(self) -> None:
        self._said = _unnamed_file()
        self._sending = threading.Lock()
        self._socket, its = socket.socketpair()
        flags = "-PB" if sys.dont_write_bytecode else "-P"
        # What is blocked stays blocked in the server and in every rank: Jupyter interrupts the
        # whole process group, and the server would die of it while it still imports torch.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process = subprocess.Popen(
                [sys.executable, flags, server.__file__, str(its.fileno())],
                env={name: text for name, text in os.environ.items() if name != "PYTHONPATH"},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=self._said,
                stderr=self._said,
                pass_fds=[its.fileno()],
            )
        except OSError as error:
            raise StartError(f"{sys.executable!r} cannot be run ({error.strerror})") from None
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            its.close()
        self._ready = False
        environ = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
        package = str(Path(__file__).parents[1])
        with suppress(ConnectionError):  # then it is dead, and what it said tells why
            self._send({"path": _installed_first(), "environ": environ, "package": package})

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process is there."""
        return self._process.poll() is None

    def wait(self) -> None:
        """Wait until torch is imported; StartError if that fails."""
        if self._ready:
            return
        self._socket.settimeout(IMPORT_DEADLINE)
        try:
            self._ready = self._socket.recv(1) == server.READY
        except TimeoutError:
            self.discard()
            raise StartError(f"torch was not imported within {IMPORT_DEADLINE:g} s") from None
        except ConnectionError:
            pass
        if not self._ready:
            raise StartError(self.discard())

    def fork(self, request: dict[str, Any], *pipes: Connection) -> RankProcess:
        """Start a rank that has these pipes; ConnectionError if the server has died."""
        status, its = os.pipe()
        try:
            self._send(request, [its, *(pipe.fileno() for pipe in pipes)])
        except BaseException:
            os.close(status)
            raise
        finally:
            os.close(its)
        data = os.read(status, server.LENGTH.size) if wait([status], _REPLY_DEADLINE) else b""
        if data and (pid := server.LENGTH.unpack(data)[0]) > 0:
            return RankProcess(status, pid)
        os.close(status)
        if not data:
            raise ConnectionError
        raise OSError(-pid, os.strerror(-pid))

    def _send(self, message: dict[str, Any], files: list[int] | None = None) -> None:
        body = pickle.dumps(message)
        with self._sending:  # two worlds may start at once
            socket.send_fds(self._socket, [server.LENGTH.pack(len(body))], files or [])
            self._socket.sendall(body)

    def discard(self) -> str:
        """Forget a server that has died; return how it did, the cause first."""
        if _servers.get(os.getpid()) is self:
            del _servers[os.getpid()]
        self._socket.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        said = self.said()
        self.close()
        code = self._process.returncode
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        end = f"the process that imports torch {how}"
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        cause = f"{lines[-1]} ({end})" if lines else end
        if "ModuleNotFoundError" in cause:
            cause += "; mpviz.doctor() says what is missing"
        return cause + address_space()

    def said(self) -> str:
        """Return what the server, and ranks before they had a log, wrote since last time."""
        file = self._said.fileno()
        text = os.pread(file, _MOST_SAID, max(0, os.fstat(file).st_size - _MOST_SAID))
        os.ftruncate(file, 0)
        return text.decode(errors="replace")

    def close(self) -> None:
        """End the process."""
        self._socket.close()
        self._process.kill()
        self._process.wait()
        self._said.close()

    def let_go(self) -> None:
        """Close what a fork of the notebook has of its parent's server."""
        self._socket.close()
        self._said.close()


_servers: dict[int, Server] = {}
_starting = threading.Lock()


def ready() -> Server:
    """Return the server of this process, torch imported; start it if there is none."""
    with _starting:
        found = _servers.get(os.getpid())
        if found is None or not found.alive:
            if found is not None:
                found.close()
            found = _servers[os.getpid()] = Server()
        found.wait()
        return found


def launched(
    layout: ParallelLayout,
    folder: Path,
    *,
    deadline: float,
    threads: int,
    each: Callable[[Member], None],
) -> None:
    """Start one process for each rank, and give ``each`` as soon as it is there."""
    ready().said()  # of an earlier start
    request = {
        "layout": pickle.dumps(layout),
        "folder": str(folder),
        "cwd": _folder_of_notebook(),
        "path": _path(),
        "argv": sys.argv,
        # What the notebook has imported its ranks will: once in the server, not once in each rank.
        "imports": [name for name in sys.modules if name.startswith("mpviz.parallel.")],
        "options": {"deadline": deadline, "threads": threads},
    }
    for rank in range(layout.world_size):
        try:
            member = _started(request | {"rank": rank})
        except OSError as error:
            raise StartError(
                f"{error.strerror or error} at rank {rank} of {layout.world_size} "
                f"(the machine allows no more processes or files, or has no more memory)"
            ) from None
        each(member)


def _started(request: dict[str, Any]) -> Member:
    """Start a rank, with a new server if the old one has just died."""
    jobs, its_jobs = Pipe()
    control, its_control = Pipe()
    # With our copies closed, a pipe ends exactly when its rank does.
    with its_jobs, its_control:
        found = ready()
        try:
            process = found.fork(request, its_jobs, its_control)
        except ConnectionError:
            found.discard()
            found = ready()
            try:
                process = found.fork(request, its_jobs, its_control)
            except ConnectionError:
                raise StartError(found.discard()) from None
    return Member(process, jobs, control)


@contextmanager
def installed_first() -> Iterator[None]:
    """Import what is installed, whatever lies beside the notebook."""
    before = sys.path[:]
    sys.path[:] = _installed_first()
    try:
        yield
    finally:
        sys.path[:] = before


def _installed_first() -> list[str]:
    """Return where modules are looked for, with the folder of the notebook last.

    A ``random.py`` of the learner's is then no trap for torch.
    """
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    here = _folder_of_notebook()
    own = [here, "", "."]
    if script and here:
        own.append(os.path.dirname(os.path.join(here, script)))
    paths = _path()
    return sorted(paths, key=lambda entry: entry in own)


def _path() -> list[str]:
    """Return where modules are looked for; a deleted folder is no such place."""
    here = _folder_of_notebook()
    paths = [here if entry in ("", ".") else entry for entry in sys.path]
    return [entry for entry in paths if entry is not None]


def _folder_of_notebook() -> str | None:
    try:
        return os.getcwd()
    except OSError:
        return None  # deleted; ranks work in / then


def _unnamed_file() -> IO[bytes]:
    """Return a file that is gone when it is closed, and needs no folder where that is possible."""
    if hasattr(os, "memfd_create"):
        number = os.memfd_create("mpviz")
    else:
        with tempfile.TemporaryFile() as file:
            number = os.dup(file.fileno())
    import fcntl  # not on Windows

    fcntl.fcntl(number, fcntl.F_SETFL, os.O_APPEND)  # several write, and it is emptied in between
    return os.fdopen(number, "w+b", buffering=0)


def _leave_to_the_parent() -> None:
    """In a fork of the notebook: the ranks are its parent's, and so are all ends of their pipes."""
    global _starting
    _starting = threading.Lock()
    for found in _servers.values():
        found.let_go()
    for member in list(MEMBERS):
        member.close()


if hasattr(os, "register_at_fork"):  # not on Windows, where a World says that it does not run
    os.register_at_fork(after_in_child=_leave_to_the_parent)
