"""The rank processes, seen from the notebook: start, send, wait with a deadline, replace.

Started through a `forkserver` that has imported torch once: sixteen ranks then cost a quarter of
a second and about 15 MB each. Standard library only; the notebook's own process never needs torch.
"""

import multiprocessing as mp
import os
import pickle
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.util import get_temp_dir
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from typing import Any

from ..layout import ParallelLayout
from .protocol import Job, Outcome, Place

START_DEADLINE = 120.0
_ANSWER_DEADLINE = 1.0
_GRACE = 0.5


@dataclass
class Run:
    """What is known of a job: which ranks ended it and how, where the others are.

    Attributes
    ----------
    outcomes : dict of int to Outcome
        Of each rank that answered.
    died : dict of int to int
        Exit code of each rank whose process is gone; negative for a signal.
    places : dict of int to Place
        Of each rank that neither answered nor died: where it was last seen.
    interrupted : bool
        Whether the wait ended because the user interrupted it.
    """

    outcomes: dict[int, Outcome] = field(default_factory=dict)
    died: dict[int, int] = field(default_factory=dict)
    places: dict[int, Place] = field(default_factory=dict)
    interrupted: bool = False
    logs: dict[int, str] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether every rank answered."""
        return not self.died and not self.places


@dataclass
class _Member:
    process: Any
    jobs: Connection
    control: Connection


class Pool:
    """One process for each rank of a layout. Alive from construction until `close`."""

    def __init__(self, layout: ParallelLayout, *, deadline: float, threads: int) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="mpviz-"))  # readable by its owner only
        self._members: list[_Member] = []
        self._selector = DefaultSelector()
        self._owner = os.getpid()
        context = mp.get_context("forkserver")
        context.set_forkserver_preload(["mpviz.world.worker"])
        try:
            with _main_hidden():
                for rank in range(layout.world_size):
                    self._members.append(
                        _started(context, rank, layout, self._folder, deadline, threads)
                    )
            for rank, member in enumerate(self._members):
                self._selector.register(member.jobs, EVENT_READ, rank)
            started = self._gather(range(layout.world_size), START_DEADLINE)
        except BaseException:
            self.close()
            raise
        problems = [run.failure for run in started.outcomes.values() if run.failure]
        if problems or not started.complete:
            self.close()
            reason = problems[0].trace if problems else f"{started.died or started.places}"
            raise RuntimeError(f"the ranks did not start:\n{reason}")

    @property
    def alive(self) -> bool:
        """Whether every process is there."""
        return bool(self._members) and all(member.process.is_alive() for member in self._members)

    @property
    def pids(self) -> list[int]:
        """Process ids, by rank."""
        return [member.process.pid for member in self._members]

    def run(
        self, job: Job, ranks: Sequence[int], deadline: float, watch: Callable[[int], None]
    ) -> Run:
        """Give a job to some ranks and wait for them. After an incomplete run, close the pool.

        ``watch`` is called now and then with the number of ranks that are done.
        """
        packed = pickle.dumps(job)
        run = Run()
        for rank in ranks:
            try:
                self._members[rank].jobs.send_bytes(packed)
            except OSError:
                run.died[rank] = self._exit_code(rank)
        return self._gather([rank for rank in ranks if rank not in run.died], deadline, run, watch)

    # ---- waiting

    def _gather(
        self,
        ranks: Sequence[int],
        deadline: float,
        run: Run | None = None,
        watch: Callable[[int], None] = lambda done: None,
    ) -> Run:
        run = run or Run()
        waiting = set(ranks)
        end = time.monotonic() + deadline
        try:
            while waiting:
                left = end - time.monotonic()
                if left <= 0 or (_is_hopeless(run) and self._all_stuck(waiting)):
                    break
                ready = self._selector.select(min(left, _GRACE))
                for key, _ in ready:
                    self._receive(key.data, run)
                    waiting.discard(key.data)
                if not ready:
                    watch(len(run.outcomes))
        except KeyboardInterrupt:
            run.interrupted = True
        run.places.update(self.places(sorted(waiting)))
        return run

    def _receive(self, rank: int, run: Run) -> None:
        try:
            run.outcomes[rank] = pickle.loads(self._members[rank].jobs.recv_bytes())
        except (EOFError, OSError):
            self._selector.unregister(self._members[rank].jobs)
            run.died[rank] = self._exit_code(rank)
            log = self._folder / f"rank-{rank}.log"
            run.logs[rank] = log.read_text(errors="replace")[-4_000:] if log.exists() else ""

    def _exit_code(self, rank: int) -> int:
        process = self._members[rank].process
        process.join(_ANSWER_DEADLINE)
        return int(process.exitcode or 0)

    def _all_stuck(self, ranks: Iterable[int]) -> bool:
        """Whether all these ranks wait for somebody: once one has failed, they wait for ever."""
        return all(place.waits_in for place in self.places(ranks).values())

    def places(self, ranks: Iterable[int]) -> dict[int, Place]:
        """Ask ranks where they are; if one cannot answer, read it off a signal's traceback."""
        asked: dict[Connection, int] = {}
        for rank in ranks:
            with suppress(OSError):
                self._members[rank].control.send(None)
            asked[self._members[rank].control] = rank
        found: dict[int, Place] = {}
        end = time.monotonic() + _ANSWER_DEADLINE
        while asked and wait(list(asked), max(0.0, end - time.monotonic())):
            for control in [control for control in asked if control.poll()]:
                rank = asked.pop(control)
                try:
                    found[rank] = control.recv()
                except (EOFError, OSError):
                    found[rank] = Place()
        found |= self._signalled(list(asked.values()))
        return dict(sorted(found.items()))

    def _signalled(self, ranks: Sequence[int]) -> dict[int, Place]:
        """Let ranks whose Python is held up write their stack from a signal handler."""
        for rank in ranks:
            with suppress(ProcessLookupError):
                os.kill(self._members[rank].process.pid, signal.SIGUSR1)
        if ranks:
            time.sleep(0.2)
        stacks = {rank: (self._folder / f"rank-{rank}.stack").read_text() for rank in ranks}
        return {rank: _innermost(stack) for rank, stack in stacks.items()}

    # ---- the end

    def close(self) -> None:
        """End every process and remove every file; again does nothing."""
        if os.getpid() != self._owner:
            return
        for member in self._members:
            member.process.kill()
        for member in self._members:
            member.process.join(5)
            # Only now: to a living rank, the end of its pipes means that its owner died.
            member.jobs.close()
            member.control.close()
        self._members = []
        self._selector.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _innermost(stack: str) -> Place:
    """Read the first line of a traceback by `faulthandler`, the innermost frame."""
    match = re.search(r'File "(.+)", line (\d+)', stack)
    return Place(match[1], int(match[2])) if match else Place()


