"""The rank processes, seen from the notebook: send, wait with a deadline, replace."""

import os
import pickle
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread

from ..layout import ParallelLayout
from . import guard, launch, requirements
from .interrupts import interrupts_held
from .member import UNKNOWN, Member
from .protocol import Job, Operation, Outcome, Place
from .requirements import StartError
from .stack import is_learners

START_DEADLINE = 120.0
"""Seconds, for up to 128 ranks; 256 on two busy cores have taken 125."""
_ANSWER_DEADLINE = 0.7
_SIGNAL_DEADLINE = 0.3
_GRACE = 0.5
_TELL_DEADLINE = 5.0
_LONGEST_LOG = 4_000
_STILL = 0.25
"""Seconds for which ranks that wait must not have moved, to be taken for stuck."""
_AWAKE = 20e-6
"""CPU seconds below which a thread has not left its wait. One message costs it some 150 µs."""
_AT_WORK = 0.03
"""Share of a core that a process uses when data comes in. One that only waits uses 0.01."""

Answers = SimpleQueue[tuple[int, bytes | None]]
Orders = SimpleQueue[tuple[bytes | None, Answers] | None]


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
    logs : dict of int to str
        What each rank that died had written below Python.
    unfinished : list of str
        What the ranks called that did not go together, in words.
    """

    outcomes: dict[int, Outcome] = field(default_factory=dict)
    died: dict[int, int] = field(default_factory=dict)
    places: dict[int, Place] = field(default_factory=dict)
    interrupted: bool = False
    logs: dict[int, str] = field(default_factory=dict)
    unfinished: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether every rank answered."""
        return not self.died and not self.places

    @property
    def well(self) -> bool:
        """Whether every rank did what it was asked to."""
        failed = any(outcome.failure for outcome in self.outcomes.values())
        return self.complete and not (failed or self.interrupted or self.unfinished)

    @property
    def usable(self) -> bool:
        """Whether the ranks can go on: all there, and connected with each other."""
        cut = any(o.failure is not None and o.failure.disconnects for o in self.outcomes.values())
        gone = any(outcome.groups_gone for outcome in self.outcomes.values())
        return self.complete and not (cut or gone or self.unfinished)


