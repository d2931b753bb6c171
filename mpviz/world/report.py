"""What went wrong in a run, in words: who waits for whom, who raised what, who is gone."""

import linecache
import signal
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ..layout import ParallelLayout
from .pool import Run
from .protocol import CELL, Failure, Place

T = TypeVar("T")

_NOWHERE = "outside your code"
_MOST_GROUPS = 6
_MOST_RANKS = 16
_LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe")
_NOT_THE_SAME = (
    "so they do not mean the same group, or not the same size "
    "(every rank must call new_group, in the same order)"
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
        states |= {rank: self._headline(failure) for rank, failure in self.failures.items()}
        states |= {rank: f"died, {_cause(code)}" for rank, code in self.run.died.items()}
        for rank, place in self.run.places.items():
            silent = "no answer" if place.silent else "busy"
            states[rank] = f"waits in {place.waits_in}" if place.waits_in else silent
        return dict(sorted(states.items()))

    def __str__(self) -> str:
        lines = [*self._deaths(), *self._raised(), *self._waits(), *self._busy(), *self._silent()]
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
            lines.append(f"{_ranks(ranks)} died: {_cause(code)}.")
            logs = {self.run.logs.get(rank, "").strip() for rank in ranks} - {""}
            lines += [f"  it had written: {log}" for log in sorted(logs)]
        return lines

    def _raised(self) -> list[str]:
        own = {r: f for r, f in self.failures.items() if not self._is_consequence(f)}
        lines = []
        by_failure = list(_by(own).items())
        for failure, ranks in by_failure[:_MOST_GROUPS]:
            count = f"{len(ranks)} of {len(self.states)} ranks raised"
            lines.append(f"{count} {failure.kind}: {failure.message}".rstrip(": "))
            lines.append(f"  {_ranks(ranks)}, {where(failure.place)}")
        if len(by_failure) > _MOST_GROUPS:
            lines.append(f"… and {len(by_failure) - _MOST_GROUPS} more such errors")
        lost = sorted(set(self.failures) - set(own))
        if lost:
            lines.append(f"{_ranks(lost)} then lost the connection.")
        return lines

    def _headline(self, failure: Failure) -> str:
        return "lost the connection" if self._is_consequence(failure) else f"raised {failure.kind}"

    def _is_consequence(self, failure: Failure) -> bool:
        """Whether a rank failed only because another was gone."""
        return _is_loss(failure) and (
            bool(self.run.died) or not all(map(_is_loss, self.failures.values()))
        )

    def _waits(self) -> list[str]:
        waiting = {r: p for r, p in sorted(self.run.places.items()) if p.waits_in}
        by_call: dict[tuple[str, str, str], list[int]] = defaultdict(list)
        for rank, place in waiting.items():
            by_call[place.waits_in, place.group_name, where(place)].append(rank)
        lines = []
        for (call, _, line), ranks in by_call.items():
            lines.append(
                f"{_ranks(ranks)} {'wait' if len(ranks) > 1 else 'waits'} in {call}, {line}"
            )
            lines += self._meetings(ranks)
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
            absent = [rank for rank in group if rank not in here]
            if absent:
                came = f"  {self._named(group, here)}: {_ranks(here)} came"
                lines.append(f"{came}, never came: {self._with_reasons(absent)}")
            elif group:
                lines.append(f"  {self._named(group, here)}: all came; {_NOT_THE_SAME}")
        if len(lines) > _MOST_GROUPS:
            more = len(lines) - _MOST_GROUPS
            lines = [*lines[:_MOST_GROUPS], f"  … and {more} more such groups"]
        return lines

    def _named(self, group: tuple[int, ...], here: list[int]) -> str:
        """Return what a group is called, and its ranks."""
        place = self.run.places[here[0]]
        if place.peer is not None:
            return f"ranks {_few(group)}"
        if len(group) == self.layout.world_size:
            return "all ranks"
        kind = place.group_name
        return f"{kind} group {_few(group)}" if kind not in ("", "new_group") else _few(group)

    def _with_reasons(self, ranks: Iterable[int]) -> str:
        states = self.states
        reasons = _by({rank: states.get(rank, "not asked to run") for rank in ranks})
        return "; ".join(f"{_ranks(who)} ({reason})" for reason, who in reasons.items())

    def _busy(self) -> list[str]:
        places = self.run.places.items()
        busy = {r: where(p) for r, p in places if not p.waits_in and not p.silent}
        return [
            f"{_ranks(ranks)} busy {'at ' * (line != _NOWHERE)}{line}"
            for line, ranks in _by(busy).items()
        ]

    def _silent(self) -> list[str]:
        silent = [rank for rank, place in self.run.places.items() if place.silent]
        return [f"{_ranks(silent)} did not answer: stopped, or too busy"] if silent else []


def _is_loss(failure: Failure) -> bool:
    return any(words in failure.message for words in _LOST)


def where(place: Place) -> str:
    """Return a learner's line, as text: its number, and what it says."""
    if not place.file:
        return _NOWHERE
    in_cell = place.file.startswith((CELL, "<ipython")) or "ipykernel_" in place.file
    file = "" if in_cell else f" of {Path(place.file).name}"
    code = place.code or linecache.getline(place.file, place.line).strip()
    return f"line {place.line}{file}: {code}" if code else f"line {place.line}{file}"


def _cause(code: int) -> str:
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


def _ranks(ranks: Iterable[int]) -> str:
    ranks = sorted(ranks)
    return f"rank{'s' if len(ranks) > 1 else ''} {_few(ranks)}"


def _few(ranks: Iterable[int]) -> str:
    words = [str(rank) for rank in ranks]
    if len(words) > _MOST_RANKS:
        words = [*words[: _MOST_RANKS - 2], "…", words[-1]]
    return " ".join(words)
