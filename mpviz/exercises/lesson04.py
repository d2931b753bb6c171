"""Checks of lesson 04."""

from ..presets import SLIDE
from .verdict import Verdict, exercise, judged_number

_SLIDE = SLIDE.layout


@exercise
def sum_on_rank_five(answer: object) -> Verdict:
    """Which sum does rank 5 hold after an all-reduce of the ranks over its pp group?

    >>> sum_on_rank_five(28)
    ✓ 1 + 5 + 9 + 13 = 28, on all four stages.
    """
    members = _SLIDE.groups("pp").of(5)
    return judged_number(
        answer,
        sum(members),
        f"{' + '.join(map(str, members))} = {sum(members)}, on all four stages.",
        {
            sum(_SLIDE.groups("dp").of(5)): "That is the sum over its dp group, 5 and 7.",
            sum(_SLIDE.groups("tp").of(5)): "That is the sum over its tp group, 4 and 5.",
            4 + 5 + 6 + 7: "You added the ranks of its stage; pp runs over the stages.",
            sum(range(16)): "That is the sum over all ranks: without group= it would be right.",
            5: "All-reduce adds the tensors of all members, not only its own.",
        },
    )


@exercise
def who_stays_away(answer: object) -> Verdict:
    """Which rank must join the all-reduce, so that rank 0 need not wait?

    >>> who_stays_away(0)
    ✗ 0 is not it. Rank 0 is the one that waits. For whom?
    """
    here, away = _SLIDE.groups("dp").of(0)
    return judged_number(
        answer,
        away,
        f"Without `if rank != {away}` it would join its group {here} {away}, and nobody waits.",
        {
            here: f"Rank {here} is the one that waits. For whom?",
            1: "Rank 1 is in another dp group, 1 and 3. That one was complete.",
        },
    )


@exercise
def ring_bytes(answer: object) -> Verdict:
    """How many bytes does each of 8 ranks send in a ring all-reduce of 1,000,000 bytes?

    >>> ring_bytes(875_000)
    ✗ 875000 is not it. That is the reduce-scatter alone; the all-gather sends as much again.
    """
    n, size = 8, 1_000_000
    right = 2 * (n - 1) * size // n
    return judged_number(
        answer,
        right,
        f"2 · 7/8 · 1,000,000 = {right:,}.",
        {
            right // 2: "That is the reduce-scatter alone; the all-gather sends as much again.",
            2 * size: "Nearly: that is the limit for very many ranks. Here n is 8.",
            (n - 1) * size: "That is everything to everyone. The ring sends parts of 1/8.",
            right * n: "That is what all 8 ranks send together.",
            size: "Each rank sends more than one tensor and less than two.",
        },
    )
