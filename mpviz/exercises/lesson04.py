"""Checks of lesson 04."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..layout import ParallelLayout
from ..presets import SLIDE
from .ranks import described, in_a_row, lend, tried
from .verdict import Verdict, exercise, judged_number

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

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
def mean_of_those_with_data(answer: object) -> Verdict:
    """Write the mean over the members of a group that have data; tried on four real ranks.

    >>> mean_of_those_with_data(2)
    ✗ 2 is not a function; write def answer(x, has_data, group): and return the mean.
    """
    layout = ParallelLayout(nodes=1, gpus_per_node=4, tp=2)
    asked = "def answer(x, has_data, group): and return the mean"
    results = tried(_means, answer, layout, asked, _left_alone)
    if isinstance(results, Verdict):
        return results
    all_have, one_lacks = ([round(means[case], 6) for means in results] for case in range(2))
    return _judged_means(all_have, one_lacks)


def _means(
    rank: int, groups: "dict[str, ProcessGroup]", answer: "Callable[..., Any]"
) -> tuple[float, ...] | str:
    """Return what an answer makes of rank + 1: while all have data, and without rank 2."""
    import torch

    lend(answer)
    cases = (True, rank != 2)
    means = [answer(torch.full((3,), rank + 1.0), has_data, groups["dp"]) for has_data in cases]
    for mean in means:
        if not isinstance(mean, torch.Tensor) or mean.shape != (3,):
            return f"It should return a tensor shaped like x, [3]; it returns {described(mean)}"
    return tuple(mean[0].item() for mean in means)


def _left_alone(waiting: Mapping[int, str]) -> str:
    rank, operation = next(iter(waiting.items()))
    return (
        f"It hangs: rank {rank} waits in {operation}. Every member must call each collective, "
        "whether it has data or not. What can a member without data contribute to a sum?"
    )


def _judged_means(all_have: list[float], one_lacks: list[float]) -> Verdict:
    """Judge the results on ranks 0 to 3, whose x are 1, 2, 3, 4, in dp groups 0 2 and 1 3."""
    if all_have == [2, 3, 2, 3] and one_lacks == [1, 3, 1, 3]:
        return Verdict(
            True,
            "Whoever has no data contributes zeros, and the sum is divided by the number of those "
            "who have.",
        )
    hints: dict[tuple[float, ...], str] = {
        (4, 6, 4, 6): "That is the sum. Who divides it?",
        (10, 10, 10, 10): "That is the sum over all four ranks. Which group is meant?",
        (2.5, 2.5, 2.5, 2.5): "That is the mean over all four ranks. Which group is meant?",
        (1, 2, 3, 4): "Every rank has kept its own x.",
    }
    if all_have != [2, 3, 2, 3]:
        wrong = hints.get(tuple(all_have), "Where all have data, it is the mean of the group.")
        return Verdict(False, f"Where x is 1, 2, 3, 4, it returns {in_a_row(all_have)}. {wrong}")
    hints = {
        (2, 3, 2, 3): "The x of rank 2 is still counted, though it has no data.",
        (0.5, 3, 0.5, 3): "The sum is right, but divided by all members of the group. How many "
        "have data? The ranks can ask each other in the same way.",
        (1, 3, 3, 3): "Rank 2 has kept its own x; it must get the mean, too.",
        (1, 3, 0, 3): "Rank 2 must get the mean, too.",
    }
    wrong = hints.get(tuple(one_lacks), "Ranks 0 and 2 should both get 1, the x of rank 0.")
    return Verdict(
        False, f"Where rank 2 has no data, the four ranks get {in_a_row(one_lacks)}. {wrong}"
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
