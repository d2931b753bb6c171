"""The checks of lesson 02: known mistakes get the hint made for them."""

import numpy as np
import pytest
from exercises.judged import assert_wrong, written_wrong

from mpviz import exercises


@pytest.mark.parametrize(
    ("name", "answer", "hint"),
    [
        ("rank_at", 5, "pp vary before dp"),
        ("rank_at", 10, "pp vary fastest"),
        ("rank_at", 8, "neighbour at tp=0"),
        ("rank_at", 3, "Do not add the coordinates"),
        ("order_of_the_guide", "tp-cp-ep-dp-pp", "Megatron's default"),
        ("order_of_the_guide", "tp-dp-pp", "Which axis must vary"),
        ("order_of_the_guide", "tp-pp", "misses dp"),
        ("holders_of_an_expert", 8, "hold the same piece of attention"),
        ("holders_of_an_expert", 2, "Did you divide by tp?"),
        ("holders_of_an_expert", 16, "Did you leave out pp?"),
        ("holders_of_an_expert", 64, "other experts"),
        ("holders_of_an_expert", 1, "all 16 GPUs of a stage"),
    ],
)
def test_a_wrong_answer_is_told_what_it_is(name, answer, hint):
    assert_wrong(getattr(exercises, name)(answer), hint)


WRITTEN = {
    "pipeline_group": [
        (lambda rank, tp, dp, pp: [rank + tp * dp * i for i in range(pp)], "begin at stage 0"),
        (
            lambda rank, tp, dp, pp: [
                rank % tp + rank // (tp * dp) * tp * dp + tp * i for i in range(dp)
            ],
            "data-parallel group",
        ),
        (lambda rank, tp, dp, pp: [rank - rank % tp + i for i in range(tp)], "tensor-parallel"),
        (
            lambda rank, tp, dp, pp: [rank - rank % (tp * dp) + i for i in range(tp * dp)],
            "ranks of its stage",
        ),
        (lambda rank, tp, dp, pp: [rank % tp + tp * i for i in range(pp)], "tp × dp ranks apart"),
        (
            lambda rank, tp, dp, pp: [
                rank - rank % (tp * pp) + rank % tp + tp * i for i in range(pp)
            ],
            "the order in which dp comes last",
        ),
        (lambda rank, tp, dp, pp: [rank], "answer(0, 2, 2, 4) returns [0], and should return [0,"),
    ],
    "leaves_node": [
        (lambda group, gpus: len(group) > gpus, "The size does not decide"),
        (lambda group, gpus: group[-1] - group[0] >= gpus, "The distance does not decide"),
        (lambda group, gpus: group[-1] >= gpus, "outside node 0"),
        (lambda group, gpus: len({rank // gpus for rank in group}) == 1, "other way round"),
        (lambda group, gpus: group[0] // gpus != group[1 % len(group)] // gpus, "at all members"),
        (lambda group, gpus: len({rank % gpus for rank in group}) > 1, "place on the node"),
        (lambda group, gpus: True, "answer([0, 1], 8) returns True, and should return False"),
    ],
}


@pytest.mark.parametrize(("name", "wrong", "hint"), written_wrong(WRITTEN))
def test_a_function_written_wrong_gets_the_hint_for_it(name, wrong, hint):
    assert_wrong(getattr(exercises, name)(wrong), hint)


@pytest.mark.parametrize("order", ["tp-cp-ep-pp-dp", "tp-pp-dp", "pp-tp-dp", "TP-PP-DP"])
def test_every_order_that_gives_each_copy_a_node_is_accepted(order):
    assert exercises.order_of_the_guide(order).correct


def test_functions_may_return_what_numpy_does():
    assert exercises.pipeline_group(
        lambda rank, tp, dp, pp: np.arange(rank % (tp * dp), tp * dp * pp, tp * dp)
    ).correct
    assert exercises.leaves_node(
        lambda group, gpus: len(np.unique(np.array(group) // gpus)) > np.int64(1)
    ).correct
