"""The text twin of the chart of a pipeline: a line for each rank."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ..canvas.page import elided
from .action_table import KIND_ORDER, ActionTable, with_unit

_MOST_RANKS, _MOST_ACTIONS = 16, 24
_MOST_COLUMNS, _LAST_COLUMNS = 64, 12
_LONGEST_WORD = 4
"""Columns of the shortest action; where more were needed, the order has to do."""

_BUBBLE = "·"


def timetable(table: ActionTable, at: float | None, *, activations: bool) -> list[str]:
    """Return a line for each rank, and what else the chart says.

    A column is a unit of time where all times are multiples of a round one. Where they are not,
    a line has only the order of its rank's actions: measured times differ from run to run.
    """
    ranks = elided(table.pp, _MOST_RANKS)
    columns = _columns(table)
    words = {rank: _words(table, rank, columns) for rank in ranks if rank is not None}
    # Columns of time stand below one another; words in an order need not.
    width = max(len(word) for line in words.values() for word in line) if columns else 0
    digits = len(str(table.pp - 1))
    lines = []
    for rank in ranks:
        line = "⋮"
        if rank is not None:
            padded = " ".join(word.ljust(width) for word in words[rank])
            line = f"rank {rank:<{digits}}  {padded}".rstrip()
        lines.append(line)
    if columns:
        lines.append(f"one column: {with_unit(table.seconds / columns)} · {_BUBBLE} is a bubble")
    if activations:
        held = table.timeline.peak_in_flight
        peaks = ["…" if rank is None else str(held[rank]) for rank in ranks]
        lines.append(f"most activations held: {' '.join(peaks)}")
    if at is not None and table.unit is not None:
        lines.append(f"at {with_unit(at)}: {moment(table, at)}")
    return lines


def doing(table: ActionTable, time: float) -> list[str]:
    """Return what each rank does at a time: an action, or ``waits``, or ``done``."""
    last = np.zeros(table.pp)
    np.maximum.at(last, table.rank, table.end)
    words = ["waits" if time < end else "done" for end in last.tolist()]
    for action in table.doing(time):
        words[table.rank[action]] = table.name(action)
    return words


def moment(table: ActionTable, time: float) -> str:
    """Return who does what at a time; of many ranks, how many do each kind."""
    words = doing(table, time)
    if len(words) <= _MOST_RANKS:
        return " · ".join(f"rank {rank} {word}" for rank, word in enumerate(words))
    under_way = Counter(KIND_ORDER[table.kind[action]] for action in table.doing(time))
    found = under_way + Counter(words)
    order = [word for word in (*KIND_ORDER, "waits", "done") if found[word]]
    return " · ".join(f"{found[word]} {word}" for word in order)


def _columns(table: ActionTable) -> int:
    """Return how many units of time there are; 0 if columns of time would say too little."""
    shortest = (table.end - table.start).min()
    if table.unit is None or not 0 < shortest <= (_LONGEST_WORD + 0.5) * table.unit:
        return 0
    return round(table.seconds / table.unit)


def _words(table: ActionTable, rank: int, columns: int) -> list[str]:
    """Return what a rank does in each column of time, or if there are none in which order."""
    mine = table.of_rank(rank)
    if not columns:
        return _named(table, mine.tolist(), _MOST_ACTIONS, 1)
    begin, end = (
        np.rint(time[mine] / table.seconds * columns).astype(int)
        for time in (table.start, table.end)
    )
    under_way: list[int | None] = [None] * columns
    for action, first, last in zip(mine.tolist(), begin, end, strict=True):
        under_way[first:last] = [action] * (last - first)
    return _named(table, under_way, _MOST_COLUMNS, _LAST_COLUMNS)


def _named(table: ActionTable, actions: Sequence[int | None], most: int, last: int) -> list[str]:
    """Return the word of each action; of more than ``most``, the middle is left out."""
    if len(actions) > most:
        first = _named(table, actions[: most - last - 1], most, last)
        return [*first, "…", *_named(table, actions[-last:], most, last)]
    return [_BUBBLE if action is None else table.name(action) for action in actions]
