"""What went wrong in a run, in words: who waits for whom, who raised what, who is gone."""

import linecache
import signal
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from ..layout import ParallelLayout
from .excerpt import excerpt, few, named_group, named_ranks
from .member import UNKNOWN
from .pool import Run
from .protocol import Failure, Place, is_cell
from .stack import LONGEST_CODE

T = TypeVar("T")
Errors = list[tuple[Failure, list[int]]]

_NOWHERE = "outside your code"
_MOST_GROUPS = 6
_AT_ONCE = 0.05
"""Seconds within which errors count as simultaneous: their order is then that of the ranks."""
_LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe")
_NOT_THE_SAME = (
    "so they do not mean the same group, or not the same size "
    "(every rank must call new_group, in the same order)"
)
_LEFT_OPEN = "The ranks are done, and have left communication open that the next run would meet:"
DESTROYED = (
    "The process groups were destroyed (destroy_process_group). The ranks start anew with the next "
    "run; their variables are gone."
)
RESTARTED = "The ranks start anew with the next run; their variables are gone."


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """A run that did not go well.

    Attributes
    ----------
    layout : ParallelLayout
        Who is who.
    run : Run
        What is known of it.
    deadline : float
        How long it was waited for, in seconds.
    """

    layout: ParallelLayout
    run: Run
    deadline: float

    @property
    def failures(self) -> dict[int, Failure]:
        """What each failed rank raised."""
        outcomes = self.run.outcomes.items()
        return {rank: outcome.failure for rank, outcome in outcomes if outcome.failure}

    @property
    def states(self) -> dict[int, str]:
        """For each rank that took part, in a word or two: what became of it."""
        states = dict.fromkeys(self.run.outcomes, "done")
        states |= {rank: f"raised {failure.kind}" for rank, failure in self.failures.items()}
        states |= {rank: _outcome(self.failures[rank]) for rank in self._followers}
        states |= {rank: f"died, {_cause(code)}" for rank, code in self.run.died.items()}
        for rank, place in self.run.places.items():
            silent = "no answer" if place.silent else "busy"
            states[rank] = f"waits in {place.waits_in}" if place.waits_in else silent
        return dict(sorted(states.items()))

    def __str__(self) -> str:
        lines = [*self._deaths(), *self._raised(), *self._waits(), *self._busy(), *self._silent()]
        if self.run.unfinished and not self.failures:  # else it only follows from these
            lines += [_LEFT_OPEN, *self.run.unfinished]
        if self.run.interrupted:
            lines.insert(0, "Interrupted.")
        elif self.run.places and not (self.run.died or self.failures):
            lines.insert(0, f"Not done after {self.deadline:g} s.")
        if not self.run.usable:
            lines.append(RESTARTED)
        return "\n".join(lines)

    def _deaths(self) -> list[str]:
        lines = []
        for code, ranks in _by(self.run.died).items():
            lines.append(f"{named_ranks(ranks)} died: {_cause(code)}.")
            logs = {self.run.logs.get(rank, "").strip() for rank in ranks} - {""}
            lines += [f"  it had written: {log}" for log in sorted(logs)]
        return lines

    def _raised(self) -> list[str]:
        """Say what was raised, the earliest first; of all that only follows from it, one line."""
        own = {r: f for r, f in self.failures.items() if r not in self._followers}
        told, rest = _told_and_rest(_in_order(own))
        lines = []
        for failure, ranks in told:
            count = f"{len(ranks)} of {len(self.states)} ranks raised"
            lines.append(f"{count} {failure.kind}: {failure.message}".rstrip(": "))
            lines.append(f"  {named_ranks(ranks)}, {where(failure.place)}")
        if rest:
            kinds = _by({rank: failure.kind for failure, ranks in rest for rank in ranks})
            counts = "; ".join(f"{kind} on {named_ranks(ranks)}" for kind, ranks in kinds.items())
            lines.append(f"… and {len(rest)} more such errors: {counts}")
        if self._followers:
            ends = sorted({_outcome(self.failures[rank]) for rank in self._followers})
            lines.append(f"{named_ranks(self._followers)} then {' or '.join(ends)}.")
        return lines

    @cached_property
    def _followers(self) -> set[int]:
        """Ranks that raised only because another had died or raised."""
        lost = {rank for rank, failure in self.failures.items() if _is_loss(failure)}
        if not self.run.died and len(lost) == len(self.failures):
            lost = set()
        waited = {r: self._missed(r, f) for r, f in self.failures.items() if _is_timeout(f)}
        # Where nobody else failed, a timeout is what there is to tell; others may follow from it.
        reasons = {*self.run.died, *(self.failures.keys() - waited.keys())}
        reasons |= {rank for rank, missed in waited.items() if not missed}
        late: set[int] = set()
        while more := {r for r, missed in waited.items() if missed & (reasons | late)} - late:
            late |= more
        return lost | late

    def _missed(self, rank: int, failure: Failure) -> set[int]:
        """Return the ranks that had failed before this one was tired of waiting for them."""
        earlier = {
            other
            for other, theirs in self.failures.items()
            if other != rank and (_is_timeout(theirs) or theirs.at <= failure.at)
        }
        if failure.awaited:
            return (earlier | set(self.run.died)) & set(failure.awaited)
        return {r for r in earlier if not _is_timeout(self.failures[r])} | set(self.run.died)

    def _waits(self) -> list[str]:
        waiting = {r: p for r, p in sorted(self.run.places.items()) if p.waits_in}
        by_call: dict[tuple[str, str, str], list[int]] = defaultdict(list)
        for rank, place in waiting.items():
            by_call[place.waits_in, place.group_name, where(place)].append(rank)
        lines = []
        for (call, _, line), ranks in by_call.items():
            lines.append(
                f"{named_ranks(ranks)} {'wait' if len(ranks) > 1 else 'waits'} in {call}, {line}"
            )
            lines += self._messages([rank for rank in ranks if waiting[rank].message])
            lines += self._meetings([rank for rank in ranks if not waiting[rank].message])
        return lines

    def _messages(self, ranks: list[int]) -> list[str]:
        """Say which message each rank waits for; where its sender waits itself, only that."""
        places = self.run.places
        idle = {rank for rank in ranks if _waits_too(places.get(places[rank].peer or 0))}
        if len(idle) == len(ranks):
            idle = set()  # they wait for each other
        lines = []
        for rank in [rank for rank in ranks if rank not in idle]:
            place = places[rank]
            sender = self._with_reasons([place.peer or 0])
            lines.append(f"  rank {rank} waits for {place.message}: {sender}")
        lines = _first(lines, "ranks")
        if idle:
            verb = "wait" if len(idle) > 1 else "waits"
            lines.append(f"  {named_ranks(idle)} {verb} for ranks that wait themselves")
        return lines

    def _meetings(self, ranks: list[int]) -> list[str]:
        """For each group that waits in one call: who is there, and who never came."""
        by_group: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for rank in ranks:
            place = self.run.places[rank]
            pair = (rank, place.peer) if place.peer is not None else place.group
            by_group[tuple(pair)].append(rank)
        lines = []
        for group, here in by_group.items():
            absent = [rank for rank in group if rank not in here and not self._came(rank, here[0])]
            if absent:
                there = [rank for rank in group if rank not in absent]
                came = (
                    f"  {self._named(group, here)}: {named_ranks(there)} came{self._for_call(here)}"
                )
                lines.append(f"{came}, never came: {self._with_reasons(absent, group)}")
            elif group:
                lines.append(f"  {self._named(group, here)}: all came; {_NOT_THE_SAME}")
        return _first(lines, "groups")

    def _named(self, group: tuple[int, ...], here: list[int]) -> str:
        """Return what a group is called, and its ranks."""
        place = self.run.places[here[0]]
        if place.peer is not None:
            return f"ranks {few(group)}"
        kind = "" if place.group_name == "new_group" else place.group_name
        return named_group(group, self.layout.world_size, kind)

    @property
    def missed(self) -> set[int]:
        """Ranks for which others wait, and that never came."""
        missed = set()
        for rank, place in self.run.places.items():
            if place.waits_in:
                awaited = place.group if place.peer is None else (place.peer,)
                missed |= {other for other in awaited if not self._came(other, rank)}
        return missed - {rank for rank, place in self.run.places.items() if place.waits_in}

    def _came(self, rank: int, waiting: int) -> bool:
        """Whether a rank called what another waits in, and was done with it before."""
        place, outcome = self.run.places[waiting], self.run.outcomes.get(rank)
        if outcome is None or outcome.failure or place.peer is not None or not place.calls:
            return False
        return outcome.summary.calls(place.group) >= place.calls

    def _for_call(self, here: list[int]) -> str:
        """Say which call of a group's collectives these ranks wait in, if it is not the first."""
        calls = {self.run.places[rank].calls for rank in here}
        return f" for call {max(calls)}" if len(calls) == 1 and max(calls) > 1 else ""

    def _with_reasons(self, ranks: Iterable[int], group: tuple[int, ...] = ()) -> str:
        states = {rank: self.states.get(rank, "not asked to run") for rank in ranks}
        for rank, outcome in self.run.outcomes.items():
            calls = outcome.summary.calls(group)
            if calls and states.get(rank) == "done":
                states[rank] = f"done, after {calls} call{'s' * (calls > 1)}"
        reasons = _by(states)
        return "; ".join(f"{named_ranks(who)} ({reason})" for reason, who in reasons.items())

    def _busy(self) -> list[str]:
        places = self.run.places.items()
        busy = {r: where(p) for r, p in places if not p.waits_in and not p.silent}
        return [
            f"{named_ranks(ranks)} busy {'at ' * (line != _NOWHERE)}{line}"
            for line, ranks in _by(busy).items()
        ]

    def _silent(self) -> list[str]:
        silent = [rank for rank, place in self.run.places.items() if place.silent]
        return [f"{named_ranks(silent)} did not answer: stopped, or too busy"] if silent else []


