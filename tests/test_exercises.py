"""Solutions pass their checks; known mistakes get the hint made for them."""

import sys
from collections import Counter
from math import gcd
from pathlib import Path

import cloudpickle
import nbformat
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F

import mpviz
from mpviz import ParallelLayout, World, exercises, explore
from mpviz.exercises import lesson06

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
SOLUTIONS = sorted((NOTEBOOKS / "solutions").glob("[0-9]*.py"))
# Answers go to the ranks as those of a notebook do: by value. (Ranks that first had to import this
# module would use up the time that a try may take.)
cloudpickle.register_pickle_by_value(sys.modules[__name__])
STEP = {"tp": 6_553_600, "pp": 262_144, "embedding": 131_072}  # the answer of bytes_of_a_step
CHECKS = sorted(name for name, check in vars(exercises).items() if hasattr(check, "__wrapped__"))


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)
def test_solution_passes_its_own_check(path):
    said = []
    namespace = {name: getattr(mpviz, name) for name in mpviz.__all__}
    check = path.stem[3:]

    class Listening:
        def __getattr__(self, name):
            assert name == check
            return lambda answer: said.append(getattr(exercises, name)(answer))

    exec(path.read_text(encoding="utf-8"), namespace | {"exercises": Listening()})
    assert [verdict.correct for verdict in said] == [True], said


def test_every_exercise_has_a_solution_and_is_asked_in_its_lesson():
    assert sorted(path.stem[3:] for path in SOLUTIONS) == CHECKS
    for path in SOLUTIONS:
        (lesson,) = NOTEBOOKS.glob(f"{path.stem[:2]}_*.ipynb")
        source = "\n".join(cell.source for cell in nbformat.read(lesson, as_version=4).cells)
        assert f"# %load solutions/{path.name}\nexercises.{path.stem[3:]}(answer)" in source


@pytest.mark.parametrize("name", CHECKS)
@pytest.mark.parametrize("answer", [..., None])
def test_unanswered_is_one_line_and_neither_right_nor_wrong(name, answer):
    verdict = getattr(exercises, name)(answer)
    assert verdict.correct is None
    assert repr(verdict).startswith("… not answered yet") and "\n" not in repr(verdict)


@pytest.mark.parametrize("name", CHECKS)
@pytest.mark.parametrize("answer", ["x", 1.5, object(), [], {}, -1, 10**9, [None], float("nan")])
def test_any_other_answer_is_wrong_and_answered_kindly(name, answer):
    verdict = getattr(exercises, name)(answer)
    assert verdict.correct is False
    assert repr(verdict).startswith("✗ ") and "\n" not in repr(verdict)


