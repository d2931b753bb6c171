"""Plans written by hand."""

import re
from collections.abc import Iterable, Sequence
from itertools import chain

from .plan import Action, Plan, v_shaped

_LABEL = re.compile(r"\s*rank\s+(\d+)\s*:?", re.IGNORECASE)
_SEPARATORS = re.compile(r"[\s,;|]+")
_MOST_BY_HAND = 1_000


def parse(
    text: str,
    *,
    name: str = "by hand",
    microbatches: int | None = None,
    chunks: int | None = None,
    placement: Sequence[int] = (),
) -> Plan:
    """Read a plan, one line for each pipeline rank. It may be wrong: see `validate`.

    Blank lines do not count, commas do not matter, and ``rank 0:`` may stand before a line.

    Parameters
    ----------
    text : str
        Such as ``plan.text``.
    name : str
        What to call it.
    microbatches, chunks : int, optional
        As many as the text speaks of, by default.
    placement : sequence of int, optional
        The pipeline rank of each stage. By default `looped`, or `v_shaped` where that alone puts
        every action on its rank.

    Raises
    ------
    ValueError
        When a word is no action, or the stages cannot be dealt to the lines.

    Examples
    --------
    >>> parse("rank 0: 0F0, 0B0").pp
    1
    >>> parse("0F0 0G0")
    Traceback (most recent call last):
        ...
    ValueError: line of rank 0: '0G0' is no action; write the stage, one of F, B, I and W, and \
the microbatch: 0F3
    """
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise ValueError("a plan has a line for each pipeline rank, and this text has none")
    actions = tuple(_read(rank, line) for rank, line in enumerate(lines))
    everything = list(chain.from_iterable(actions))
    if not everything:
        raise ValueError("no rank does anything; write actions such as 0F0")
    pp = len(lines)
    _check_not_absurd(everything)
    if microbatches is None:
        microbatches = 1 + max(action.microbatch for action in everything)
    if chunks is None:
        stages = 1 + max(action.stage for action in everything)
        if stages % pp:
            raise ValueError(
                f"{stages} stages (0 … {stages - 1}) cannot be dealt evenly to {pp} ranks "
                f"(lines); there may be {pp}, {2 * pp}, {3 * pp} … stages"
            )
        chunks = stages // pp
    if not placement and chunks == 2 and _fits(actions, v_shaped(pp)):
        placement = v_shaped(pp)
    return Plan(
        name=name,
        pp=pp,
        microbatches=microbatches,
        chunks=chunks,
        actions=actions,
        placement=tuple(placement),
    )


def _read(rank: int, line: str) -> tuple[Action, ...]:
    label = _LABEL.match(line)
    if label and int(label[1]) != rank:
        raise ValueError(f"line {rank + 1} of the ranks says {label[0].strip()!r}, not rank {rank}")
    words = [word for word in _SEPARATORS.split(line[label.end() if label else 0 :]) if word]
    if "…" in words:
        raise ValueError(f"line of rank {rank} was shortened (…); plan.text has all of it")
    try:
        return tuple(map(Action.parse, words))
    except ValueError as error:
        raise ValueError(f"line of rank {rank}: {error}") from None


def _check_not_absurd(everything: Sequence[Action]) -> None:
    """Raise at a slip such as 0F00110, before tables of that size are made."""
    most = max(_MOST_BY_HAND, len(everything))
    for action in everything:
        if max(action.stage, action.microbatch) >= most:
            raise ValueError(
                f"{action} is out of all proportion to a plan of {len(everything)} actions"
            )


def _fits(actions: Iterable[Iterable[Action]], placement: Sequence[int]) -> bool:
    return all(
        action.stage < len(placement) and placement[action.stage] == rank
        for rank, mine in enumerate(actions)
        for action in mine
    )
