"""The chart of a pipeline in characters."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from .action_table import KIND_ORDER, Work, spoken

_MOST_RANKS, _MOST_ACTIONS = 16, 24
_MOST_COLUMNS, _LAST_COLUMNS = 64, 12
_LONGEST_WORD = 4
"""Columns of the shortest action; where more were needed, the order has to do."""

_BUBBLE = "·"


def timetable(work: Work, at: float | None, *, activations: bool) -> list[str]:
    """Return a line for each rank, and what else the chart says.

    A column is a unit of time where all times are multiples of a round one. Where they are not,
    only the order of each rank's actions is told: measured times differ from run to run.
    """
    ranks = _few(range(work.pp), _MOST_RANKS, 1)
    columns = _columns(work)
    told = {rank: _words(work, rank, columns) for rank in ranks if rank is not None}
    # Columns of time stand below one another; words in an order need not.
    width = 0 if columns is None else max(len(word) for words in told.values() for word in words)
    lines = [
        "⋮" if rank is None else _titled(rank, work.pp, [w.ljust(width) for w in told[rank]])
        for rank in ranks
    ]
    if columns is not None:
        lines.append(f"one column: {spoken(work.seconds / columns)} · {_BUBBLE} is a bubble")
    if activations:
        peaks = [work.timeline.peak_in_flight[rank] if rank is not None else "…" for rank in ranks]
        lines.append(f"most activations held: {' '.join(map(str, peaks))}")
    if at is not None and work.unit is not None:
        lines.append(f"at {spoken(at)}: {moment(work, at)}")
    return lines


def doing(work: Work, time: float) -> list[str]:
    """Return what each rank does at a time: an action, or ``waits``, or ``done``."""
    last = np.zeros(work.pp)
    np.maximum.at(last, work.rank, work.end)
    words = ["waits" if time < end else "done" for end in last.tolist()]
    for action in work.doing(time):
        words[work.rank[action]] = work.name(action)
    return words


def moment(work: Work, time: float) -> str:
    """Return who does what at a time; of many ranks, how many do each kind."""
    words = doing(work, time)
    if len(words) <= _MOST_RANKS:
        return " · ".join(f"rank {rank} {word}" for rank, word in enumerate(words))
    under_way = [KIND_ORDER[work.kind[action]] for action in work.doing(time)]
    found = Counter(under_way + [word for word in words if word in ("waits", "done")])
    order = [kind for kind in (*KIND_ORDER, "waits", "done") if found[kind]]
    return " · ".join(f"{found[kind]} {kind}" for kind in order)


def _columns(work: Work) -> int | None:
    """Return how many units of time there are, or None if they say too little."""
    unit = work.unit
    if unit is None:
        return None
    spans = work.end - work.start
    if not 0 < spans.min() <= (_LONGEST_WORD + 0.5) * unit:
        return None
    return round(work.seconds / unit)


def _words(work: Work, rank: int, columns: int | None) -> list[str]:
    """Return what a rank does in each column of time, or if there are none in which order."""
    mine = work.of_rank(rank).tolist()
    if columns is None:
        return _named(work, mine, _MOST_ACTIONS, 1)
    begin, end = (np.rint(time / work.seconds * columns) for time in (work.start, work.end))
    under_way: list[int | None] = [None] * columns
    for action in mine:
        first, last = int(begin[action]), int(end[action])
        under_way[first:last] = [action] * (last - first)
    return _named(work, under_way, _MOST_COLUMNS, _LAST_COLUMNS)


def _named(work: Work, actions: Sequence[int | None], most: int, last: int) -> list[str]:
    words = []
    for place in _few(range(len(actions)), most, last):
        action = None if place is None else actions[place]
        bubble = "…" if place is None else _BUBBLE
        words.append(bubble if action is None else work.name(action))
    return words


def _titled(rank: int, pp: int, words: Sequence[str]) -> str:
    return f"rank {rank:<{len(str(pp - 1))}}  {' '.join(words)}".rstrip()


def _few(numbers: Sequence[int], most: int, last: int) -> list[int | None]:
    """Return the numbers; None stands for those left out before the last ones."""
    if len(numbers) <= most:
        return list(numbers)
    return [*numbers[: most - last - 1], None, *numbers[-last:]]
