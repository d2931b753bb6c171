"""One rank: a process that waits for jobs, does them, and can say at any time where it is."""

import ast
import ctypes
import faulthandler
import linecache
import os
import pickle
import random
import reprlib
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import torch
import torch.distributed as dist
from torch.distributed import distributed_c10d

from ..layout import ParallelLayout
from ..parallel.groups import ParallelState, init
from .binding import OWN_NAMES, bound
from .calls import Observer, Operations
from .matching import Log
from .output import Capture
from .protocol import Job, Outcome, Place, cell_name
from .record import Recorder
from .stack import failure_of, place_of
from .table import Table

_LONGEST_TEXT = 4_000
_PR_SET_PDEATHSIG = 1


def main(
    rank: int,
    layout: ParallelLayout,
    folder: str,
    jobs: Connection,
    control: Connection,
    *,
    deadline: float,
    threads: int,
) -> None:
    """Join the world as one rank and serve it for as long as it lives."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the world decides what an interrupt means
    capture = Capture(Path(folder) / f"rank-{rank}.log")
    names: dict[int, str] = {}
    workers: list[Worker] = []

    def place() -> Place:
        here = place_of(sys._current_frames()[working], names)
        return workers[0].counted(here) if workers else here

    working = threading.main_thread().ident or 0
    _stay_answerable(control, place, Path(folder) / f"rank-{rank}.stack")
    try:
        state = _join(rank, layout, folder, names, deadline, threads)
        workers.append(Worker(state, capture, names, Path(folder) / "operations"))
    except BaseException as error:
        jobs.send(Outcome(failure=failure_of(error, names), output=capture.taken()))
        return
    jobs.send(Outcome())
    while True:
        try:
            job = pickle.loads(jobs.recv_bytes())
        except (EOFError, OSError):
            os._exit(0)  # the owner is dead
        jobs.send_bytes(pickle.dumps(workers[0].done(job)))


def _stay_answerable(control: Connection, place: Callable[[], Place], stack: Path) -> None:
    """Answer "where are you?" from a thread; end with the world, whatever the rank is doing."""

    def serve() -> None:
        while True:
            try:
                control.recv()
                here = Place()
                with suppress(Exception):  # whatever the learner's code did to torch or itself
                    here = place()
                control.send(here)
            except (EOFError, OSError):
                os._exit(0)

    threading.Thread(target=serve, daemon=True).start()
    # A loop in C that never lets another thread run still obeys a signal.
    faulthandler.register(signal.SIGUSR1, file=stack.open("w"), all_threads=False)


def _join(
    rank: int,
    layout: ParallelLayout,
    folder: str,
    names: dict[int, str],
    deadline: float,
    threads: int,
) -> ParallelState:
    """Make every process group of the layout."""
    torch.set_num_threads(threads)
    # The world's own deadline comes first: it explains what gloo would only report.
    timeout = deadline + 600
    # Whatever the hostname resolves to, ranks of one machine meet on loopback.
    os.environ["GLOO_SOCKET_IFNAME"] = "lo0" if sys.platform == "darwin" else "lo"
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/rendezvous",
        rank=rank,
        world_size=layout.world_size,
        timeout=timedelta(seconds=timeout),
    )
    # Forks of one process would all draw the same. (torch.manual_seed also prepares for CUDA.)
    for seed in (torch.default_generator.manual_seed, random.seed, np.random.seed):
        seed(rank)
    state = init(layout, timeout=timeout)
    if dist.group.WORLD is not None:
        names[id(dist.group.WORLD)] = "world"
    for kind, group in state.groups.items():
        names.setdefault(id(group), kind)
    return state


# ---- doing a job


class Worker:
    """A rank that has joined: its variables, and what watches over its jobs.

    Parameters
    ----------
    state : ParallelState
        What it knows of itself.
    capture : Capture
        What it prints.
    names : mapping of int to str
        What the process groups are called, by ``id``.
    table : Path
        Where ranks write down what they call, for each other to see.
    """

    def __init__(
        self, state: ParallelState, capture: Capture, names: Mapping[int, str], table: Path
    ) -> None:
        self._own = {name: getattr(state, name) for name in OWN_NAMES}
        self._namespace: dict[str, Any] = {"__name__": "__main__", **self._own}
        self._capture, self._names = capture, names
        self._pid, self._everyone = os.getpid(), dist.group.WORLD
        self._log = Log(state.rank, Table(table, state.rank, state.world_size))
        self._operations = Operations()
        self._operations.install()
        os.register_at_fork(before=_note_parent, after_in_child=_end_with_parent)

    def done(self, job: Job) -> Outcome:
        """Do a job and report how it ended, whatever it did."""
        if job.report_operations:
            return Outcome(value=pickle.dumps(self._log.operations))
        recorder = self._observed(job)
        value, failure, text, packed = None, None, "", b""
        try:
            value = self._value(job)
        except BaseException as error:
            failure = failure_of(error, self._names)
        if os.getpid() != self._pid:
            os._exit(0)  # a fork that the learner made: the rank itself answers
        self._operations.observers = []
        self._operations.forget_groups()
        notes = self._restored()
        if failure is None and value is not None:
            try:
                text, packed = _shown(value), _packed(value)
            except BaseException as error:
                failure = failure_of(error, self._names)
        return Outcome(
            text,
            packed,
            "\n".join(filter(None, [self._capture.taken(), *notes])),
            failure,
            recorder.events() if recorder else (),
            self._log.summary,
            groups_gone=self._groups_gone(),
        )

    def counted(self, place: Place) -> Place:
        """Return a place that also says which call of its group it is."""
        with suppress(RuntimeError):  # a call was noted just now
            return replace(place, calls=self._log.summary.calls(place.group))
        return place

    def _value(self, job: Job) -> Any:
        if job.source:
            return _run_cell(job.source, self._namespace)
        return _call(job.call, self._own)

    def _observed(self, job: Job) -> Recorder | None:
        """Begin to watch what the job calls of ``torch.distributed``."""
        self._log.start(job.number)
        observers: list[Observer] = [self._log] if job.compare else []
        recorder = None
        if job.record_from is not None:
            recorder = Recorder(self._own["rank"], job.record_from)
            observers.append(recorder)
        self._operations.observers = observers
        return recorder

    def _restored(self) -> list[str]:
        """Give the rank its own names and its output back; say what the cell had put there."""
        notes = []
        for name, own in self._own.items():
            there, now = name in self._namespace, self._namespace.get(name)
            if type(now) is not type(own) or now != own:
                self._namespace[name] = own
                did = f"set {name} to {_briefly(now)}" if there else f"deleted {name}"
                notes.append(f"the cell {did}; it is this rank's own again: choose another name")
        if sys.stdout is not self._capture or sys.stderr is not self._capture:
            sys.stdout = sys.stderr = self._capture
            notes.append("the cell replaced sys.stdout or sys.stderr; they are as before again")
        return notes

    def _groups_gone(self) -> bool:
        there = distributed_c10d._world.pg_map
        return dist.group.WORLD is not self._everyone or any(
            group not in there for group in self._own["groups"].values()
        )


def _briefly(value: object) -> str:
    try:
        return reprlib.repr(value)
    except BaseException:  # of a class of the learner's
        return "something that cannot be shown"


_forking = 0
"""The process that is about to fork."""


def _note_parent() -> None:
    global _forking
    _forking = os.getpid()


def _end_with_parent() -> None:
    """Let a fork of this rank die with it; only Linux can."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != _forking:
            os._exit(0)  # it was dead before