class Pool:
    """One process for each rank of a layout. Alive from construction until `close`."""

    def __init__(self, layout: ParallelLayout, *, deadline: float, threads: int) -> None:
        self._jobs = 0
        self._members: list[Member] = []
        self._conversations: list[tuple[Thread, Orders]] = []
        self._folder: Path | None = None
        self.owner = os.getpid()
        launch.ready()  # here, an interrupt need not wait until torch is imported
        try:
            with interrupts_held():
                self._folder = _new_folder()
                guard.watch(str(self._folder))
                requirements.check(layout, self._folder)
                launch.launched(
                    layout,
                    self._folder,
                    deadline=deadline,
                    threads=threads,
                    each=self._members.append,
                )
                self._conversations = [
                    _conversation(rank, member.jobs) for rank, member in enumerate(self._members)
                ]
                guard.watch(str(self._folder), self.pids)
            deadline_of_start = START_DEADLINE * max(1, layout.world_size / 128)
            started = self._gather(range(layout.world_size), None, deadline_of_start)
            if started.interrupted:
                raise KeyboardInterrupt
            if problem := _problem_of(started, deadline_of_start):
                raise StartError(problem)
        except BaseException:
            self.close()
            raise

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
        """Give a job to some ranks and wait for them. After an unusable run, close the pool.

        ``watch`` is called now and then with the number of ranks that are done.
        """
        self._jobs += 1
        job = replace(job, number=self._jobs)
        return self._gather(ranks, pickle.dumps(job), deadline, watch)

    def operations(self, ranks: Sequence[int]) -> dict[int, list[Operation]]:
        """Return what each rank called in its last job."""
        job = pickle.dumps(Job(report_operations=True))
        outcomes = self._gather(ranks, job, _TELL_DEADLINE).outcomes
        return {rank: pickle.loads(outcome.value) for rank, outcome in outcomes.items()}

    # ---- waiting

    def _gather(
        self,
        ranks: Sequence[int],
        packed: bytes | None,
        deadline: float,
        watch: Callable[[int], None] = lambda done: None,
    ) -> Run:
        run = Run()
        waiting = set(ranks)
        answers: Answers = SimpleQueue()
        end = time.monotonic() + deadline
        try:
            for rank in ranks:
                self._conversations[rank][1].put((packed, answers))
            while waiting and (left := end - time.monotonic()) > 0:
                try:
                    waiting.discard(self._take(answers, run, min(left, _GRACE)))
                except Empty:
                    watch(len(run.outcomes))
                    self._hang_up_on_dead(waiting)
                    if _is_hopeless(run) and left > _GRACE and self._all_stuck(waiting):
                        break
        except KeyboardInterrupt:
            run.interrupted = True
        with suppress(Empty), interrupts_held():
            while True:
                waiting.discard(self._take(answers, run, 0))
        run.places = self.places(waiting)
        return run

    def _take(self, answers: Answers, run: Run, seconds: float) -> int:
        """Note the next answer in ``run``; return whose it is."""
        rank, answer = answers.get(timeout=seconds)
        if answer is not None:
            run.outcomes[rank] = pickle.loads(answer)
            return rank
        process = self._members[rank].process
        process.join(_GRACE)
        code = process.exitcode
        run.died[rank] = UNKNOWN if code is None else code
        assert self._folder is not None
        with suppress(OSError):
            run.logs[rank] = _end_of(self._folder / f"rank-{rank}.log")
        return rank

    def _hang_up_on_dead(self, ranks: Iterable[int]) -> None:
        """End the wait for dead ranks, whose pipes may live on in a child of theirs."""
        for rank in ranks:
            if not self._members[rank].process.is_alive():
                self._members[rank].hang_up()

    def _all_stuck(self, ranks: Iterable[int]) -> bool:
        """Whether all these ranks wait for somebody who does not come.

        They are asked twice. Of ranks that pass from one wait to the next, each may be seen in one,
        though no two ever waited at once; who has not moved in between was in one all the time.
        """
        before = self._answered(ranks)
        if not _all_wait(ranks, before):
            return False
        time.sleep(_STILL)
        places = self._answered(ranks)
        return _all_wait(ranks, places) and all(
            _is_still(before[rank], places[rank]) for rank in ranks
        )

    # ---- where they are

    def places(self, ranks: Iterable[int]) -> dict[int, Place]:
        """Ask ranks where they are; if one cannot answer, read it off a signal's traceback."""
        found = self._answered(ranks)
        return dict(sorted((found | self._signalled(set(ranks) - set(found))).items()))

    def _answered(self, ranks: Iterable[int]) -> dict[int, Place]:
        asked: dict[Connection, int] = {}
        found: dict[int, Place] = {}
        for rank in ranks:
            member = self._members[rank]
            with suppress(EOFError, OSError):
                if member.unanswered and member.control.poll():
                    member.control.recv()  # where it was when it was asked before
                    member.unanswered = False
                if not member.unanswered:
                    member.control.send(None)
                    member.unanswered = True
            asked[member.control] = rank
        end = time.monotonic() + _ANSWER_DEADLINE
        while asked and (ready := wait(list(asked), max(0.0, end - time.monotonic()))):
            for control in [control for control in asked if control in ready]:
                rank = asked.pop(control)
                with suppress(EOFError, OSError):
                    found[rank] = control.recv()
                    self._members[rank].unanswered = False
        return found

    def _signalled(self, ranks: Iterable[int]) -> dict[int, Place]:
        """Let ranks whose Python is held up write their stack from a signal handler."""
        assert self._folder is not None
        files = {rank: self._folder / f"rank-{rank}.stack" for rank in ranks}
        for rank in files:
            with suppress(ProcessLookupError):
                os.kill(self._members[rank].process.pid, signal.SIGUSR1)
        end = time.monotonic() + _SIGNAL_DEADLINE
        while time.monotonic() < end and not all(map(_is_written, files.values())):
            time.sleep(0.02)
        return {rank: _innermost(file) for rank, file in files.items()}

    # ---- the end

    def close(self) -> None:
        """End every process and remove every file; again does nothing."""
        if os.getpid() != self.owner or self._folder is None:
            return
        with interrupts_held():
            for member in self._members:
                member.process.kill()
            for member in self._members:
                member.process.join(5)
                # Only now: to a living rank, the end of its pipes means that its owner died.
                member.hang_up()
            for thread, orders in self._conversations:
                orders.put(None)
                thread.join(1)
            for member in self._members:
                member.close()
            self._members, self._conversations = [], []
            shutil.rmtree(self._folder, ignore_errors=True)
            guard.forget(str(self._folder))
            self._folder = None


