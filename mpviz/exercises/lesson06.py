"""Checks of lesson 06."""

from .. import schedule
from ..timeline import simulate
from .verdict import Verdict, exercise, judged_choice, judged_number

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
def safe_order(answer: object) -> Verdict:
    """Which order of blocking sends and receives is safe between two neighbours?

    >>> safe_order("a")
    ✗ That is the deadlock above: each waits for the other to receive.
    """
    return judged_choice(
        answer,
        "b",
        "One gives while the other takes, then the reverse. Megatron does both at once instead "
        "(send_forward_recv_backward), so that neither order nor rank matters.",
        {
            "a": "That is the deadlock above: each waits for the other to receive.",
            "c": "Then each waits for something that the other sends only afterwards.",
        },
    )