def _run_cell(source: str, namespace: dict[str, Any]) -> Any:
    """Run a cell among the rank's variables; return the value of its last expression."""
    name = cell_name(source)
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    tree = ast.parse(source, name)
    last = tree.body[-1] if tree.body else None
    if not isinstance(last, ast.Expr) or source.rstrip().endswith(";"):
        exec(compile(tree, name, "exec"), namespace)
        return None
    exec(compile(ast.Module(tree.body[:-1], []), name, "exec"), namespace)
    return eval(compile(ast.Expression(last.value), name, "eval"), namespace)


def _call(call: bytes, own: Mapping[str, Any]) -> Any:
    """Call a function; parameters named as the rank's variables are filled in."""
    function, given = pickle.loads(call)
    args, kwargs = bound(function, list(given), own)
    return function(*args, **kwargs)


def _shown(value: Any) -> str:
    """Return a result as text: as Python shows it, but text itself without quotes."""
    text = value if isinstance(value, str) else repr(value)
    left_out = len(text) - _LONGEST_TEXT
    return f"{text[:_LONGEST_TEXT]}… {left_out:,} characters left out" if left_out > 0 else text


def _packed(value: Any) -> bytes:
    try:
        packed: bytes = cloudpickle.dumps(value)
    except Exception as error:
        raise TypeError(
            f"the result, a {type(value).__name__}, cannot be sent back ({error}); "
            f"return numbers, text, arrays or tensors"
        ) from None
    return packed
