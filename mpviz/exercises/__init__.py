"""Checks of the lessons' exercises: each says ✓, or what is wrong with a hint for that mistake.

A lesson holds ``answer = ...`` and then, say, ``exercises.copies(answer)``. The right answers
are computed here from the same `ParallelLayout` that the lesson draws; the known wrong ones are
those that learners really give.
"""

from .lesson00 import gpus_with_star
from .lesson01 import copies, ranks_of_copy_two, same_parameters
from .lesson02 import (
    gpus_with_experts,
    largest_tp,
    order_of_the_guide,
    pipeline_group_of_six,
    rank_at,
)
from .lesson03 import (
    no_all_reduce_leaves,
    order_does_not_matter,
    tp_for_128_heads,
    tp_on_72_gpus,
)
from .lesson04 import ring_bytes, sum_on_rank_five, who_stays_away
from .lesson05 import backward_of_g, bytes_of_a_layer, wrong_split
from .lesson06 import bubble_in_percent, plan_by_hand, safe_order
from .verdict import Verdict

__all__ = [
    "Verdict",
    "backward_of_g",
    "bubble_in_percent",
    "bytes_of_a_layer",
    "copies",
    "gpus_with_experts",
    "gpus_with_star",
    "largest_tp",
    "no_all_reduce_leaves",
    "order_does_not_matter",
    "order_of_the_guide",
    "pipeline_group_of_six",
    "plan_by_hand",
    "rank_at",
    "ranks_of_copy_two",
    "ring_bytes",
    "safe_order",
    "same_parameters",
    "sum_on_rank_five",
    "tp_for_128_heads",
    "tp_on_72_gpus",
    "who_stays_away",
    "wrong_split",
]
