"""A plan as columns of numbers, the form in which thousands of actions are checked and timed."""

from functools import cached_property
from itertools import chain
from reprlib import repr as shortened

import numpy as np
from numpy.typing import NDArray

from .plan import Plan

Rows = NDArray[np.int64]


class Steps:
    """A plan as columns. Row n is the n-th action, rank after rank.

    Attributes
    ----------
    plan : Plan
        What they are the steps of.
    actions : list of Action
        Each row's.
    rank, position, stage, microbatch : ndarray of int
        Each row's.
    kind : ndarray of str
        Each row's: F, B, I or W.

    Examples
    --------
    >>> from mpviz.schedule import gpipe
    >>> steps = Steps(gpipe(pp=2, microbatches=1))
    >>> steps.actions
    [0F0, 0B0, 1F0, 1B0]
    >>> steps.source
    array([-1,  3,  0, -1])
    >>> steps.order()
    [0, 2, 3, 1]
    """

    def __init__(self, plan: Plan) -> None:
        if not isinstance(plan, Plan):
            raise ValueError(
                f"expected a Plan, got {shortened(plan)}; read text with schedule.parse"
            )
        self.plan = plan
        self.actions = list(chain.from_iterable(plan.actions))
        lengths = [len(mine) for mine in plan.actions]
        self.rank = np.repeat(np.arange(plan.pp), lengths)
        self.position = np.concatenate([np.arange(length) for length in lengths])
        self.stage = np.array([action.stage for action in self.actions], dtype=np.int64)
        self.kind = np.array([action.kind for action in self.actions], dtype=np.str_)
        self.microbatch = np.array([action.microbatch for action in self.actions], dtype=np.int64)

    @cached_property
    def row_of(self) -> dict[str, Rows]:
        """For each kind, the row of every stage (down) and microbatch (across), or -1."""
        tables = {}
        for kind in "FBIW":
            tables[kind] = np.full((self.plan.stages, self.plan.microbatches), -1)
            rows = np.flatnonzero(self.kind == kind)
            tables[kind][self.stage[rows], self.microbatch[rows]] = rows
        return tables

    @cached_property
    def receives(self) -> NDArray[np.bool_]:
        """Whether each row takes what a neighbouring stage computed.

        A forward takes the output of the stage before; a backward, or ``I``, the gradient that
        the stage after returns.
        """
        forward, weight = self.kind == "F", self.kind == "W"
        last = self.stage == self.plan.stages - 1
        taken: NDArray[np.bool_] = np.where(forward, self.stage > 0, ~(weight | last))
        return taken

    @cached_property
    def source(self) -> Rows:
        """The row whose result each row takes, or -1 when it takes none, or none is there."""
        rows = np.full(len(self.actions), -1)
        returned = np.maximum(self.row_of["B"], self.row_of["I"])
        for step, table in ((-1, self.row_of["F"]), (1, returned)):
            taking = np.flatnonzero(self.receives & ((self.kind == "F") == (step < 0)))
            rows[taking] = table[self.stage[taking] + step, self.microbatch[taking]]
        return rows

    def order(self) -> list[int]:
        """Return the rows in an order that can be executed: each after all that it waits for.

        Raises
        ------
        ValueError
            When ranks wait for each other in a circle; the message tells it.
        """
        source = self.source.tolist()
        ends = np.cumsum([len(mine) for mine in self.plan.actions]).tolist()
        reached = [0, *ends[:-1]]
        rank_of = self.rank.tolist()
        done = bytearray(len(source))
        waiting: dict[int, int] = {}
        ready = list(range(self.plan.pp))[::-1]
        rows = []
        while ready:
            rank = ready.pop()
            for row in range(reached[rank], ends[rank]):
                needed = source[row]
                if needed >= 0 and not done[needed]:
                    waiting[needed] = rank
                    break
                done[row] = 1
                reached[rank] += 1
                rows.append(row)
                if row in waiting:
                    ready.append(waiting.pop(row))
        if waiting:
            stuck = {rank: (reached[rank], needed) for needed, rank in waiting.items()}
            raise ValueError(self._circle(stuck, rank_of))
        return rows

    def _circle(self, stuck: dict[int, tuple[int, int]], rank_of: list[int]) -> str:
        """Say who waits for whom, round the circle; `stuck` has each rank's row, and its need."""
        rank, seen = min(stuck), list[int]()
        while rank not in seen:
            seen.append(rank)
            rank = rank_of[stuck[rank][1]]
        waits = []
        for waiting in seen[seen.index(rank) :]:
            row, needed = stuck[waiting]
            waits.append(
                f"at {self.actions[row]} (position {self.position[row]}) for "
                f"{self.actions[needed]} of rank {rank_of[needed]}"
            )
        return f"deadlock: rank {rank} waits {', which waits '.join(waits)}"
