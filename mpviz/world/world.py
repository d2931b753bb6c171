"""A world of ranks: start it once, run functions and cells in it, read what it says."""

import linecache
import os
import pickle
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from dataclasses import replace
from multiprocessing import current_process
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from .._checks import seconds, whole_number
from ..layout import ParallelLayout
from ..names import GROUP_KINDS
from ..rankgrid import Groups
from ..timeline import Event
from .interrupts import interrupts_held
from .launch import installed_first
from .matching import matched
from .pool import Pool, Run
from .progress import Progress
from .protocol import Job, cell_name
from .report import DESTROYED, Diagnosis
from .requirements import most_threads
from .results import Results, events_of, printed
from .script import History, write_script
from .unfinished import unfinished

if TYPE_CHECKING:
    from ..draw import Picture


class RanksError(RuntimeError):
    """A run that did not go well on every rank; its text says what happened, and where.

    Attributes
    ----------
    diagnosis : Diagnosis
        All that is known, rank by rank.
    """

    def __init__(self, diagnosis: Diagnosis) -> None:
        super().__init__(str(diagnosis))
        self.diagnosis = diagnosis

    @property
    def picture(self) -> "Picture":
        """What became of each rank, on the slide grid: who is the cause, and who waited."""
        from ..draw import outcomes

        states, places = dict(self.diagnosis.states), self.diagnosis.run.places
        waiting = {rank for rank, place in places.items() if place.waits_in}
        causes = {r for r, state in states.items() if state.startswith(("died", "raised"))}
        if not causes:
            causes = self.diagnosis.missed
            for rank in causes:
                states[rank] = f"never came ({states.get(rank, 'not asked to run')})"
        causes = causes or set(places) - waiting  # nobody waits for them: they are not done yet
        title = "What became of each rank"
        layout = self.diagnosis.layout
        return outcomes(layout, states, causes=causes, waiting=waiting, title=title)

    def _render_traceback_(self) -> list[str]:
        # The learner's own line is in the message; the frames in between are ours.
        return [f"{type(self).__name__}: {self}"]


class RanksInterrupted(RanksError, KeyboardInterrupt):
    """The user interrupted a run."""


