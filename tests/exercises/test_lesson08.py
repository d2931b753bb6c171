"""The checks of lesson 08: known mistakes get the hint made for them."""

import sys
from collections import Counter

import cloudpickle
import pytest
import torch
import torch.distributed as dist
from exercises.judged import assert_wrong

from mpviz import ParallelLayout, World, exercises

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # as a notebook's functions go
pytestmark = pytest.mark.usefixtures("kept_ranks")
STEP = {"tp": 6_553_600, "pp": 262_144, "embedding": 131_072}  # the answer of bytes_of_a_step


@pytest.mark.parametrize(
    ("name", "answer", "hint"),
    [
        ("bytes_of_a_step", STEP | {"tp": 24 * 8 * 32768}, "tp: 6291456 is not it. The six layers"),
        ("bytes_of_a_step", STEP | {"tp": 13 * 8 * 32768}, "That is forward alone"),
        ("bytes_of_a_step", STEP | {"tp": 12 * 8 * 32768}, "the forward of the layers"),
        ("bytes_of_a_step", STEP | {"tp": 49 * 8 * 32768}, "all 12 layers"),
        ("bytes_of_a_step", STEP | {"tp": 48 * 8 * 32768}, "all 12 layers"),
        ("bytes_of_a_step", STEP | {"tp": 25 * 32768}, "one microbatch"),
        ("bytes_of_a_step", STEP | {"tp": 25 * 8 * 8192}, "whole on every rank"),
        ("bytes_of_a_step", STEP | {"tp": 25 * 8 * 65536}, "Here they have 4"),
        ("bytes_of_a_step", STEP | {"pp": 2 * 8 * 32768}, "pp: 524288 is not it. Does the first"),
        ("bytes_of_a_step", STEP | {"pp": 32768}, "one microbatch"),
        ("bytes_of_a_step", STEP | {"pp": 8 * 8192}, "sends the whole activation"),
        ("bytes_of_a_step", STEP | {"embedding": 1024 * 128 * 4}, "embedding: 524288 is not it."),
        ("bytes_of_a_step", STEP | {"embedding": 8 * 256 * 128 * 4}, "and is summed once"),
        ("bytes_of_a_step", STEP | {"embedding": 32768}, "of the size of the weight"),
        ("bytes_of_a_step", STEP | {"embedding": "x"}, "'x' is not a whole number"),
        ("bytes_of_a_step", STEP | {"dp": 1}, "is not a dictionary of three numbers"),
        ("wrong_seed", 8, "which of the two is wrong? Ranks 10 and 11 hold the same layers"),
        ("wrong_seed", 11, "Compare it with the other copy, too"),
        ("wrong_seed", 10, "Compare it with the other copy, too"),
        ("wrong_seed", 3, "drops what its tp neighbour drops"),
    ],
)
def test_a_wrong_number_is_told_what_is_wrong(name, answer, hint):
    assert_wrong(getattr(exercises, name)(answer), hint)


# Sums of a tied embedding.


def by_everybody(gradients, groups):
    for gradient in gradients or [torch.zeros(2, 3)]:
        dist.all_reduce(gradient, group=groups["embedding"])


def over_the_pipeline(gradients, groups):
    for gradient in gradients:
        dist.all_reduce(gradient, group=groups["pp"])


def mean_of_both(gradients, groups):
    for gradient in gradients:
        dist.all_reduce(gradient, group=groups["embedding"])
        gradient /= 2


def never_two_on_a_rank(gradients, groups):
    if gradients:
        dist.all_reduce(gradients[0], group=groups["embedding"])


def one_after_the_other(gradients, groups):
    if len(gradients) == 2:
        gradients[0] += gradients[1]
        gradients[1] += gradients[0]
    else:
        never_two_on_a_rank(gradients, groups)


def the_first_alone(gradients, groups):
    if len(gradients) == 2:
        gradients[0] += gradients[1]
    else:
        never_two_on_a_rank(gradients, groups)


def new_tensors(gradients, groups):
    return [gradient + 10 for gradient in gradients]


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (by_everybody, " is in no 'embedding' group"),
        (mean_of_both, "With 1F1B: that is the mean."),
        (new_tensors, "With 1F1B: each copy has kept its own gradient."),
        (one_after_the_other, "With ZB-V: the copy that you changed first"),
        (the_first_alone, "With ZB-V: one copy has the sum, and the other has 10."),
        (lambda gradients, groups: [g.zero_() for g in gradients], "1 and 10 became 0 and 0."),
    ],
)
def test_a_sum_of_a_tied_embedding_that_is_none_is_told_what_it_is(answer, hint):
    assert_wrong(exercises.tied_sum(answer), hint)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (over_the_pipeline, "waits in all_reduce. The middle stages hold no copy"),
        (never_two_on_a_rank, "With ZB-V it hangs: rank 0 waits in all_reduce. It holds both"),
    ],
)
def test_a_sum_that_hangs_is_told_who_waits(impatient, answer, hint):
    assert_wrong(exercises.tied_sum(answer), hint)


# One wrong seed.


def test_the_mask_with_the_wrong_seed_is_the_answer():
    masks = [exercises.residual_mask(rank) for rank in range(16)]
    stage = {rank: [masks[r] for r in range(16) if r // 4 == rank // 4] for rank in range(16)}
    alike = [sum(mask.equal(masks[rank]) for mask in stage[rank]) for rank in range(16)]
    assert alike == [4] * 8 + [3, 1, 3, 3] + [4] * 4
    assert exercises.wrong_seed(alike.index(1)).correct
    assert len({tuple(mask.tolist()) for mask in masks}) == 4 + 1  # each stage has its own


# The bytes of a step.


def recorded_step(rank, groups):
    from functools import partial

    from mpviz import parallel, schedule
    from mpviz.parallel import pipeline

    config = parallel.GPTConfig(
        num_layers=12, hidden_size=128, num_heads=8, vocab_size=1024, sequence=64
    )
    plan, stage = schedule.one_forward_one_backward(pp=2, microbatches=8), groups["pp"].rank()
    stages = {stage: parallel.gpt_stage(config, stage, 2, groups)}
    tokens = torch.zeros(64, 8 * groups["dp"].size(), dtype=torch.int64)
    batches = parallel.microbatches(tokens, plan, groups["dp"])
    loss = partial(parallel.masked_cross_entropy, group=groups["tp"])
    pipeline.execute(plan, stages, inputs=batches, targets=batches, loss=loss, group=groups["pp"])
    parallel.reduce_embedding_gradients(stages, groups)


def test_the_bytes_of_a_step_are_those_that_real_ranks_put_in():
    layout = ParallelLayout(nodes=1, gpus_per_node=8, tp=4, pp=2)
    with World(layout, timeout=60) as world:
        world.run(recorded_step, record=True)
    mine = {layout.groups(kind).of(0): kind for kind in STEP if kind != "embedding"}
    put_in = Counter()
    for event in world.events:
        if event.rank == 0 and event.name not in ("recv", "irecv"):
            put_in[mine[event.group]] += event.bytes
    header = 12 * 8
    assert put_in["tp"] == STEP["tp"]
    # Of two stages, pipeline and embedding group have the same members.
    assert put_in["pp"] == STEP["pp"] + header + STEP["embedding"]
    assert exercises.bytes_of_a_step(STEP).correct
