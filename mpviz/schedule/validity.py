"""The rules that a plan must keep. Each is a small function; `validate` asks them in turn."""

from collections.abc import Callable, Iterator
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from .dataflow import DATAFLOW, DependencyGraph, Ints, producers
from .plan import KINDS, Plan


def validate(plan: Plan) -> None:
    """Raise unless the plan can be executed: say which rule it breaks first, and where.

    Positions are counted from 0: ``plan.actions[rank][position]``.

    Raises
    ------
    ValueError
        When it is no `Plan`. Then in this order: a stage, kind or microbatch that the plan does
        not have; an action on another rank than its stage; one that is there twice; ``B`` beside
        ``I`` or ``W``; a receive that never has its send; an action that is missing; a backward
        before its forward; ``W`` before ``I``; ranks that wait for each other in a circle.

    Examples
    --------
    >>> from mpviz.schedule import parse
    >>> validate(parse("0F0 0B0"))
    >>> validate(parse("0B0 0F0"))
    Traceback (most recent call last):
        ...
    ValueError: backward before its forward: rank 0 runs 0B0 at position 0 and 0F0 at position 1
    >>> validate(parse('''
    ...     0F0 0B0 0F1 0B1
    ...     1F0 1F1 1B0 1B1
    ... '''))
    Traceback (most recent call last):
        ...
    ValueError: deadlock: rank 0 waits at 0B0 (position 1) for 1B0 of rank 1, which waits at \
1F1 (position 1) for 0F1 of rank 0
    """
    dependency_graph(plan).topological_order()


def dependency_graph(plan: Plan) -> DependencyGraph:
    """Return the graph of a plan that keeps every rule but the last: it may have a cycle."""
    graph = DependencyGraph(plan)
    for rule in RULES:
        broken = next(rule(graph), None)
        if broken is not None:
            raise ValueError(broken)
    return graph


# ---- the rules: each yields what breaks it, if anything does


def unknown_stage(graph: DependencyGraph) -> Iterator[str]:
    """Yield each action whose stage is not 0 … pp × chunks - 1."""
    plan = graph.plan
    for row in _rows((graph.stage < 0) | (graph.stage >= plan.stages)):
        yield (
            f"unknown stage: {_run(graph, row)}, but the stages are 0 … {plan.stages - 1} "
            f"(pp={plan.pp} × chunks={plan.chunks})"
        )


def unknown_kind(graph: DependencyGraph) -> Iterator[str]:
    """Yield each action that is none of F, B, I and W."""
    for row in _rows(~np.isin(graph.kind, list(KINDS))):
        yield f"unknown kind: {_run(graph, row)}, but an action is one of {', '.join(KINDS)}"


def unknown_microbatch(graph: DependencyGraph) -> Iterator[str]:
    """Yield each action whose microbatch is not 0 … microbatches - 1."""
    last = graph.plan.microbatches - 1
    for row in _rows((graph.microbatch < 0) | (graph.microbatch > last)):
        yield f"unknown microbatch: {_run(graph, row)}, but the microbatches are 0 … {last}"


def wrong_rank(graph: DependencyGraph) -> Iterator[str]:
    """Yield each action that is not where the weights of its stage are."""
    holder = np.array(graph.plan.placement)[graph.stage]
    for row in _rows(holder != graph.rank):
        yield (
            f"wrong rank: {_run(graph, row)}, but stage {graph.stage[row]} is on rank {holder[row]}"
        )


def twice(graph: DependencyGraph) -> Iterator[str]:
    """Yield each action that was there before."""
    seen: dict[object, int] = {}
    if len(set(graph.actions)) == len(graph.actions):
        return
    for row, action in enumerate(graph.actions):
        first = seen.setdefault(action, row)
        if first != row:
            yield f"twice: {_run(graph, first)} and again at position {graph.position[row]}"


def mixed_backward(graph: DependencyGraph) -> Iterator[str]:
    """Yield each B beside an I or a W: it is both in one."""
    half = np.maximum(graph.row_of["I"], graph.row_of["W"])
    for at in zip(*np.nonzero((graph.row_of["B"] >= 0) & (half >= 0)), strict=True):
        whole, part = graph.row_of["B"][at], half[at]
        yield (
            f"mixed backward: {_run(graph, whole)} and {_placed(graph, part)}, but B is I and W "
            f"in one"
        )


def never_sent(graph: DependencyGraph) -> Iterator[str]:
    """Yield each action that takes what no rank computes."""
    for row in _rows((graph.sender >= 0) & (graph.source < 0)):
        _, kind, microbatch = graph.actions[row]
        kinds = producers(DATAFLOW[kind].consumes)
        lacks = " or ".join(f"{graph.sender[row]}{sent}{microbatch}" for sent in kinds)
        yield (
            f"a receive that never has its send: {_run(graph, row)}, which takes what {lacks} "
            f"sends, but no rank runs that"
        )


def missing(graph: DependencyGraph) -> Iterator[str]:
    """Yield each stage and microbatch without its forward, or without all of its backward."""
    forward, both, of_input, of_weight = (graph.row_of[kind] >= 0 for kind in "FBIW")
    complete = forward & (both | (of_input & of_weight))
    for stage, microbatch in np.argwhere(~complete):
        at = stage, microbatch
        if not forward[at]:
            lacks = "F"
        elif of_input[at] or of_weight[at]:
            lacks = "W" if of_input[at] else "I"
        else:
            lacks = "B"
        yield f"missing: rank {graph.plan.placement[stage]} never runs {stage}{lacks}{microbatch}"


def backward_before_forward(graph: DependencyGraph) -> Iterator[str]:
    """Yield each backward before the forward whose activations it needs."""
    for row, needed in chain(_out_of_order(graph, "B"), _out_of_order(graph, "I")):
        yield f"backward before its forward: {_run(graph, row)} and {_placed(graph, needed)}"


def weight_before_input(graph: DependencyGraph) -> Iterator[str]:
    """Yield each W before the I whose gradients it needs."""
    for row, needed in _out_of_order(graph, "W"):
        yield f"W before its I: {_run(graph, row)} and {_placed(graph, needed)}"


RULES: tuple[Callable[[DependencyGraph], Iterator[str]], ...] = (
    unknown_stage,
    unknown_kind,
    unknown_microbatch,
    wrong_rank,
    twice,
    mixed_backward,
    never_sent,
    missing,
    backward_before_forward,
    weight_before_input,
)
"""In the order in which they are asked: each relies on those before it."""


def _rows(broken: NDArray[np.bool_]) -> list[int]:
    rows: list[int] = np.flatnonzero(broken).tolist()
    return rows


def _out_of_order(graph: DependencyGraph, kind: str) -> Ints:
    """Find each row of a kind that comes before the row it needs, and the latter."""
    tables = graph.row_of[kind], graph.row_of[DATAFLOW[kind].after]
    pairs = np.stack([table.ravel() for table in tables], axis=1)
    return pairs[(pairs[:, 0] >= 0) & (pairs[:, 0] < pairs[:, 1])]


def _run(graph: DependencyGraph, row: int) -> str:
    return f"rank {graph.rank[row]} runs {_placed(graph, row)}"


def _placed(graph: DependencyGraph, row: int) -> str:
    return f"{graph.actions[row]} at position {graph.position[row]}"
