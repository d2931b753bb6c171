"""Starting the rank processes, through a server that has imported torch once and forks.

Sixteen ranks then cost a quarter of a second and about 15 MB each. Standard library only; the
notebook's own process never needs torch.
"""

import multiprocessing as mp
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from os import dup
from pathlib import Path
from typing import Any

from ..layout import ParallelLayout


@dataclass
class Member:
    """One rank: its process, and our ends of its two pipes.

    Attributes
    ----------
    process : multiprocessing.Process
        Of the rank.
    jobs, control : Connection
        For work; and for "where are you?", which it answers while it works.
    unanswered : bool
        Whether such a question is still open.
    """

    process: Any
    jobs: Connection
    control: Connection
    unanswered: bool = False

    def hang_up(self) -> None:
        """End both conversations, even if a child of the rank holds its ends open."""
        for pipe in (self.jobs, self.control):
            with suppress(OSError), socket.socket(fileno=dup(pipe.fileno())) as ours:
                ours.shutdown(socket.SHUT_RDWR)


def launched(
    layout: ParallelLayout,
    folder: Path,
    *,
    deadline: float,
    threads: int,
    each: Callable[[Member], None],
) -> None:
    """Start one process for each rank, and give ``each`` as soon as it is there."""
    context = _server()
    with _main_hidden():
        for rank in range(layout.world_size):
            jobs, its_jobs = context.Pipe()
            control, its_control = context.Pipe()
            process = context.Process(
                target=_serve,
                args=(rank, layout, str(folder), its_jobs, its_control),
                kwargs={"deadline": deadline, "threads": threads},
                name=f"rank {rank}",
                daemon=True,
            )
            _start(process)
            # With our copies closed, a pipe ends exactly when its rank does.
            its_jobs.close()
            its_control.close()
            each(Member(process, jobs, control))


def _server() -> Any:
    """Return the context that starts processes, its server running."""
    context = mp.get_context("forkserver")
    context.set_forkserver_preload(["mpviz.world.preload"])
    resource_tracker.ensure_running()  # it would unblock what is blocked here
    # What is blocked stays blocked in the server and in every rank: Jupyter interrupts the whole
    # process group, and the server would die of it while it still imports torch.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return context


def _start(process: Any) -> None:
    """Start a process, with a new server if the old one is just dying."""
    for _ in range(20):
        try:
            process.start()
            return
        except (ConnectionError, EOFError):
            time.sleep(0.05)
            _server()
    process.start()


def _serve(*args: Any, **kwargs: Any) -> None:
    from .worker import main

    main(*args, **kwargs)


@contextmanager
def _main_hidden() -> Iterator[None]:
    """Keep multiprocessing from running the user's script again in every rank."""
    main = vars(sys.modules["__main__"])
    kept: dict[str, Any] = {name: main[name] for name in ("__file__", "__spec__") if name in main}
    main.pop("__file__", None)
    main["__spec__"] = None
    try:
        yield
    finally:
        main.update(kept)