@pytest.mark.parametrize(
    ("name", "answer", "hint"),
    [
        ("copies", 8, "how many GPUs one model takes"),
        ("copies", 32, "an uncut model"),
        ("copies", 2, "GPUs of two nodes"),
        ("gpus_with_star", 1, "the second block too"),
        ("gpus_with_star", 8, "how many pieces there are"),
        ("gpus_with_star", 16, "all GPUs"),
        ("gpus_with_star", 4, "four different pieces"),
        ("ranks_of_copy_two", range(8, 16), "That is node 1"),
        ("ranks_of_copy_two", [0, 1, 8, 9, 16, 17, 24, 25], "That is copy 1"),
        ("ranks_of_copy_two", [2, 3, 6, 7, 10, 11, 14, 15], "its ranks on two nodes"),
        ("ranks_of_copy_two", [2, 10, 18, 26], "only its upper halves"),
        ("ranks_of_copy_two", [2, 3], "There are 8 ranks in it, and you named 2"),
        ("ranks_of_copy_two", [2, 3, 10, 11, 18, 19, 26, 4], "Rank 4 does not belong there"),
        ("same_parameters", [9, 11, 15], "Add 13 itself"),
        ("same_parameters", [13, 15], "there are four"),
        ("same_parameters", 13, "three other copies"),
        ("same_parameters", [8, 10, 12, 14], "the other half"),
        ("same_parameters", [12, 13], "tensor-parallel group"),
        ("same_parameters", range(8, 16), "all of its stage"),
        ("same_parameters", [5, 13, 21, 29], "other layers"),
        ("same_parameters", [5, 7, 13, 15], "Rank 5 does not belong there"),
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
        ("bytes_of_a_layer", 2 * 2 * 2048 * 12288, "forward alone"),
        ("bytes_of_a_layer", 2 * 2048 * 12288, "one all-reduce"),
        ("bytes_of_a_layer", 2048 * 12288, "whole on every rank"),
        ("bytes_of_a_layer", 4 * 4 * 2048 * 12288, "Here they have 2"),
        ("bytes_of_a_layer", 352_321_536, "what a ring makes each rank send"),
        ("bubble_in_percent", 29, "idle over *useful* time"),
        ("bubble_in_percent", 77, "in which they work"),
        ("bubble_in_percent", 88, "one microbatch"),
        ("bubble_in_percent", 25, "7 stages before it"),
        ("bubble_in_percent", 22, "7 of m + p - 1 = 31 steps; round to the nearest"),
        ("bubble_in_percent", 33, "That is p/m"),
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
        ("plan_by_hand", "0F0 0B0", "One line for each of 2 ranks"),
        ("plan_by_hand", "0F0 0B0\n1F0 1X0", "'1X0' is no action"),
        ("plan_by_hand", "0F0 0B0\n1F0 1B0", "missing"),
        ("plan_by_hand", "0F0 0B0 0F1 0B1\n1F0 1F1 1B0 1B1", "missing: rank 0 never runs 0F2"),
        (
            "plan_by_hand",
            "0F0 0F1 0F2 0F3 0B0 0B1 0B2 0B3\n1F0 1F1 1F2 1F3 1B0 1B1 1B2 1B3",
            "rank 0 holds the activations of 4 microbatches",
        ),
        (
            "plan_by_hand",
            "0F0 0B0 0F1 0B1 0F2 0B2 0F3 0B3\n1F0 1B0 1F1 1B1 1F2 1B2 1F3 1B3",
            "takes 24 s where 15 s are enough",
        ),
        (
            "plan_by_hand",
            "0F0 0B0 0F1 0B1 0F2 0B2 0F3 0B3\n1F0 1F1 1B0 1B1 1F2 1B2 1F3 1B3",
            "deadlock: rank 0 waits at 0B0",
        ),
    ],
)
def test_a_known_mistake_gets_its_own_hint(name, answer, hint):
    verdict = getattr(exercises, name)(answer)
    assert verdict.correct is False
    assert hint in verdict.message


@pytest.mark.parametrize(
    ("sizes", "hint"),
    [
        ({"nodes": 4, "tp": 8}, "8 of 8 dp groups leave their node"),
        ({"nodes": 4, "tp": 2, "cp": 2, "pp": 2}, "dp-cp groups leave their node"),
        ({"nodes": 4, "tp": 16}, "2 of 2 tp groups leave their node"),
        ({"nodes": 4, "pp": 4}, "With tp=1 there is nothing to sum"),
        ({"nodes": 4, "tp": 8, "pp": 4}, "With dp=1 there is nothing to sum"),
        ({"nodes": 4, "tp": 2, "cp": 2, "pp": 8}, "With dp=1 there is nothing to sum"),
        ({"nodes": 4, "tp": 2, "pp": 2}, "tp × dp = 16 GPUs here, must fit in its 8"),
        ({"nodes": 4, "tp": 2, "cp": 2, "pp": 2}, "tp × cp × dp = 16 GPUs here"),
        (
            {"nodes": 4, "tp": 2, "pp": 4, "order": "tp-cp-ep-pp-dp"},
            "8 of 8 dp groups leave their node, though the tp × dp = 8 GPUs of a stage would fit "
            "in one. Which axis of the order tp-cp-ep-pp-dp should come last?",
        ),
        ({"nodes": 2, "tp": 2, "pp": 2}, "Stay with 4 nodes of 8"),
    ],
)
def test_a_layout_whose_all_reduces_leave_is_told_which(sizes, hint):
    verdict = exercises.no_all_reduce_leaves(explore.layout(**sizes))
    assert verdict.correct is False
    assert hint in verdict.message


@pytest.mark.parametrize(
    "sizes", [{"tp": 4, "pp": 4}, {"tp": 2, "pp": 8}, {"tp": 2, "pp": 4, "cp": 2}]
)
def test_every_layout_whose_all_reduces_stay_is_accepted(sizes):
    assert exercises.no_all_reduce_leaves(explore.layout(nodes=4, **sizes)).correct


