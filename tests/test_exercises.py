"""Solutions pass their checks; known mistakes get the hint made for them."""

from pathlib import Path

import nbformat
import pytest

import mpviz
from mpviz import ParallelLayout, exercises, explore

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
SOLUTIONS = sorted((NOTEBOOKS / "solutions").glob("*.py"))
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
        ("same_parameters", 4, "tensor-parallel partner"),
        ("same_parameters", 13, "each node held one copy"),
        ("same_parameters", 5, "itself"),
        ("same_parameters", 1, "earlier stage"),
        ("same_parameters", 9, "next stage"),
        ("rank_at", 5, "pp vary before dp"),
        ("rank_at", 10, "pp vary fastest"),
        ("rank_at", 8, "neighbour at tp=0"),
        ("rank_at", 3, "Do not add the coordinates"),
        ("pipeline_group_of_six", [4, 6], "data-parallel group"),
        ("pipeline_group_of_six", [6, 7], "tensor-parallel group"),
        ("pipeline_group_of_six", [4, 5, 6, 7], "share rank 6's stage"),
        ("pipeline_group_of_six", (6, 10, 14), "earlier stages too"),
        ("pipeline_group_of_six", [0, 2, 4, 6], "steps of 2"),
        ("largest_tp", 4, "a larger tp also stays inside"),
        ("largest_tp", 16, "2 of its 2 groups cross nodes"),
        ("largest_tp", 32, "1 of its 1 groups cross nodes"),
        ("order_of_the_guide", "tp-cp-ep-dp-pp", "Megatron's default"),
        ("order_of_the_guide", "tp-dp-pp", "Which axis must vary"),
        ("order_of_the_guide", "tp-pp", "misses dp"),
        ("gpus_with_experts", 32, "no factor of the world size"),
        ("gpus_with_experts", 8, "one model copy"),
        ("wrong_split", "p", "the MLP of the picture"),
        ("wrong_split", "q", "pays for two all-reduces"),
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
        ("safe_order", "a", "the deadlock above"),
        ("safe_order", "c", "only afterwards"),
        ("tp_on_72_gpus", 8, "a larger one does too"),
        ("tp_on_72_gpus", 64, "does not even divide the 144 GPUs"),
        ("tp_on_72_gpus", 16, "16 divides 144, but not 72"),
        ("tp_on_72_gpus", 144, "both nodes"),
        ("tp_for_128_heads", 72, "72 divides 72, but not 128"),
        ("tp_for_128_heads", 64, "64 divides 128, but not 72: not all groups can stay on a node"),
        ("tp_for_128_heads", 4, "a larger one does too"),
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
    assert exercises.pipeline_group_of_six(np.array([2, 6, 10, 14])).correct
    assert exercises.pipeline_group_of_six({14, 10, 6, 2}).correct


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