class World:
    """The rank processes of a layout, one gloo process for each GPU.

    They start with the first run, and end with `close`, with the ``with`` block, or with the
    notebook. Variables of cells live on from run to run.

    Parameters
    ----------
    layout : ParallelLayout
        Who is who; every process group of it is made.
    timeout : float
        Seconds that a run may take, unless it says otherwise.
    threads : int
        Threads that torch may use in each rank: at most 64 (or one for each CPU, if the machine
        has more), and at most 4096 in all ranks together.
    check : bool
        Compare what the ranks of a group call, each time: a rank whose tensor has another size or
        type than that of a rank that came before, or which calls something else, raises
        ``ValueError`` in place of the wrong numbers that gloo would give. Sends and receives are
        compared as well. When a run is over, what some ranks called and others never did is an
        error too. This takes some microseconds for each call, and no message. Not compared: sizes
        in an all-to-all, and what libraries call of process groups below ``torch.distributed``.

    Attributes
    ----------
    events : tuple of Event
        What the last recorded run recorded, in order of time.

    Examples
    --------
    >>> with World(ParallelLayout(nodes=1, gpus_per_node=2, tp=2)) as world:
    ...     list(world.run(lambda rank: 10 * rank))
    [0, 10]
    """

    def __init__(
        self,
        layout: ParallelLayout,
        *,
        timeout: float = 60.0,
        threads: int = 1,
        check: bool = True,
    ) -> None:
        if sys.platform == "win32":
            raise OSError("ranks run on Linux and macOS; on Windows, use mpviz inside WSL")
        if not isinstance(layout, ParallelLayout):
            raise ValueError(f"a World takes a ParallelLayout, got {layout!r}")
        self.layout = layout
        self.timeout = seconds(timeout)
        self.threads = _threads(threads, layout.world_size)
        self.check = bool(check)
        self.events: tuple[Event, ...] = ()
        self._history = History()
        self._busy = threading.Lock()
        self._pool: Pool | None = None
        self._finalizer: weakref.finalize[[], World] | None = None

    # ---- life

    def start(self) -> "World":
        """Start the ranks now, rather than with the first run."""
        if current_process().daemon:
            raise RuntimeError("a rank cannot start ranks of its own; start them in the notebook")
        self._leave_to_the_parent()
        if self._pool is not None and not self._pool.alive:
            self.close()
            print("A rank has died since the last run. All start anew; their variables are gone.")
        if self._pool is None:
            self._pool = Pool(self.layout, deadline=self.timeout, threads=self.threads)
            self._finalizer = weakref.finalize(self, self._pool.close)
            self._history.starts += 1
        return self

    def _leave_to_the_parent(self) -> None:
        """In a fork of the notebook: forget the ranks, which are the notebook's."""
        if self._pool is not None and self._pool.owner != os.getpid():
            assert self._finalizer is not None
            self._finalizer.detach()
            self._pool = self._finalizer = None

    def close(self) -> None:
        """End the ranks; the next run starts new ones."""
        with interrupts_held():  # else a pool without ranks stays, and looks as if they had died
            try:
                if self._finalizer is not None:
                    self._finalizer()
            finally:
                self._pool = self._finalizer = None

    def __enter__(self) -> "World":
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> str:
        raise TypeError("a World stays in the notebook; a rank has layout and groups")

    @property
    def pids(self) -> list[int]:
        """Process id of each rank; empty while none runs."""
        return self._pool.pids if self._pool is not None else []

    def __repr__(self) -> str:
        state = "running" if self.pids else "not started"
        return f"World({self.layout!r}), {state}"

    # ---- work

    def run(
        self,
        function: Callable[..., Any],
        *args: Any,
        only: Iterable[int] | int | None = None,
        timeout: float | None = None,
        record: bool = False,
    ) -> Results:
        """Call a function on every rank, and return one result for each.

        Parameters named ``rank, world_size, tp_rank, cp_rank, dp_rank, pp_rank, groups`` or
        ``layout`` are filled in by each rank; ``args`` go to the others, in order.

        Parameters
        ----------
        function : callable
            May be a lambda, or defined in the notebook.
        only : rank or ranks, optional
            Run on these alone.
        timeout : float, optional
            Seconds; the world's own by default.
        record : bool
            Keep every collective and message as an `Event` in ``world.events``.

        Raises
        ------
        RanksError
            If a rank raised, died, or was not done in time.
        ValueError
            If the function or an argument cannot be sent.
        """
        job = Job(call=_packed(function, args), compare=self.check)
        return self._run(job, only, timeout, record)

    def cell(
        self,
        source: str,
        *,
        only: Iterable[int] | int | None = None,
        timeout: float | None = None,
        record: bool = False,
    ) -> Results:
        """Run the text of a cell on every rank; its last expression is the result.

        Variables live on. Parameters as for `run`; ``%%ranks`` calls this.

        Raises
        ------
        SyntaxError
            Before any rank sees the cell.
        ValueError
            If the source is no text.
        """
        if not isinstance(source, str):
            raise ValueError(f"a cell is text, got {source!r}")
        source = source or "\n"
        _check_syntax(source)
        # For a report on ranks that can tell no more than the number of their line.
        name = cell_name(source)
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        return self._run(Job(source=source, compare=self.check), only, timeout, record)

    def script(
        self, path: str | PathLike[str], *, without: Iterable[int] = (), overwrite: bool = False
    ) -> Path:
        """Write what the ranks did so far as a script for ``torchrun``, and Slurm's file beside it.

        The script has the cells and the calls in order, and prints what they returned. What the
        notebook sent along (the function, its arguments, the names it uses) stands in it as text.

        Parameters
        ----------
        path : path
            Such as ``"train.py"``, with which comes ``train.sbatch``.
        without : ints
            Runs to leave out, by their number; a refusal names them. What they would have set, or
            drawn of random numbers, is then missing to those behind.
        overwrite : bool
            Whether files that are there may be replaced.

        Returns
        -------
        Path
            Of the script.

        Raises
        ------
        ValueError
            If runs failed, ran on some ranks alone, or were sent what has no text, such as a
            tensor: it names each.
        FileExistsError
            If a file is there.

        Notes
        -----
        What only a World has is left: it compares what ranks call, and records.
        """
        return write_script(
            self._history,
            self.layout,
            path,
            threads=self.threads,
            without=without,
            overwrite=overwrite,
        )

    def observed(self, kind: str) -> Groups:
        """Return the groups of a kind as the processes report them.

        Every rank asks ``torch.distributed`` for the members of its own process group.

        Examples
        --------
        >>> with World(ParallelLayout(nodes=1, gpus_per_node=4, tp=2, pp=2)) as world:
        ...     world.observed("pp") == world.layout.groups("pp")
        True
        """
        expected = self.layout.groups(kind)
        reports = self.run(_report_group, expected.kind)
        self._history.runs.pop()  # a question of ours
        seen = dict.fromkeys(tuple(report) for report in reports if report is not None)
        if not seen:
            raise ValueError(f"no rank has a {kind!r} group; kinds: {', '.join(GROUP_KINDS)}")
        order = {group: number for number, group in enumerate(expected)}
        rows = sorted(seen, key=lambda group: order.get(group, len(order)))
        return Groups(expected.kind, np.array(rows))

    def _run(
        self, job: Job, only: Iterable[int] | int | None, timeout: float | None, record: bool
    ) -> Results:
        ranks = self._ranks(only)
        deadline = self.timeout if timeout is None else seconds(timeout)
        if record:
            job = replace(job, record_from=time.perf_counter())
        if not self._busy.acquire(blocking=False):
            raise RuntimeError("this world is at work; wait, or start another World")
        try:
            run = self._through(job, ranks, deadline)
            if record:
                self.events = events_of(run.outcomes)
            results = self._judged(run, deadline)
            self._history.went_well(shown=not results.all_none)
            return results
        finally:
            self._busy.release()

    def _through(self, job: Job, ranks: list[int], deadline: float) -> Run:
        pool = self.start()._pool
        assert pool is not None
        self._history.begun(job, ranks)
        try:
            with Progress(len(ranks)) as progress:
                run = pool.run(job, ranks, deadline, progress)
            summaries = {rank: outcome.summary for rank, outcome in run.outcomes.items()}
            if run.complete and not run.interrupted and not matched(summaries):
                run.unfinished = unfinished(self.layout, pool.operations(ranks))
            return run
        except BaseException:
            self.close()
            raise

    def _judged(self, run: Run, deadline: float) -> Results:
        """Return the results, or raise what went wrong; an unusable run costs the processes."""
        diagnosis = Diagnosis(self.layout, run, deadline)
        if not run.usable:
            self.close()
        if run.well:
            if not run.usable:
                print(DESTROYED)
            return Results(self.layout, run.outcomes)
        said = printed({rank: o.output for rank, o in run.outcomes.items() if o.output})
        if said:
            print(said)
        raise (RanksInterrupted if run.interrupted else RanksError)(diagnosis)

    def _ranks(self, only: Iterable[int] | int | None) -> list[int]:
        if only is None:
            return list(range(self.layout.world_size))
        if not isinstance(only, Iterable):
            only = [only]
        ranks = sorted({self.layout.check_rank(rank) for rank in only})
        if not ranks:
            raise ValueError("only=[] leaves no rank to run on")
        return ranks


