"""The checks of lesson 05: answers are tried on real ranks, and told what they do."""

import sys

import cloudpickle
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from exercises.judged import assert_wrong

from mpviz import exercises

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # as a notebook's functions go
pytestmark = pytest.mark.usefixtures("kept_ranks")


@pytest.mark.parametrize(
    ("name", "answer", "hint"),
    [
        ("bytes_of_a_layer", 2 * 2 * 2048 * 12288, "forward alone"),
        ("bytes_of_a_layer", 2 * 2048 * 12288, "one all-reduce"),
        ("bytes_of_a_layer", 2048 * 12288, "whole on every rank"),
        ("bytes_of_a_layer", 4 * 4 * 2048 * 12288, "Here they have 2"),
        ("bytes_of_a_layer", 352_321_536, "what a ring makes each rank send"),
    ],
)
def test_a_wrong_number_of_bytes_is_told_what_it_counts(name, answer, hint):
    assert_wrong(getattr(exercises, name)(answer), hint)


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
    ],
)
def test_a_wrong_product_of_rows_is_told_what_it_is(answer, hint):
    assert_wrong(exercises.rows_first(answer), hint)


def test_a_product_that_hangs_is_told_who_waits(impatient):
    hint = "It hangs: rank 0 waits in all_reduce. Every rank must call"
    assert_wrong(exercises.rows_first(rank_0_alone), hint)


def gathered(X, A, B, group):
    XA, whole = X @ A, [torch.empty_like(B) for _ in range(2)]
    dist.all_gather(whole, B, group=group)
    dist.all_reduce(XA, group=group)
    return F.gelu(XA) @ torch.cat(whole)


def test_another_way_to_the_product_is_right_and_its_messages_are_counted():
    verdict = exercises.rows_first(gathered)
    assert verdict.correct and "after 2 collectives" in verdict.message
