"""A small process that outlives the notebook, to end what it started and remove its folders.

Ranks end by themselves when the notebook's end of a pipe closes, but not a rank that is stopped or
that sits in C without letting another thread run; and Jupyter kills the whole process group of a
kernel that does not end in time. So the guard is in a session of its own, and waits there.

Run by its path, on the standard library alone.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

_REMOVE_FOR = 5.0

_started: dict[int, "subprocess.Popen[str]"] = {}
_writing = threading.Lock()
"""Two worlds may start at once, in two threads. A second guard would replace the first, which takes
that for the end of the notebook, and ends what it watches."""


def watch(folder: str, pids: Sequence[int] | None = None) -> None:
    """When this process ends, however it ends: kill these and remove the folder."""
    _send({"folder": folder, "pids": list(pids or ())})


def forget(folder: str) -> None:
    """Say that a folder, and the processes that went with it, are gone."""
    _send({"folder": folder, "pids": None})


def _send(message: dict[str, object]) -> None:
    with _writing, suppress(BrokenPipeError):
        print(json.dumps(message), file=_running().stdin, flush=True)


def _running() -> "subprocess.Popen[str]":
    """Return the guard of this process; a fork of the notebook is not watched by its parent's."""
    guard = _started.get(os.getpid())
    if guard is None or guard.poll() is not None:
        guard = _started[os.getpid()] = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
            text=True,
        )
    return guard


def _leave_to_the_parent() -> None:
    """In a fork of the notebook: let the guard see the end of the notebook itself."""
    global _writing
    _writing = threading.Lock()
    for guard in _started.values():
        if guard.stdin is not None:
            guard.stdin.close()


if hasattr(os, "register_at_fork"):  # not on Windows, where a World says that it does not run
    os.register_at_fork(after_in_child=_leave_to_the_parent)


def main() -> None:
    """Listen until the notebook is gone; then clean up behind it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    watched: dict[str, list[int]] = {}
    for line in sys.stdin:
        message = json.loads(line)
        if message["pids"] is None:
            watched.pop(message["folder"], None)
        else:
            watched[message["folder"]] = message["pids"]
    for pid in [pid for pids in watched.values() for pid in pids]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    end = time.monotonic() + _REMOVE_FOR
    while any(map(os.path.exists, watched)) and time.monotonic() < end:
        for folder in watched:
            shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.05)  # a process that is about to end may still write


if __name__ == "__main__":
    main()