def _new_folder() -> Path:
    """Make a folder that only its owner may read."""
    try:
        return Path(tempfile.mkdtemp(prefix="mpviz-"))
    except OSError as error:
        raise StartError(
            f"no temporary folder can be made ({error}); "
            f"set TMPDIR to a folder that can be written, and restart the kernel"
        ) from None


def _problem_of(started: Run, seconds: float) -> str:
    """Return why ranks did not start, the cause first; empty if they did."""
    if started.died:
        rank, code = next(iter(started.died.items()))
        said = started.logs.get(rank, "").strip() or launch.ready().said().strip()
        last = said.splitlines()[-1].strip() if said else ""
        how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        how = "how is not known" if code == UNKNOWN else how
        cause = f"{last} (rank {rank} died, {how})" if last else f"rank {rank} died, {how}"
        return cause + requirements.address_space()
    failures = {rank: o.failure for rank, o in started.outcomes.items() if o.failure}
    if failures:
        rank, failure = next(iter(failures.items()))  # the first that answered
        return f"{failure.kind}: {failure.message} (rank {rank})" + requirements.address_space()
    if started.places:
        rank, place = next(iter(started.places.items()))
        of = len(started.places) + len(started.outcomes)
        waits = f" (rank {rank} waits in {place.waits_in})" if place.waits_in else ""
        late = f"{len(started.places)} of {of} ranks had not found the others{waits}"
        return f"after {seconds:g} s, {late}"
    return ""


def _conversation(rank: int, jobs: Connection) -> tuple[Thread, Orders]:
    """Start the thread that gives a rank its jobs and awaits its answers.

    A rank may stop reading or writing in the middle of a message; that must hold up neither the
    deadline nor the user's interrupt.
    """
    orders: Orders = SimpleQueue()

    def converse() -> None:
        while (order := orders.get()) is not None:
            packed, answers = order
            try:
                if packed is not None:
                    jobs.send_bytes(packed)
                answers.put((rank, jobs.recv_bytes()))
            except (EOFError, OSError):
                answers.put((rank, None))

    thread = Thread(target=converse, name=f"to rank {rank}", daemon=True)
    thread.start()
    return thread, orders


def _all_wait(ranks: Iterable[int], places: dict[int, Place]) -> bool:
    """Whether all these ranks wait, none of them for ranks that are all there too."""
    if not all(rank in places and places[rank].waits_in for rank in ranks):
        return False
    # Where all have come together, they are at work and will be through.
    return not any(_has_met(rank, places) for rank in places)


def _is_still(before: Place, after: Place) -> bool:
    """Whether a rank stayed in one wait, and no data was on its way to it."""
    used = after.used - before.used
    return after.ran - before.ran < _AWAKE and used < _AT_WORK * _STILL


def _has_met(rank: int, places: dict[int, Place]) -> bool:
    """Whether everybody whom a rank waits for is there too."""
    place = places[rank]
    if place.peer is not None:
        return place.peer in places and places[place.peer].peer == rank
    return bool(place.group) and all(
        other in places and places[other].group == place.group for other in place.group
    )


def _end_of(file: Path) -> str:
    """Return what a rank had written, of very much the end."""
    left_out = max(0, file.stat().st_size - _LONGEST_LOG)
    with file.open("rb") as log:
        log.seek(left_out)
        text = log.read().decode(errors="replace")
    return f"… {left_out:,} bytes left out … {text}" if left_out else text


def _is_written(file: Path) -> bool:
    return file.exists() and file.stat().st_size > 0


def _innermost(file: Path) -> Place:
    """Read the learner's innermost line from a traceback by `faulthandler`."""
    stack = file.read_text() if file.exists() else ""
    if not stack:
        return Place(silent=True)
    lines = re.findall(r'File "(.+)", line (\d+)', stack)
    return next((Place(name, int(line)) for name, line in lines if is_learners(name)), Place())


def _is_hopeless(run: Run) -> bool:
    """Whether a rank failed or died, so that the others may wait in vain."""
    return bool(run.died) or any(outcome.failure for outcome in run.outcomes.values())