def _report_group(kind: str, groups: Any) -> list[int] | None:
    import torch.distributed as dist

    return dist.get_process_group_ranks(groups[kind]) if kind in groups else None


def _threads(value: object, world_size: int) -> int:
    threads = whole_number("threads", value)
    most = most_threads(world_size)
    if threads > most:
        raise ValueError(
            f"threads must be at most {most} for each of {world_size} ranks, got {threads}; "
            f"this machine has {os.cpu_count()} CPUs for all of them"
        )
    return threads


def _check_syntax(source: str) -> None:
    """Raise SyntaxError, with the text of its line, unless a cell is Python."""
    try:
        compile(source, cell_name(source), "exec")
    except SyntaxError as error:
        lines = source.splitlines()
        if not error.text and error.lineno and error.lineno <= len(lines):
            error.text = lines[error.lineno - 1]  # Python looks for it in a file
        raise
    except UnicodeEncodeError as error:
        half = source[error.start : error.end]
        raise ValueError(f"a cell is text that can be encoded, and {half!r} cannot") from None


def _packed(function: Callable[..., Any], args: tuple[Any, ...]) -> bytes:
    with installed_first():
        import cloudpickle

    if not callable(function):
        raise ValueError(f"run takes a function and its arguments, got {function!r}")
    try:
        packed: bytes = cloudpickle.dumps((function, args), protocol=pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        name = getattr(function, "__name__", "the function")
        raise ValueError(
            f"{name} or an argument of it cannot be sent to the ranks ({error}); "
            f"create locks, files and connections inside the function"
        ) from None
    return packed