def test_praise_names_the_axes_that_share_a_node():
    without, with_cp = (
        exercises.no_all_reduce_leaves(ParallelLayout(nodes=4, tp=2, pp=4, cp=cp)).message
        for cp in (1, 2)
    )
    assert "the tp × dp = 8 GPUs of a stage" in without
    assert "the tp × cp × dp = 8 GPUs of a stage" in with_cp


def test_an_explorer_that_says_what_does_not_fit_is_judged_by_its_picture():
    explorer = explore.layout(nodes=4, tp=2, pp=4)
    explorer.set(tp=3)
    assert explorer.problem and exercises.no_all_reduce_leaves(explorer).correct


@pytest.mark.parametrize("sizes", [{"tp": 4, "pp": 4}, {"tp": 2, "pp": 1}, {"tp": 16}])
def test_orders_agree_where_one_of_the_axes_that_change_places_has_size_one(sizes):
    assert exercises.order_does_not_matter(explore.compare(nodes=2, **sizes)).correct


def test_orders_that_differ_are_told_by_the_company_of_gpu_0():
    verdict = exercises.order_does_not_matter(explore.compare(nodes=2, tp=2, pp=4))
    assert "GPU 0 is with 2 on the left and with 8 on the right" in verdict.message
    same = explore.compare(nodes=2, tp=2, pp=4, right="tp-cp-ep-dp-pp")
    assert "Both sides have the same order" in exercises.order_does_not_matter(same).message


@pytest.mark.parametrize("order", ["tp-cp-ep-pp-dp", "tp-pp-dp", "pp-tp-dp", "TP-PP-DP"])
def test_every_order_that_gives_each_copy_a_node_is_accepted(order):
    assert exercises.order_of_the_guide(order).correct


def test_numbers_and_lists_of_numpy_are_answers_too():
    import numpy as np

    assert exercises.copies(np.int64(4)).correct
    assert exercises.copies(4.0).correct
    assert exercises.ranks_of_copy_two(np.array([2, 3, 10, 11, 18, 19, 26, 27])).correct
    assert exercises.ranks_of_copy_two({27, 26, 19, 18, 11, 10, 3, 2}).correct
    assert exercises.pipeline_group(
        lambda rank, tp, dp, pp: np.arange(rank % (tp * dp), tp * dp * pp, tp * dp)
    ).correct
    assert exercises.leaves_node(
        lambda group, gpus: len(np.unique(np.array(group) // gpus)) > np.int64(1)
    ).correct


def test_the_backward_of_g_is_tried_on_real_ranks():
    def summed_again(gradient, group):
        import torch.distributed as dist

        dist.all_reduce(gradient, group=group)
        return gradient

    def halved(gradient, group):
        return gradient / 2

    def broken(gradient):
        return gradient

    assert exercises.backward_of_g(lambda gradient, group: gradient).correct
    assert "2 times too large" in exercises.backward_of_g(summed_again).message
    assert "are [0.5, 0.5]" in exercises.backward_of_g(halved).message
    assert "It does not run on the ranks: 2 of 2 ranks" in exercises.backward_of_g(broken).message
    said = exercises.backward_of_g(lambda *_: None).message
    assert "shaped like the gradient, [2, 3] here; it returns None. Is there a `return`?" in said
    said = exercises.backward_of_g(lambda gradient, group: gradient.sum()).message
    assert said.endswith("it returns a Tensor of shape [].")
    said = exercises.backward_of_g(lambda gradient, group: gradient + 1).message
    assert "every number of the gradient by the same" in said


def test_the_backward_of_g_may_use_what_the_lesson_imports_on_its_ranks():
    # Made with exec, so that its globals lack torch and dist, as those of the kernel do.
    kernel = {"__name__": "__main__"}
    exec(
        "def answer(gradient, group):\n"
        "    dist.all_reduce(gradient, group=group)\n"
        "    return torch.clone(gradient)\n",
        kernel,
    )
    assert "2 times too large" in exercises.backward_of_g(kernel["answer"]).message


# Functions that an answer may be: each tried on real ranks, and told what it does.


def the_sum(x, has_data, group):
    dist.all_reduce(x, group=group)
    return x


def mean_of_all_members(x, has_data, group):
    dist.all_reduce(x, group=group)
    return x / 2


def zeros_but_by_members(x, has_data, group):
    return the_sum(x if has_data else 0 * x, has_data, group) / 2


def only_those_with_data(x, has_data, group):
    if has_data:
        dist.all_reduce(x, group=group)
    return x / 2


def counted(x, has_data, group):
    both = torch.cat([x * has_data, torch.tensor([float(has_data)])])
    dist.all_reduce(both, group=group)
    return both[:-1] / both[-1]


def only_for_those_with_data(x, has_data, group):
    mean = counted(x.clone(), has_data, group)
    return mean if has_data else x


def over_the_world(x, has_data, group):
    dist.all_reduce(x)
    return x


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (the_sum, "it returns 4, 6, 4, 6. That is the sum. Who divides it?"),
        (over_the_world, "it returns 10, 10, 10, 10. That is the sum over all four ranks."),
        (lambda x, has_data, group: x, "Every rank has kept its own x."),
        (mean_of_all_members, "The x of rank 2 is still counted"),
        (zeros_but_by_members, "divided by all members of the group. How many have data?"),
        (only_for_those_with_data, "Rank 2 has kept its own x; it must get the mean, too."),
        (only_those_with_data, "It hangs: rank 0 waits in all_reduce. Every member must call"),
        (lambda x, has_data, group: None, "shaped like x, [3]; it returns None. Is there a `re"),
        (lambda x: x, "It does not run on the ranks: 4 of 4 ranks raised TypeError"),
    ],
)
def test_a_mean_that_is_none_is_told_what_it_is(answer, hint):
    verdict = exercises.mean_of_those_with_data(answer)
    assert verdict.correct is False
    assert hint in verdict.message


