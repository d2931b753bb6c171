"""Checks of lesson 06."""

from collections.abc import Callable, Mapping
from typing import Any

from .. import schedule
from ..layout import ParallelLayout
from ..timeline import simulate
from .functions import judged_function
from .ranks import lend, tried
from .verdict import Verdict, exercise, judged_number

_PP, _MICROBATCHES = 2, 4


@exercise
def bubble_in_percent(answer: object) -> Verdict:
    """How many percent of the time are 8 ranks idle with 24 microbatches of GPipe?

    >>> bubble_in_percent(29)
    ✗ 29 is not it. 7/24 is idle over *useful* time. Asked is the idle share of all time.
    """
    pp, m = 8, 24
    timeline = simulate(schedule.gpipe(pp=pp, microbatches=m))
    right, overhead = (
        round(100 * share) for share in (timeline.bubble_fraction, timeline.bubble_overhead)
    )
    return judged_number(
        answer,
        right,
        f"(p-1)/(m+p-1) = {pp - 1}/{m + pp - 1}. It was 7/8 with one microbatch.",
        {
            overhead: "7/24 is idle over *useful* time. Asked is the idle share of all time.",
            100 - right: "That is the share in which they work.",
            round(100 * 7 / 8): "That is so with one microbatch.",
            int(100 * 7 / 31): "Idle are p - 1 = 7 of m + p - 1 = 31 steps; round to the nearest.",
            round(100 * 8 / 24): "That is p/m. How many of the p stages does a rank wait for, and "
            "of how many steps is that a share?",
            round(100 * 8 / 32): "Rank 7 waits for 7 stages before it, not for 8.",
        },
    )


@exercise
def warm_up(answer: object) -> Verdict:
    """Write how many forwards a rank of 1F1B does before its forwards and backwards alternate.

    >>> warm_up(lambda rank, pp, microbatches: microbatches)
    ✗ That is GPipe: all forwards first.
    """
    cases = [(r, pp, m) for pp in (1, 2, 4, 8) for m in (1, 2, 4, 16) for r in range(pp)]
    return judged_function(
        answer,
        lambda rank, pp, microbatches: min(microbatches, pp - 1 - rank),
        cases,
        f"Right for all {len(cases)} ranks tried. Megatron's line is the same: "
        f"num_warmup_microbatches.",
        {
            lambda rank, pp, microbatches: pp - 1 - rank: "Right where there are microbatches "
            "enough. Rank 0 of 4 with 2 of them would start a forward that does not exist.",
            lambda rank, pp, microbatches: pp - rank: "Its last forward is the first of a pair: "
            "one forward, one backward. Rank 3 of 4 has no warm-up.",
            lambda rank, pp, microbatches: min(microbatches, pp - rank): "Its last forward is the "
            "first of a pair: one forward, one backward. Rank 3 of 4 has no warm-up.",
            lambda rank, pp, microbatches: rank: "The other way round: the last rank can begin its "
            "first backward at once, rank 0 waits longest.",
            lambda rank, pp, microbatches: min(microbatches, rank): "The other way round: the last "
            "rank can begin its first backward at once, rank 0 waits longest.",
            lambda rank, pp, microbatches: microbatches: "That is GPipe: all forwards first.",
            lambda rank, pp, microbatches: 3 - rank: "That is the loop above, of 4 ranks. Here pp "
            "may be any number.",
        },
    )


@exercise
def plan_by_hand(answer: object) -> Verdict:
    """Write a plan for 2 stages and 4 microbatches, as fast as 1F1B, and rank 0 holding only 2.

    >>> plan_by_hand("0F0 0B0").message
    'One line for each of 2 ranks, please; this has 1.'
    """
    if not isinstance(answer, str):
        return Verdict(False, f"{answer!r} is not a plan; write it as text, a line for each rank.")
    lines = [line for line in answer.splitlines() if line.strip()]
    if len(lines) != _PP:
        return Verdict(False, f"One line for each of {_PP} ranks, please; this has {len(lines)}.")
    try:
        plan = schedule.parse(answer, microbatches=_MICROBATCHES)
        schedule.validate(plan)
    except ValueError as error:
        return Verdict(False, f"{error}.")
    timeline = simulate(plan)
    classic = schedule.one_forward_one_backward(pp=_PP, microbatches=_MICROBATCHES)
    best = simulate(classic)
    if timeline.peak_in_flight[0] > best.peak_in_flight[0]:
        return Verdict(
            False,
            f"It runs, but rank 0 holds the activations of {timeline.peak_in_flight[0]} "
            f"microbatches at once. Let a backward free some before the next forward.",
        )
    if timeline.makespan > best.makespan:
        return Verdict(
            False,
            f"It runs, but takes {timeline.makespan:g} s where {best.makespan:g} s are enough. "
            f"Which rank waits although it could begin the next forward?",
        )
    held = f"rank 0 never holds more than {timeline.peak_in_flight[0]} microbatches"
    if timeline.makespan < best.makespan:
        return Verdict(
            True,
            f"{timeline.makespan:g} s, and {held}: faster than 1F1B ({best.makespan:g} s), because "
            f"the backward is split, as section 6 does.",
        )
    name = "that is 1F1B" if plan == classic else "as fast as 1F1B"
    return Verdict(True, f"{timeline.makespan:g} s, and {held}: {name}.")


@exercise
def exchange(answer: object) -> Verdict:
    """Write a swap of two tensors between two ranks that does not hang; tried on real ones.

    >>> exchange("b")
    ✗ 'b' is not a function; write def answer(rank, mine, theirs): and receive into theirs.
    """
    layout = ParallelLayout(nodes=1, gpus_per_node=2, pp=2)
    asked = "def answer(rank, mine, theirs): and receive into theirs"
    results = tried(_exchanged, answer, layout, asked, _both_wait)
    if isinstance(results, Verdict):
        return results
    got = list(results)
    if got == [11.0, 10.0]:
        return Verdict(
            True,
            "Each has what the other sent. Megatron starts both messages at once "
            "(send_forward_recv_backward), so that no order can be wrong.",
        )
    for rank, value in enumerate(got):
        if value == -1:
            return Verdict(False, f"On rank {rank} nothing was received into `theirs`.")
        if value == 10 + rank:
            return Verdict(False, f"On rank {rank} `theirs` holds its own tensor.")
    return Verdict(False, f"`theirs` should be 11 and 10 on the two ranks, and is {got}.")


def _exchanged(rank: int, answer: Callable[..., Any]) -> float:
    """Return what arrives on this rank, which sends 10 + its number."""
    import torch

    lend(answer)
    theirs = torch.full((4,), -1.0)
    answer(rank, torch.full((4,), 10.0 + rank), theirs)
    return theirs[0].item()


_KEPT = "keep what it returns, and wait() for it after the recv"


def _both_wait(waiting: Mapping[int, str]) -> str:
    operations = list(waiting.values())
    if operations == ["send", "send"]:
        return "It hangs: both send first, and each waits for the other to receive."
    if operations == ["recv", "recv"]:
        return (
            "It hangs: both receive first, and each waits for what the other sends afterwards; "
            f"or an isend is lost: {_KEPT}."
        )
    where = ", ".join(f"rank {rank} waits in {operation}" for rank, operation in waiting.items())
    return (
        f"It hangs: {where}. For each message, one rank sends and the other receives; "
        f"after an isend, {_KEPT}."
    )
