"""Checks of the lessons' exercises: each says ✓, or what is wrong with a hint for that mistake.

A lesson holds ``answer = ...`` and then, say, ``exercises.copies(answer)``. The right answers
are computed here from the same `ParallelLayout` that the lesson draws; the known wrong ones are
those that learners really give.
"""

from .lesson00 import gpus_with_star
from .lesson01 import copies, ranks_of_copy_two, same_parameters
from .lesson02 import (
    holders_of_an_expert,
    leaves_node,
    order_of_the_guide,
    pipeline_group,
    rank_at,
)
from .lesson03 import (
    largest_tp,
    no_all_reduce_leaves,
    order_does_not_matter,
    time_in_pieces,
)
from .lesson04 import mean_of_those_with_data, ring_bytes, sum_on_rank_five
from .lesson05 import backward_of_g, bytes_of_a_layer, rows_first
from .lesson06 import bubble_in_percent, exchange, plan_by_hand, warm_up
from .lesson07 import bucket_in_a_hook, repaired_loop, uneven_batches, zero_1_step
from .lesson08 import bytes_of_a_step, residual_mask, tied_sum, wrong_seed
from .verdict import Verdict

__all__ = [
    "Verdict",
    "backward_of_g",
    "bubble_in_percent",
    "bucket_in_a_hook",
    "bytes_of_a_layer",
    "bytes_of_a_step",
    "copies",
    "exchange",
    "gpus_with_star",
    "holders_of_an_expert",
    "largest_tp",
    "leaves_node",
    "mean_of_those_with_data",
    "no_all_reduce_leaves",
    "order_does_not_matter",
    "order_of_the_guide",
    "pipeline_group",
    "plan_by_hand",
    "rank_at",
    "ranks_of_copy_two",
    "repaired_loop",
    "residual_mask",
    "ring_bytes",
    "rows_first",
    "same_parameters",
    "sum_on_rank_five",
    "tied_sum",
    "time_in_pieces",
    "uneven_batches",
    "warm_up",
    "wrong_seed",
    "zero_1_step",
]
