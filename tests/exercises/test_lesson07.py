"""The checks of lesson 07: answers are tried on real ranks, and told what they do."""

import sys
from pathlib import Path

import cloudpickle
import nbformat
import pytest
import torch
import torch.distributed as dist
from exercises.judged import assert_wrong

from mpviz import exercises

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # as a notebook's functions go
pytestmark = pytest.mark.usefixtures("kept_ranks")
NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def summed_gradients(gradients, samples, group):
    for gradient in gradients:
        dist.all_reduce(gradient, group=group)


def mean_over_ranks(gradients, samples, group):
    summed_gradients(gradients, samples, group)
    for gradient in gradients:
        gradient /= 2


def weighted_sum(gradients, samples, group):
    for gradient in gradients:
        gradient *= samples
    summed_gradients(gradients, samples, group)


def weighted_over_ranks(gradients, samples, group):
    weighted_sum(gradients, samples, group)
    for gradient in gradients:
        gradient /= 2


def weighted_over_own(gradients, samples, group):
    weighted_sum(gradients, samples, group)
    for gradient in gradients:
        gradient /= samples


def weighted_over_the_world(gradients, samples, group):
    weighted_sum(gradients, samples, None)
    for gradient in gradients:
        gradient /= 8


def the_first_alone(gradients, samples, group):
    mean_over_ranks(gradients[:1], samples, group)


def one_does_not_come(gradients, samples, group):
    if samples > 1:
        summed_gradients(gradients, samples, group)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (summed_gradients, "they become 4, 6, 4, 6. That is the sum."),
        (mean_over_ranks, "counts three times as much"),
        (weighted_sum, "By how many must it be divided?"),
        (weighted_over_ranks, "divided by the number of ranks"),
        (weighted_over_own, "Divided by this rank's own samples"),
        (weighted_over_the_world, "averaged over all four ranks"),
        (the_first_alone, "Not every gradient of the list"),
        (lambda gradients, samples, group: None, "Every rank has kept its own."),
        (
            lambda gradients, samples, group: gradients[0].zero_() + gradients[1].zero_()[0],
            "1.5, 2.",
        ),
        (lambda: None, "It does not run on the ranks: 4 of 4 ranks raised TypeError"),
    ],
)
def test_a_wrong_mean_of_uneven_batches_is_told_what_it_is(answer, hint):
    assert_wrong(exercises.uneven_batches(answer), hint)


def test_a_mean_that_hangs_is_told_who_waits(impatient):
    hint = "It hangs: rank 0 waits in all_reduce. Every rank must"
    assert_wrong(exercises.uneven_batches(one_does_not_come), hint)


def bucket(*, resets=True, divides=True, copies=True, waits=True, late=False, alone=False):
    """Make an answer with one fault."""

    def answer(parameters, group):
        arrived, sent = [], []

        def send():
            buffer = torch.cat([p.grad.flatten() for p in parameters])
            sent[:] = [buffer, dist.all_reduce(buffer, group=group, async_op=True)]

        def hook(parameter):
            arrived.append(parameter)
            if alone:
                dist.all_reduce(parameter.grad.div_(2), group=group)
            elif not late and len(arrived) == len(parameters):
                send()

        def finish():
            if alone:
                return
            if late:
                send()
            buffer, work = sent
            if waits:
                work.wait()
            parts = iter((buffer / 2 if divides else buffer).split([p.numel() for p in parameters]))
            for p in parameters if copies else []:
                p.grad = next(parts).view_as(p)
            if resets:
                arrived.clear()

        for parameter in parameters:
            parameter.register_post_accumulate_grad_hook(hook)
        return finish

    return answer


def one_parameter_too_few(parameters, group):
    return bucket()(parameters[1:], group)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (bucket(resets=False), "The first step is right. In the second: no all-reduce was called"),
        (bucket(divides=False), "the gradients are sums. Who divides?"),
        (bucket(copies=False), "still its own rank's; copy the means back"),
        (bucket(waits=False), "or nobody waits for it"),
        (bucket(late=True), "begins after backward, so nothing hides it"),
        (bucket(alone=True), "4 all-reduces. A bucket has one"),
        (one_parameter_too_few, "24 numbers are summed; the bucket has 40."),
        (lambda parameters, group: None, "It should return finish"),
        (lambda parameters, group: lambda: None, "no all-reduce was called"),
        (lambda parameters: None, "It does not run on the ranks: 2 of 2 ranks raised TypeError"),
    ],
)
def test_a_wrong_bucket_is_told_what_it_does(answer, hint):
    assert_wrong(exercises.bucket_in_a_hook(answer), hint)