def test_a_mean_may_count_in_the_same_message():
    assert exercises.mean_of_those_with_data(counted).correct


def gelu_first(X, A, B, group):
    Y = F.gelu(X @ A)
    dist.all_reduce(Y, group=group)
    Z = Y.chunk(2, dim=1)[dist.get_rank(group)] @ B
    dist.all_reduce(Z, group=group)
    return Z


def without_the_first_sum(X, A, B, group):
    Z = F.gelu(X @ A).chunk(2, dim=1)[dist.get_rank(group)] @ B
    dist.all_reduce(Z, group=group)
    return Z


def without_the_last_sum(X, A, B, group):
    XA = X @ A
    dist.all_reduce(XA, group=group)
    return F.gelu(XA).chunk(2, dim=1)[dist.get_rank(group)] @ B


def the_same_columns(X, A, B, group):
    XA = X @ A
    dist.all_reduce(XA, group=group)
    Z = F.gelu(XA)[:, :4] @ B
    dist.all_reduce(Z, group=group)
    return Z


def all_columns(X, A, B, group):
    return F.gelu(X @ A) @ B


def rank_0_alone(X, A, B, group):
    if dist.get_rank(group) == 0:
        dist.all_reduce(X @ A, group=group)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (gelu_first, "You take GeLU of an addend."),
        (without_the_first_sum, "You take GeLU of an addend."),
        (without_the_last_sum, "That is this rank's addend of Z."),
        (the_same_columns, "Both ranks take the same columns of Y."),
        (lambda X, A, B, group: X @ A, "of shape [4, 6]; it returns a Tensor of shape [4, 8]."),
        (lambda X, A, B, group: torch.zeros(4, 6).double(), "but not the numbers of GeLU(X·A)·B"),
        (all_columns, "It does not run on the ranks: 2 of 2 ranks raised RuntimeError: mat1 and"),
        (rank_0_alone, "It hangs: rank 0 waits in all_reduce. Both ranks must call"),
    ],
)
def test_a_wrong_product_of_rows_is_told_what_it_is(answer, hint):
    verdict = exercises.rows_first(answer)
    assert verdict.correct is False
    assert hint in verdict.message


def gathered(X, A, B, group):
    XA, whole = X @ A, [torch.empty_like(B) for _ in range(2)]
    dist.all_gather(whole, B, group=group)
    dist.all_reduce(XA, group=group)
    return F.gelu(XA) @ torch.cat(whole)


def test_another_way_to_the_product_is_right_and_its_messages_are_counted():
    verdict = exercises.rows_first(gathered)
    assert verdict.correct and "after 2 collectives" in verdict.message


