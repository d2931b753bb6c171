"""What the ranks returned, shown where each sits."""

import pickle
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

from ..layout import ParallelLayout
from ..timeline import Event
from .protocol import Outcome

if TYPE_CHECKING:
    from ..draw import Picture


class Results(Sequence[Any]):
    """One result for each rank that ran, in rank order; shown on the slide grid.

    Results are unpacked when they are looked at: a notebook that only shows tensors never
    imports torch.

    Attributes
    ----------
    ranks : tuple of int
        Who ran; results are in this order.
    output : dict of int to str
        What each rank printed, if it did.
    events : tuple of Event
        What was recorded, in order of time; empty unless asked for.
    """

    def __init__(self, layout: ParallelLayout, outcomes: Mapping[int, Outcome]) -> None:
        self._layout = layout
        self._outcomes = dict(sorted(outcomes.items()))
        self.ranks = tuple(self._outcomes)
        self.output = {rank: o.output for rank, o in self._outcomes.items() if o.output}
        self.events = events_of(outcomes)

    @property
    def picture(self) -> "Picture":
        """The results as text, each where its rank sits on the slide grid."""
        from ..draw import values

        words = {rank: outcome.text or "None" for rank, outcome in self._outcomes.items()}
        who = f"{len(words)} ranks" if len(words) > 1 else f"rank {self.ranks[0]}"
        if len(words) == self._layout.world_size:
            who = "every rank"
        return values(self._layout, words, title=f"What {who} returned")

    def of(self, rank: int) -> Any:
        """Return the result of a rank, by its number in the world."""
        if rank not in self._outcomes:
            raise ValueError(f"rank {rank} did not run; ranks that did: {list(self.ranks)}")
        packed = self._outcomes[rank].value
        return pickle.loads(packed) if packed else None

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        chosen = self.ranks[index]
        return [self.of(rank) for rank in chosen] if isinstance(chosen, tuple) else self.of(chosen)

    def __len__(self) -> int:
        return len(self.ranks)

    def __iter__(self) -> Iterator[Any]:
        return (self.of(rank) for rank in self.ranks)

    def __repr__(self) -> str:
        return self.picture.text

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Any:
        return self.picture._repr_mimebundle_(include, exclude)

    @property
    def all_none(self) -> bool:
        """Whether no rank returned anything."""
        return not any(outcome.value for outcome in self._outcomes.values())


def events_of(outcomes: Mapping[int, Outcome]) -> tuple[Event, ...]:
    """Return what all ranks recorded, in order of time."""
    events = (event for outcome in outcomes.values() for event in outcome.events)
    return tuple(sorted(events, key=lambda event: event.start))


def printed(output: Mapping[int, str]) -> str:
    """Return what the ranks printed, in rank order; the same lines from several only once.

    Examples
    --------
    >>> print(printed({0: "hello", 1: "hello", 2: "bye"}))
    ranks 0 1 │ hello
    rank 2    │ bye
    """
    by_text: dict[str, list[int]] = {}
    for rank, text in sorted(output.items()):
        by_text.setdefault(text, []).append(rank)
    names = {text: _named(ranks) for text, ranks in by_text.items()}
    width = max(map(len, names.values()), default=0)
    return "\n".join(
        f"{name if first else '':{width}} │ {line}"
        for text, name in names.items()
        for first, line in _marked(text.split("\n"))
    )


def _marked(lines: list[str]) -> Iterator[tuple[bool, str]]:
    return ((number == 0, line) for number, line in enumerate(lines))


def _named(ranks: list[int]) -> str:
    runs: list[list[int]] = []
    for rank in ranks:
        if runs and rank == runs[-1][-1] + 1:
            runs[-1].append(rank)
        else:
            runs.append([rank])
    words = [f"{run[0]}–{run[-1]}" if len(run) > 2 else " ".join(map(str, run)) for run in runs]
    return f"rank{'s' if len(ranks) > 1 else ''} {' '.join(words)}"