def _is_hopeless(run: Run) -> bool:
    """Whether a rank failed or died, so that the others may wait in vain."""
    return bool(run.died) or any(outcome.failure for outcome in run.outcomes.values())


def _started(
    context: Any, rank: int, layout: ParallelLayout, folder: Path, deadline: float, threads: int
) -> _Member:
    jobs, its_jobs = context.Pipe()
    control, its_control = context.Pipe()
    process = context.Process(
        target=_serve,
        args=(rank, layout, (str(folder), get_temp_dir()), its_jobs, its_control),
        kwargs={"deadline": deadline, "threads": threads},
        name=f"rank {rank}",
        daemon=True,
    )
    process.start()
    # With our copies closed, a pipe ends exactly when its rank does.
    its_jobs.close()
    its_control.close()
    return _Member(process, jobs, control)


def _serve(*args: Any, **kwargs: Any) -> None:
    from .worker import main

    main(*args, **kwargs)


@contextmanager
def _main_hidden() -> Iterator[None]:
    """Keep multiprocessing from running the user's script again in every rank."""
    main = vars(sys.modules["__main__"])
    kept = dict(main)
    main.pop("__file__", None)
    main["__spec__"] = None
    try:
        yield
    finally:
        main.update({name: kept[name] for name in ("__file__", "__spec__") if name in kept})
