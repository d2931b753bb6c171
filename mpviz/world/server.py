"""The server of ranks: a process that imports torch once and is forked for each rank.

The notebook runs this file by its path and talks to it through a socket that has no name. Python's
own `multiprocessing.forkserver` imports with the notebook's folder in front, so that a `random.py`
there ends it; it needs a short TMPDIR; it reports its errors where no notebook shows them; and it
lets a fork of the notebook kill the ranks.
"""

import importlib
import importlib.util
import multiprocessing
import os
import pickle
import select
import signal
import socket
import struct
import sys
import traceback
from contextlib import suppress
from multiprocessing.connection import Connection
from types import ModuleType
from typing import Any

LENGTH = struct.Struct("q")
"""How a number is sent: the length of a message, a process id, an exit code."""

READY = b"!"


def main() -> None:
    """Import what ranks need, say so, and fork until the notebook closes the socket."""
    requests = socket.socket(fileno=int(sys.argv[1]))
    given, _ = _received(requests)
    sys.path[:] = given["path"]
    os.environ |= given["environ"]
    _load_package(given["package"])
    importlib.import_module("mpviz.world.requirements").raise_open_files()  # for all ranks
    importlib.import_module("mpviz.world.preload")
    requests.sendall(READY)
    _serve(requests)


def _load_package(folder: str) -> None:
    """Make the notebook's own mpviz the one that ``import mpviz`` finds, wherever it lies."""
    spec = importlib.util.spec_from_file_location(
        "mpviz", os.path.join(folder, "__init__.py"), submodule_search_locations=[folder]
    )
    assert spec is not None and spec.loader is not None
    package = sys.modules["mpviz"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)


def _received(requests: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Return a message and the files that came with it; EOFError when the notebook is gone."""
    head, files, _, _ = socket.recv_fds(requests, LENGTH.size, 3)
    if not head:
        raise EOFError
    head += _exactly(requests, LENGTH.size - len(head))
    return pickle.loads(_exactly(requests, LENGTH.unpack(head)[0])), files


def _exactly(requests: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = requests.recv(size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def _serve(requests: socket.socket) -> None:
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)  # it only has to wake the select
    signal.set_wakeup_fd(wake)
    statuses: dict[int, int] = {}
    both: list[Any] = [requests, woken]
    while True:
        ready, _, _ = select.select(both, [], [])
        if woken in ready:
            os.read(woken, 65536)
            _reap(statuses)
        if requests in ready:
            try:
                request, (status, *pipes) = _received(requests)
            except (EOFError, ConnectionError):
                return  # the notebook is gone; each rank notices that for itself
            _import(request["imports"])
            pid = _forked()
            if pid == 0:
                for other in (requests.detach(), woken, wake, status, *statuses.values()):
                    os.close(other)
                os._exit(_rank(request, *map(Connection, pipes)))
            _tell(status, pid)
            statuses[pid] = status
            for pipe in pipes:
                os.close(pipe)


def _import(names: list[str]) -> None:
    """Import what ranks will share; one that cannot be says so in the rank that needs it."""
    if new := [name for name in names if name not in sys.modules]:
        for name in new:
            with suppress(Exception):
                importlib.import_module(name)
        importlib.import_module("mpviz.world.preload").freeze()


def _forked() -> int:
    """Fork; return what `os.fork` does, or the number of the error below zero."""
    try:
        return os.fork()
    except OSError as error:
        return -(error.errno or 1)


def _reap(statuses: dict[int, int]) -> None:
    """Tell of each rank that has ended how it did."""
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            status = statuses.pop(ended[0], None)
            if status is not None:
                _tell(status, os.waitstatus_to_exitcode(ended[1]))
                os.close(status)


def _tell(status: int, number: int) -> None:
    with suppress(BrokenPipeError):
        os.write(status, LENGTH.pack(number))


def _rank(request: dict[str, Any], jobs: Connection, control: Connection) -> int:
    """Be a rank, in a fork of the server; return the exit code."""
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        with suppress(OSError):
            os.chdir(request["cwd"] or "/")
        # Only now does the learner's folder come first: all that a rank needs is already imported.
        sys.path[:] = request["path"]
        sys.argv[:] = request["argv"]
        sys.modules["__main__"] = ModuleType("__main__")  # of the cells, not of this file
        process = multiprocessing.current_process()
        process.name = f"rank {request['rank']}"
        process.daemon = True  # a rank may not leave processes of its own behind
        worker = importlib.import_module("mpviz.world.worker")
        layout = pickle.loads(request["layout"])
        worker.main(request["rank"], layout, request["folder"], jobs, control, **request["options"])
        return 0
    except BaseException:
        os.write(2, traceback.format_exc().encode())  # the log; what Python prints is lost
        return 1
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()


if __name__ == "__main__":
    main()
