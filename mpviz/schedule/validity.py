"""The rules that a plan must keep. Each is a small function; `validate` asks them in turn."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from .plan import KINDS, Plan
from .steps import Rows, Steps


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
    checked_steps(plan).order()


def checked_steps(plan: Plan) -> Steps:
    """Return the steps of a plan that keeps every rule but the last: its order may be circular."""
    steps = Steps(plan)
    for rule in RULES:
        broken = next(rule(steps), None)
        if broken is not None:
            raise ValueError(broken)
    return steps


# ---- the rules: each yields what breaks it, if anything does


def unknown_stage(steps: Steps) -> Iterator[str]:
    """Yield each action whose stage is not 0 … pp × chunks - 1."""
    plan = steps.plan
    for row in _rows((steps.stage < 0) | (steps.stage >= plan.stages)):
        yield (
            f"unknown stage: {_run(steps, row)}, but the stages are 0 … {plan.stages - 1} "
            f"(pp={plan.pp} × chunks={plan.chunks})"
        )


def unknown_kind(steps: Steps) -> Iterator[str]:
    """Yield each action that is none of F, B, I and W."""
    for row in _rows(~np.isin(steps.kind, list(KINDS))):
        yield f"unknown kind: {_run(steps, row)}, but an action is one of {', '.join(KINDS)}"


def unknown_microbatch(steps: Steps) -> Iterator[str]:
    """Yield each action whose microbatch is not 0 … microbatches - 1."""
    last = steps.plan.microbatches - 1
    for row in _rows((steps.microbatch < 0) | (steps.microbatch > last)):
        yield f"unknown microbatch: {_run(steps, row)}, but the microbatches are 0 … {last}"


def wrong_rank(steps: Steps) -> Iterator[str]:
    """Yield each action that is not where the weights of its stage are."""
    holder = np.array(steps.plan.placement)[steps.stage]
    for row in _rows(holder != steps.rank):
        yield (
            f"wrong rank: {_run(steps, row)}, but stage {steps.stage[row]} is on rank {holder[row]}"
        )


def twice(steps: Steps) -> Iterator[str]:
    """Yield each action that was there before."""
    seen: dict[object, int] = {}
    if len(set(steps.actions)) == len(steps.actions):
        return
    for row, action in enumerate(steps.actions):
        first = seen.setdefault(action, row)
        if first != row:
            yield f"twice: {_run(steps, first)} and again at position {steps.position[row]}"


def mixed_backward(steps: Steps) -> Iterator[str]:
    """Yield each B beside an I or a W: it is both in one."""
    half = np.maximum(steps.row_of["I"], steps.row_of["W"])
    for at in zip(*np.nonzero((steps.row_of["B"] >= 0) & (half >= 0)), strict=True):
        whole, part = steps.row_of["B"][at], half[at]
        yield (
            f"mixed backward: {_run(steps, whole)} and {_placed(steps, part)}, but B is I and W "
            f"in one"
        )


def never_sent(steps: Steps) -> Iterator[str]:
    """Yield each action that takes what no rank computes."""
    for row in _rows(steps.receives & (steps.source < 0)):
        stage, kind, microbatch = steps.actions[row]
        lacks = f"{stage - 1}F{microbatch}"
        if kind != "F":
            lacks = f"{stage + 1}B{microbatch} or {stage + 1}I{microbatch}"
        yield (
            f"a receive that never has its send: {_run(steps, row)}, which takes what {lacks} "
            f"sends, but no rank runs that"
        )


def missing(steps: Steps) -> Iterator[str]:
    """Yield each stage and microbatch without its forward, or without all of its backward."""
    forward, both, of_input, of_weight = (steps.row_of[kind] >= 0 for kind in "FBIW")
    complete = forward & (both | (of_input & of_weight))
    for stage, microbatch in np.argwhere(~complete):
        at = stage, microbatch
        if not forward[at]:
            lacks = "F"
        elif of_input[at] or of_weight[at]:
            lacks = "W" if of_input[at] else "I"
        else:
            lacks = "B"
        yield f"missing: rank {steps.plan.placement[stage]} never runs {stage}{lacks}{microbatch}"


def backward_before_forward(steps: Steps) -> Iterator[str]:
    """Yield each backward before the forward whose activations it needs."""
    for kind in "BI":
        for row, needed in _out_of_order(steps, kind, "F"):
            yield (f"backward before its forward: {_run(steps, row)} and {_placed(steps, needed)}")


def weight_before_input(steps: Steps) -> Iterator[str]:
    """Yield each W before the I whose gradients it needs."""
    for row, needed in _out_of_order(steps, "W", "I"):
        yield f"W before its I: {_run(steps, row)} and {_placed(steps, needed)}"


RULES: tuple[Callable[[Steps], Iterator[str]], ...] = (
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


def _out_of_order(steps: Steps, kind: str, needed: str) -> Rows:
    """Find each row of a kind that comes before the row it needs, and the latter."""
    pairs = np.stack([steps.row_of[kind].ravel(), steps.row_of[needed].ravel()], axis=1)
    return pairs[(pairs[:, 0] >= 0) & (pairs[:, 0] < pairs[:, 1])]


def _run(steps: Steps, row: int) -> str:
    return f"rank {steps.rank[row]} runs {_placed(steps, row)}"


def _placed(steps: Steps, row: int) -> str:
    return f"{steps.actions[row]} at position {steps.position[row]}"