def _is_loss(failure: Failure) -> bool:
    return failure.disconnects and any(words in failure.message for words in _LOST)


def _is_timeout(failure: Failure) -> bool:
    return failure.timed_out and not _is_loss(failure)


def _outcome(failure: Failure) -> str:
    """Return what became of a rank whose error only follows from another's."""
    return "lost the connection" if _is_loss(failure) else "waited in vain"


def _waits_too(place: Place | None) -> bool:
    return place is not None and bool(place.waits_in)


def _in_order(failures: Mapping[int, Failure]) -> Errors:
    """Return failures and their ranks, the earliest first; simultaneous ones in rank order."""
    groups = _by(failures)
    first = {failure: min(failures[rank].at for rank in ranks) for failure, ranks in groups.items()}
    bursts: dict[Failure, int] = {}
    number, before = 0, 0.0
    for failure in sorted(groups, key=first.__getitem__):
        number += first[failure] - before > _AT_ONCE
        bursts[failure], before = number, first[failure]
    return sorted(groups.items(), key=lambda group: (bursts[group[0]], group[1]))


def _told_and_rest(failures: Errors) -> tuple[Errors, Errors]:
    """Choose the errors to be told in full: one of each kind and line, then repetitions."""
    firsts = {(f.kind, f.place): n for n, (f, _) in reversed(list(enumerate(failures)))}
    again = set(range(len(failures))) - set(firsts.values())
    chosen = {*[*sorted(firsts.values()), *sorted(again)][:_MOST_GROUPS]}
    told = [failure for n, failure in enumerate(failures) if n in chosen]
    return told, [failure for n, failure in enumerate(failures) if n not in chosen]