def both_send_first(rank, mine, theirs):
    dist.send(mine, dst=1 - rank)
    dist.recv(theirs, src=1 - rank)


def both_receive_first(rank, mine, theirs):
    dist.recv(theirs, src=1 - rank)
    dist.send(mine, dst=1 - rank)


def one_only_receives(rank, mine, theirs):
    if rank == 0:
        dist.send(mine, dst=1)
    else:
        dist.recv(theirs, src=0)


def nobody_sends_back(rank, mine, theirs):
    if rank == 0:
        dist.send(mine, dst=1)
    dist.recv(theirs, src=1 - rank)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (both_send_first, "both send first, and each waits for the other to receive"),
        (both_receive_first, "both receive first, and each waits for what the other sends"),
        (nobody_sends_back, "rank 0 waits in recv. For each message, one rank sends"),
        (one_only_receives, "On rank 0 nothing was received into `theirs`."),
        (lambda rank, mine, theirs: theirs.copy_(mine), "On rank 0 `theirs` holds its own tensor."),
        (lambda rank, mine, theirs: theirs.zero_(), "and is [0.0, 0.0]"),
        (lambda rank: None, "It does not run on the ranks: 2 of 2 ranks raised TypeError"),
    ],
)
def test_a_swap_that_is_none_is_told_what_it_does(answer, hint):
    verdict = exercises.exchange(answer)
    assert verdict.correct is False
    assert hint in verdict.message


@pytest.mark.parametrize("waiting", [{0: "recv", 1: "recv"}, {0: "recv"}, {1: "recv"}])
def test_a_swap_that_loses_an_isend_is_told_to_wait_for_it(waiting):
    # gloo drops a message whose isend nobody keeps, on one rank or on both: a race.
    said = lesson06._both_wait(waiting)
    assert "isend" in said and "keep what it returns, and wait() for it after the recv" in said


def test_a_swap_may_be_started_on_both_sides_at_once():
    def at_once(rank, mine, theirs):
        sending = dist.isend(mine, 1 - rank)
        dist.recv(theirs, 1 - rank)
        sending.wait()

    assert exercises.exchange(at_once).correct


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
        (by_everybody, "raised ValueError: rank 1 is in no 'embedding' group"),
        (over_the_pipeline, "waits in all_reduce. The middle stages hold no copy"),
        (mean_of_both, "With 1F1B: that is the mean."),
        (new_tensors, "With 1F1B: each copy has kept its own gradient."),
        (never_two_on_a_rank, "With ZB-V it hangs: rank 0 waits in all_reduce. It holds both"),
        (one_after_the_other, "With ZB-V: the copy that you changed first"),
        (the_first_alone, "With ZB-V: one copy has the sum, and the other has 10."),
        (lambda gradients, groups: [g.zero_() for g in gradients], "1 and 10 became 0 and 0."),
    ],
)
def test_a_sum_of_a_tied_embedding_that_is_none_is_told_what_it_is(answer, hint):
    verdict = exercises.tied_sum(answer)
    assert verdict.correct is False
    assert hint in verdict.message


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


SPLIT = (
    "0F0 0F1 0I0 0W0 0F2 0I1 0W1 0F3 0I2 0W2 0I3 0W3\n"
    "1F0 1I0 1F1 1I1 1W0 1F2 1I2 1W1 1F3 1I3 1W2 1W3"
)
RIGHT = "0F0 0F1 0B0 0F2 0B1 0F3 0B2 0B3\n1F0 1B0 1F1 1B1 1F2 1B2 1F3 1B3"


