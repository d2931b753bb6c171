"""A plan, simulated: when each rank would do what."""

from collections.abc import Mapping, Sequence
from math import isfinite
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from .._checks import listed
from ..schedule import KINDS, Plan
from ..schedule.dataflow import DependencyGraph
from ..schedule.validity import dependency_graph
from .event import Event
from .timeline import Timeline

Seconds = float | Sequence[float] | Mapping[int, float]

DURATIONS: Mapping[str, Seconds] = MappingProxyType({"F": 1.0, "B": 2.0, "I": 1.0, "W": 1.0})
"""A backward multiplies twice where a forward multiplies once: for its input and its weight."""


def simulate(
    plan: Plan, durations: Mapping[str, Seconds] = DURATIONS, link: float = 0.0
) -> Timeline:
    """Return when each rank would do what: every action as soon as what it needs is there.

    Parameters
    ----------
    plan : Plan
        Any that `validate` accepts.
    durations : mapping
        Seconds that each kind of action takes: ``{"F": 1, "B": 2}``. In place of a number, one
        for each stage: a sequence, or a mapping from the stage. ``B`` is ``I`` + ``W`` where only
        they are given. A rank with v stages runs each in 1/v of the time of all.
    link : float
        Seconds between the end of an action and the arrival of what it sends to another rank.
        Meanwhile both may compute, and other messages may be on their way.

    Returns
    -------
    Timeline
        A ``recv`` in it is the time for which a rank waited for a message.

    Raises
    ------
    ValueError
        When the plan is none or breaks a rule, or a duration is missing or negative.

    Examples
    --------
    >>> from mpviz import schedule
    >>> plan = schedule.one_forward_one_backward(pp=4, microbatches=8)
    >>> simulate(plan, {"F": 1, "B": 2})
    4 ranks, 64 actions in 33 s, bubble 27.3 %
    >>> simulate(plan, {"F": 1, "B": [2, 2, 2, 3]}, link=0.5)
    4 ranks, 64 actions in 44 s, bubble 40.9 %
    """
    graph = dependency_graph(plan)
    link = _seconds("link", link)
    start, end, free = _times(graph, _duration_of(graph, durations), link)
    return Timeline(_events(graph, start, end, free), pp=plan.pp, link=link)


def _times(
    graph: DependencyGraph, seconds: NDArray[np.float64], link: float
) -> tuple[list[float], list[float], list[float]]:
    """Return when each row starts, when it ends, and from when on its rank was free for it."""
    source, rank_of, duration = graph.source.tolist(), graph.rank.tolist(), seconds.tolist()
    delay = np.where(graph.rank[graph.source] != graph.rank, link, 0.0).tolist()
    start, end, free = ([0.0] * len(source) for _ in range(3))
    now = [0.0] * graph.plan.pp
    for row in graph.topological_order():
        begin = free[row] = now[rank_of[row]]
        needed = source[row]
        if needed >= 0:
            begin = max(begin, end[needed] + delay[row])
        start[row] = begin
        now[rank_of[row]] = end[row] = begin + duration[row]
    return start, end, free


def _events(
    graph: DependencyGraph, start: list[float], end: list[float], free: list[float]
) -> tuple[Event, ...]:
    columns = (graph.rank, graph.kind, graph.stage, graph.microbatch)
    rank, kind, stage, microbatch = (column.tolist() for column in columns)
    everyone = tuple(range(graph.plan.pp))
    peer = graph.rank[graph.source]
    rows = np.lexsort((graph.rank, np.array(start))).tolist()
    waits = np.flatnonzero(np.array(free) < np.array(start)).tolist()
    waiting = [
        Event(
            rank[n], "recv", free[n], start[n], everyone, 0, int(peer[n]), stage[n], microbatch[n]
        )
        for n in waits
    ]
    working = [
        # By position: by name they take half as long again.
        Event(rank[n], kind[n], start[n], end[n], (), 0, None, stage[n], microbatch[n])
        for n in rows
    ]
    return (*working, *waiting)


def _duration_of(graph: DependencyGraph, durations: Mapping[str, Seconds]) -> NDArray[np.float64]:
    """Return the seconds of each row."""
    unknown = [kind for kind in durations if kind not in KINDS]
    if unknown:
        raise ValueError(f"durations of {listed(map(repr, unknown))}? Kinds are {listed(KINDS)}")
    stages = graph.plan.stages
    given = {kind: _of_stages(kind, value, stages) for kind, value in durations.items()}
    if "B" not in given and {"I", "W"} <= set(given):
        given["B"] = given["I"] + given["W"]
    seconds = np.zeros(len(graph.actions))
    for kind in KINDS:
        rows = graph.kind == kind
        if rows.any():
            if kind not in given:
                raise ValueError(f"the plan runs {kind} ({KINDS[kind]}); give durations[{kind!r}]")
            seconds[rows] = given[kind][graph.stage[rows]]
    return seconds


def _of_stages(kind: str, value: Seconds, stages: int) -> NDArray[np.float64]:
    """Return the seconds of one kind on each stage."""
    if isinstance(value, Mapping):
        if set(value) != set(range(stages)):
            raise ValueError(
                f"durations[{kind!r}] must have the stages 0 … {stages - 1}, got {listed(value)}"
            )
        value = [value[stage] for stage in range(stages)]
    if not isinstance(value, Sequence | np.ndarray):
        value = [value] * stages
    if len(value) != stages:
        raise ValueError(
            f"durations[{kind!r}] must be one number, or one for each of {stages} stages, got "
            f"{len(value)}"
        )
    return np.array([_seconds(f"durations[{kind!r}]", one) for one in value])


def _seconds(name: str, value: object) -> float:
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not number or not isfinite(value) or value < 0:  # type: ignore[arg-type, operator]
        raise ValueError(f"{name} must be seconds ≥ 0, got {value!r}")
    return float(value)  # type: ignore[arg-type]