def _first(lines: list[str], what: str) -> list[str]:
    """Return the first lines, and how many there are besides."""
    if len(lines) <= _MOST_GROUPS:
        return lines
    more = len(lines) - _MOST_GROUPS
    return [*lines[:_MOST_GROUPS], f"  … and {more} more such {what}"]


def where(place: Place) -> str:
    """Return a learner's line, as text: its number, and what it says."""
    if not place.file:
        return _NOWHERE
    file = "" if is_cell(place.file) else f" of {Path(place.file).name}"
    line = linecache.getline(place.file, place.line).strip()
    code = place.code or excerpt(line, line=LONGEST_CODE)
    return f"line {place.line}{file}: {code}" if code else f"line {place.line}{file}"


def _cause(code: int) -> str:
    if code == UNKNOWN:
        return "its process ended, and nothing is left that could tell how"
    if code >= 0:
        return f"its process ended with exit code {code}"
    names = {int(number): number.name for number in signal.Signals}  # not every signal has one
    name = names.get(-code)
    return f"killed by signal {-code}{f' ({name})' if name else ''}"


def _by(values: Mapping[int, T]) -> dict[T, list[int]]:
    """Group ranks by what they have in common."""
    grouped: dict[T, list[int]] = defaultdict(list)
    for rank, value in sorted(values.items()):
        grouped[value].append(rank)
    return grouped