@pytest.mark.parametrize(
    ("plan", "praise"),
    [
        (RIGHT, "15 s, and rank 0 never holds more than 2 microbatches: that is 1F1B."),
        (RIGHT.replace("0B2", "0I2 0W2"), "2 microbatches: as fast as 1F1B."),
        (SPLIT, "13 s, and rank 0 never holds more than 2 microbatches: faster than 1F1B (15 s)"),
    ],
)
def test_a_plan_is_praised_for_what_it_is(plan, praise):
    verdict = exercises.plan_by_hand(plan)
    assert verdict.correct
    assert praise in verdict.message


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
    "time_in_pieces": [
        (lambda total, piece, latency, bandwidth: total / bandwidth, "bandwidth's part alone"),
        (lambda total, piece, latency, bandwidth: latency + total / bandwidth, "latency once"),
        (
            lambda total, piece, latency, bandwidth: total / piece * latency + total / bandwidth,
            "round up",
        ),
        (
            lambda total, piece, latency, bandwidth: total // piece * latency + total / bandwidth,
            "round up",
        ),
        (
            lambda total, piece, latency, bandwidth: (
                -(-total // piece) * (latency + piece / bandwidth)
            ),
            "sends fewer bytes",
        ),
        (lambda total, piece, latency, bandwidth: latency + piece / bandwidth, "of one piece"),
        (
            lambda total, piece, latency, bandwidth: (
                -(-total // piece) * latency + piece / bandwidth
            ),
            "All the bytes",
        ),
        (lambda total, piece, latency, bandwidth: 0.0, "returns 0.0, and should return 0.0027"),
    ],
    "warm_up": [
        (lambda rank, pp, m: pp - 1 - rank, "a forward that does not exist"),
        (lambda rank, pp, m: pp - rank, "the first of a pair"),
        (lambda rank, pp, m: min(m, pp - rank), "the first of a pair"),
        (lambda rank, pp, m: rank, "The other way round"),
        (lambda rank, pp, m: min(m, rank), "The other way round"),
        (lambda rank, pp, m: m, "That is GPipe"),
        (lambda rank, pp, m: 3 - rank, "the loop above"),
        (lambda rank, pp, m: 0, "answer(0, 2, 1) returns 0, and should return 1"),
    ],
    "largest_tp": [
        (lambda gpus, heads, kv: gcd(gpus, heads), "forgets the KV heads"),
        (lambda gpus, heads, kv: gcd(heads, kv), "forgets the node"),
        (lambda gpus, heads, kv: kv, "forgets the node"),
        (lambda gpus, heads, kv: gpus, "machine's limit alone"),
        (lambda gpus, heads, kv: min(gpus, heads, kv), "need not divide"),
        (
            lambda gpus, heads, kv: max(
                n for n in (1, 2, 4, 8, 16, 32) if gcd(gpus, heads, kv) % n == 0
            ),
            "power of two",
        ),
        (lambda gpus, heads, kv: 1, "answer(4, 128, 8) returns 1, and should return 4"),
    ],
}


@pytest.mark.parametrize(
    ("name", "wrong", "hint"),
    [(name, wrong, hint) for name, wrongs in WRITTEN.items() for wrong, hint in wrongs],
)
def test_a_function_written_wrong_gets_the_hint_for_it(name, wrong, hint):
    verdict = getattr(exercises, name)(wrong)
    assert verdict.correct is False
    assert hint in verdict.message


@pytest.mark.parametrize("name", WRITTEN)
def test_a_function_that_does_not_run_is_told_where(name):
    def stops(*_):
        raise KeyError("left")

    def spoils(first, *_):
        if isinstance(first, list):
            first.clear()
        return ()

    check = getattr(exercises, name)
    assert "stops with KeyError: 'left'." in check(stops).message
    assert "Is there a `return`?" in check(lambda *_: None).message
    assert "stops with TypeError" in check(lambda: 1).message
    assert check(spoils).correct is False and "[]" not in check(spoils).message
    assert "is not a function" in check([1, 2]).message


def test_largest_tp_is_what_megatron_needs_without_sharing_kv_heads():
    from megatron.core.transformer.transformer_config import TransformerConfig

    def takes(tp, heads, kv_heads):
        sizes = {"num_attention_heads": heads, "num_query_groups": kv_heads}
        try:
            TransformerConfig(
                num_layers=1, hidden_size=16 * heads, tensor_model_parallel_size=tp, **sizes
            )
        except ValueError:
            return False
        return True

    # Megatron also takes a tp that is a multiple of the KV heads: ranks then share one.
    assert takes(8, 128, 8) and takes(16, 128, 8) and not takes(12, 96, 8)
    right = exercises.largest_tp
    assert right(
        lambda gpus, heads, kv: max(
            tp for tp in range(1, gpus + 1)
            if gpus % tp == 0 and takes(tp, heads, kv) and kv % tp == 0
        )
    ).correct  # fmt: skip
