"""What an action consumes and produces, and the dependency graph of a plan that follows from it."""

from functools import cached_property
from itertools import chain
from reprlib import repr as shortened
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .plan import Action, Plan

Ints = NDArray[np.int64]


class Dataflow(NamedTuple):
    """What one kind of action consumes and produces.

    Attributes
    ----------
    consumes, produces : {"output", "gradient", ""}
        What it takes from a neighbouring stage, and what it makes for one; see `DIRECTION`.
    after : {"F", "I", ""}
        The action of its own stage and microbatch whose result it needs.
    in_flight : int
        How the number of activations that its rank holds changes: by 1 when an ``F`` starts, by
        -1 when a ``B`` or ``W`` ends.
    """

    consumes: str
    produces: str
    after: str
    in_flight: int


DATAFLOW = {
    "F": Dataflow(consumes="output", produces="output", after="", in_flight=+1),
    "B": Dataflow(consumes="gradient", produces="gradient", after="F", in_flight=-1),
    "I": Dataflow(consumes="gradient", produces="gradient", after="F", in_flight=0),
    "W": Dataflow(consumes="", produces="", after="I", in_flight=-1),
}
"""By kind of action."""

DIRECTION = {"output": +1, "gradient": -1}
"""An output goes to the next stage, a gradient to the stage before."""


def sender(action: Action, stages: int) -> int | None:
    """Return the stage whose result an action consumes.

    >>> sender(Action(1, "F", 5), stages=2), sender(Action(1, "B", 5), stages=2)
    (0, None)
    """
    return _neighbour(action.stage, DATAFLOW[action.kind].consumes, -1, stages)


def receiver(action: Action, stages: int) -> int | None:
    """Return the stage that consumes the result of an action.

    >>> receiver(Action(1, "F", 5), stages=2), receiver(Action(1, "B", 5), stages=2)
    (None, 0)
    """
    return _neighbour(action.stage, DATAFLOW[action.kind].produces, +1, stages)


def producers(consumed: str) -> str:
    """Return the kinds of action that produce an output, or a gradient.

    >>> producers("gradient")
    'BI'
    """
    return "".join(kind for kind, flow in DATAFLOW.items() if flow.produces == consumed)


def _neighbour(stage: int, value: str, way: int, stages: int) -> int | None:
    neighbour = stage + way * DIRECTION[value] if value else -1
    return neighbour if 0 <= neighbour < stages else None


class DependencyGraph:
    """A plan as columns of numbers: thousands of actions are checked and timed in this form.

    Row n is the n-th action, rank after rank. It depends on the row before it on its rank, and on
    its `source`.

    Attributes
    ----------
    plan : Plan
        Of which it is the graph.
    actions : list of Action
        Each row's.
    rank, position, stage, microbatch : ndarray of int
        Each row's.
    kind : ndarray of str
        Each row's: F, B, I or W.

    Examples
    --------
    >>> from mpviz.schedule import gpipe
    >>> graph = DependencyGraph(gpipe(pp=2, microbatches=1))
    >>> graph.actions
    [0F0, 0B0, 1F0, 1B0]
    >>> graph.source
    array([-1,  3,  0, -1])
    >>> graph.topological_order()
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
    def row_of(self) -> dict[str, Ints]:
        """For each kind, the row of every stage (down) and microbatch (across), or -1."""
        tables = {}
        for kind in DATAFLOW:
            tables[kind] = np.full((self.plan.stages, self.plan.microbatches), -1)
            rows = np.flatnonzero(self.kind == kind)
            tables[kind][self.stage[rows], self.microbatch[rows]] = rows
        return tables

    @cached_property
    def sender(self) -> Ints:
        """The stage whose result each row consumes, or -1: `sender`, for all rows at once."""
        stages = np.full(len(self.actions), -1)
        for kind, flow in DATAFLOW.items():
            if flow.consumes:
                rows = np.flatnonzero(self.kind == kind)
                stages[rows] = self.stage[rows] - DIRECTION[flow.consumes]
        stages[stages >= self.plan.stages] = -1
        return stages

    @cached_property
    def source(self) -> Ints:
        """The row whose result each row consumes, or -1: it consumes none, or none is there."""
        source = np.full(len(self.actions), -1)
        for kind, flow in DATAFLOW.items():
            rows = np.flatnonzero((self.kind == kind) & (self.sender >= 0))
            for producer in producers(flow.consumes) if rows.size else "":
                found = self.row_of[producer][self.sender[rows], self.microbatch[rows]]
                source[rows] = np.maximum(source[rows], found)
        return source

    def topological_order(self) -> list[int]:
        """Return the rows in an order that can be executed: each after all that it depends on.

        Raises
        ------
        ValueError
            When ranks wait for each other in a cycle; the message names its actions.
        """
        source = self.source.tolist()
        ends = np.cumsum([len(mine) for mine in self.plan.actions]).tolist()
        reached = [0, *ends[:-1]]
        done = bytearray(len(source))
        waiting: dict[int, int] = {}
        ready = list(range(self.plan.pp))[::-1]
        order = []
        while ready:
            rank = ready.pop()
            for row in range(reached[rank], ends[rank]):
                needed = source[row]
                if needed >= 0 and not done[needed]:
                    waiting[needed] = rank
                    break
                done[row] = 1
                reached[rank] += 1
                order.append(row)
                if row in waiting:
                    ready.append(waiting.pop(row))
        if waiting:
            stuck = {rank: (reached[rank], needed) for needed, rank in waiting.items()}
            raise ValueError(self._cycle(stuck))
        return order

    def _cycle(self, stuck: dict[int, tuple[int, int]]) -> str:
        """Say which ranks wait for each other; `stuck` has each rank's row, and its source."""
        rank, seen = min(stuck), list[int]()
        while rank not in seen:
            seen.append(rank)
            rank = int(self.rank[stuck[rank][1]])
        waits = []
        for row, needed in (stuck[waiting] for waiting in seen[seen.index(rank) :]):
            waits.append(
                f"at {self.actions[row]} (position {self.position[row]}) for "
                f"{self.actions[needed]} of rank {self.rank[needed]}"
            )
        return f"deadlock: rank {rank} waits {', which waits '.join(waits)}"