def zero_1(*, divides=True, scatters=True, sums=True, keeps=True, gathers=True):
    """Make an answer with one fault."""

    def answer(weights, gradient, momentum, group):
        me, padding = dist.get_rank(group), torch.zeros(2).double()
        whole = torch.cat([gradient / 4 if divides else gradient, padding])
        mean = torch.empty_like(momentum)
        if not sums:
            mean = whole.split(3)[me] * 4
        elif scatters:
            dist.reduce_scatter(mean, list(whole.split(3)), group=group)
        else:
            dist.all_reduce(whole, group=group)
            mean = whole.split(3)[me]
        new = 0.9 * momentum + mean
        if keeps:
            momentum.copy_(new)
        parts = list(torch.cat([weights, padding]).split(3))
        parts[me] = parts[me] - 0.1 * new
        if gathers:
            dist.all_gather(
                whole_parts := [torch.empty_like(mean) for _ in parts], parts[me], group
            )
            parts = whole_parts
        weights.copy_(torch.cat(parts)[:10])

    return answer


def from_its_own(weights, gradient, momentum, group):
    state = momentum.__dict__.setdefault("whole", torch.zeros(10).double())
    weights -= 0.1 * state.mul_(0.9).add_(gradient)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (zero_1(divides=False), "You add the gradients of the four ranks"),
        (zero_1(scatters=False), "A reduce-scatter sends half as much"),
        (zero_1(sums=False), "not those of one process"),
        (zero_1(keeps=False), "The momentum is forgotten between the steps"),
        (zero_1(gathers=False), "Its own shard is right, the others are not"),
        (from_its_own, "learns from its own gradient alone"),
        (lambda weights, gradient, momentum, group: None, "The weights have not changed."),
        (lambda weights: None, "It does not run on the ranks: 4 of 4 ranks raised TypeError"),
    ],
)
def test_a_wrong_step_of_zero_1_is_told_what_it_is(answer, hint):
    assert_wrong(exercises.zero_1_step(answer), hint)


def loop(*, zeroes=True, inside=False, divisor=2, sums=True, in_place=False):
    """Make an answer: by default the right one."""

    def answer(model, batches, group):
        for batch in batches:
            if zeroes:
                model.zero_grad()
            for microbatch in batch:
                (model(microbatch).square().mean() / len(batch)).backward()
                for p in model.parameters() if inside else []:
                    dist.all_reduce(p.grad, group=group)
                    if in_place:
                        p.grad /= 2
            for p in model.parameters():
                if sums and not inside:
                    dist.all_reduce(p.grad, group=group)
                p.data -= 0.1 * p.grad / divisor

    return answer


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (loop(zeroes=False, inside=True), "still there when the next begins. (And that is not all"),
        (
            loop(zeroes=False),
            "The gradients of the last step are still there when the next begins.",
        ),
        (loop(inside=True), "The first microbatch is summed over the ranks twice."),
        (loop(divisor=1), "The gradients are twice as large as the mean."),
        (loop(divisor=4), "The gradients are half as large as the mean."),
        (loop(sums=False), "The copies differ"),
        (loop(divisor=7), "The copies agree, but do not hold the weights of one process."),
        (lambda model, batches, group: None, "The weights have not changed."),
        (lambda model: None, "It does not run on the ranks: 2 of 2 ranks raised TypeError"),
    ],
)
def test_a_loop_that_is_not_repaired_is_told_what_is_left(answer, hint):
    assert_wrong(exercises.repaired_loop(answer), hint)


def test_a_loop_that_averages_after_every_microbatch_is_right_and_sends_twice():
    assert "twice the messages" not in exercises.repaired_loop(loop()).message
    verdict = exercises.repaired_loop(loop(inside=True, in_place=True, divisor=1))
    assert verdict.correct and "right, but twice the messages" in verdict.message


def test_the_broken_loop_of_the_lesson_has_the_two_faults():
    (lesson,) = NOTEBOOKS.glob("07_*.ipynb")
    cells = nbformat.read(lesson, as_version=4).cells
    (source,) = (c.source for c in cells if "def broken(" in c.source)
    kernel = {"__name__": "__main__"}
    exec(source.removeprefix("%%ranks\n"), kernel)
    assert "(And that is not all.)" in exercises.repaired_loop(kernel["broken"]).message
