"""Checks of lesson 07."""

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

from ..layout import ParallelLayout
from .ranks import in_a_row, lend, tried
from .verdict import Verdict, exercise

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn
    from torch.distributed import ProcessGroup

    Groups = dict[str, ProcessGroup]

_PAIR = ParallelLayout(nodes=1, gpus_per_node=2)
_FOUR = ParallelLayout(nodes=1, gpus_per_node=4)


# ---- the averaging


@exercise
def uneven_batches(answer: object) -> Verdict:
    """Write the mean over all samples, of which the ranks have different numbers; on real ranks.

    >>> uneven_batches(2)
    ✗ 2 is not a function; write def answer(gradients, samples, group): and change the gradients \
in place.
    """
    layout = ParallelLayout(nodes=1, gpus_per_node=4, tp=2)  # dp groups 0 2 and 1 3
    asked = "def answer(gradients, samples, group): and change the gradients in place"
    results = tried(_averaged, answer, layout, asked)
    if isinstance(results, Verdict):
        return results
    firsts, lasts = ([round(pair[n], 6) for pair in results] for n in range(2))
    if firsts != lasts:
        return Verdict(False, "Not every gradient of the list is treated alike.")
    if firsts == [1.5, 2.5, 1.5, 2.5]:
        return Verdict(
            True,
            "Each mean counts as often as it has samples. With batches of one size that is the "
            "plain mean.",
        )
    hints: dict[tuple[float, ...], str] = {
        (1, 2, 3, 4): "Every rank has kept its own. Change them in place, as .grad must be.",
        (4, 6, 4, 6): "That is the sum.",
        (2, 3, 2, 3): "That is the mean over the ranks: a sample of the smaller batch counts three "
        "times as much as one of the larger. How many samples are there in all?",
        (6, 10, 6, 10): "That is the sum over all samples. By how many must it be divided?",
        (3, 5, 3, 5): "The sum over all samples, divided by the number of ranks. How many samples "
        "are there? The ranks can ask each other.",
        (2, 10 / 3, 6, 10): "Divided by this rank's own samples. How many have all together?",
        (2, 2, 2, 2): "You averaged over all four ranks. Which group is meant?",
    }
    rounded = {tuple(round(n, 6) for n in means): hint for means, hint in hints.items()}
    hint = rounded.get(tuple(firsts), "The four ranks should hold 1.5, 2.5, 1.5, 2.5.")
    return Verdict(
        False, f"Where the gradients are 1, 2, 3, 4, they become {in_a_row(firsts)}. {hint}"
    )


def _averaged(
    rank: int, dp_rank: int, groups: "Groups", answer: Callable[..., Any]
) -> tuple[float, float]:
    """Return what an answer makes of rank + 1, of 3 samples on the first copy and 1 on the other.

    As two gradients, of which the second is ten times as large.
    """
    import torch

    lend(answer)
    gradients = [torch.full((2, 2), rank + 1.0), torch.full((3,), 10 * (rank + 1.0))]
    answer(gradients, (3, 1)[dp_rank], groups["dp"])
    return gradients[0][0, 0].item(), gradients[1][0].item() / 10


# ---- the bucket


@exercise
def bucket_in_a_hook(answer: object) -> Verdict:
    """Write a bucket: one all-reduce, begun by the hook of its last gradient; on real ranks.

    >>> bucket_in_a_hook("b")
    ✗ 'b' is not a function; write def answer(parameters, group): and return a function, finish.
    """
    asked = "def answer(parameters, group): and return a function, finish"
    results = tried(_two_backwards, answer, _PAIR, asked)
    if isinstance(results, Verdict):
        return results
    return Verdict(
        True,
        "One all-reduce for four gradients, and it begins while backward goes on to the first "
        "layer.",
    )


def _two_backwards(rank: int, groups: "Groups", answer: Callable[..., Any]) -> str | None:
    """Return what is wrong with a bucket of the last two of three layers, if anything is."""
    import torch
    from torch import nn

    lend(answer)
    torch.manual_seed(0)
    first = nn.Linear(4, 4).double()
    model = nn.Sequential(first, *(nn.Linear(4, 4).double() for _ in range(2)))
    inputs = torch.randn(2, 2, 8, 4).double()  # of each step, for each rank
    bucket = list(model[1:].parameters())
    finish = answer(bucket, groups["dp"])
    if not callable(finish):
        return "It should return finish, a function without arguments."
    sent_before_the_end: list[int] = []
    for step, of_ranks in enumerate(inputs):
        halves = [torch.autograd.grad(model(x).square().mean(), bucket) for x in of_ranks]
        model.zero_grad()
        with _all_reduces() as calls:
            sent_before_the_end.clear()
            hook = first.weight.register_post_accumulate_grad_hook(  # type: ignore[no-untyped-call]
                lambda _: sent_before_the_end.append(len(calls))
            )
            model(of_ranks[rank]).square().mean().backward()
            finish()
            hook.remove()
        wrong = _wrong_bucket(bucket, halves, calls, sent_before_the_end[0])
        if wrong:
            return f"The first step is right. In the second: {wrong}" if step else wrong
    return None


def _wrong_bucket(
    bucket: "Sequence[nn.Parameter]",
    halves: "Sequence[Sequence[Tensor]]",
    calls: "Sequence[_Watched]",
    before_the_end: int,
) -> str | None:
    """Return what is wrong after a step, whose gradients on the two ranks were the halves."""
    import torch

    numbers = sum(parameter.numel() for parameter in bucket)
    if not calls:
        return "no all-reduce was called, and each rank keeps its own gradients."
    if len(calls) > 1:
        return (
            f"{len(calls)} all-reduces. A bucket has one: put its {len(bucket)} gradients into one "
            f"tensor, once the last is there."
        )
    if calls[0].numel != numbers:
        return f"{calls[0].numel} numbers are summed; the bucket has {numbers}."
    if not before_the_end:
        return (
            "the all-reduce begins after backward, so nothing hides it. Begin it in the hook of "
            "the gradient that comes last."
        )
    if not calls[0].waited:
        return (
            "the all-reduce holds up backward, or nobody waits for it: async_op=True in the hook, "
            "and wait() in finish."
        )
    if any(parameter.grad is None for parameter in bucket):
        return "a .grad is None after finish()."
    got = torch.cat([parameter.grad.flatten() for parameter in bucket])  # type: ignore[union-attr]
    own = [torch.cat([g.flatten() for g in half]) for half in halves]
    if torch.allclose(got, (own[0] + own[1]) / 2):
        return None
    if torch.allclose(got, own[0] + own[1]):
        return "the gradients are sums. Who divides?"
    if any(torch.allclose(got, half) for half in own):
        return "the .grad of each parameter is still its own rank's; copy the means back."
    return "the gradients are not the means of the two ranks'."


class _Watched:
    """An all-reduce under way, and whether somebody has waited for it."""

    def __init__(self, numel: int, work: Any) -> None:
        self.numel, self.work, self.waited = numel, work, False

    def wait(self, *args: Any) -> Any:
        self.waited = True
        return self.work.wait(*args)


@contextmanager
def _all_reduces() -> "Iterator[list[_Watched]]":
    """Watch the calls of ``dist.all_reduce``; what is not asynchronous returns None, as ever."""
    import torch.distributed as dist

    calls: list[_Watched] = []
    real = dist.all_reduce

    def watched(tensor: "Tensor", *args: Any, **options: Any) -> _Watched | None:
        work = real(tensor, *args, **options)
        calls.append(_Watched(tensor.numel(), work))
        return calls[-1] if work is not None else None

    dist.all_reduce = watched
    try:
        yield calls
    finally:
        dist.all_reduce = real


# ---- ZeRO 1


@exercise
def zero_1_step(answer: object) -> Verdict:
    """Write a step of ZeRO 1 for a size that the ranks do not divide; tried on four real ones.

    >>> zero_1_step(1)
    ✗ 1 is not a function; write def answer(weights, gradient, momentum, group): and change \
weights and momentum in place.
    """
    asked = (
        "def answer(weights, gradient, momentum, group): and change weights and momentum in place"
    )
    results = tried(_two_steps, answer, _FOUR, asked)
    if isinstance(results, Verdict):
        return results
    if any(event.name == "all_reduce" for event in results.events):
        return Verdict(
            False,
            "The weights are right, but all_reduce gives each rank the whole gradient, of which it "
            "needs a quarter. A reduce-scatter sends half as much.",
        )
    return Verdict(
        True, "Ten numbers and two of padding: three on each rank. The momentum is cut in four."
    )


def _two_steps(rank: int, groups: "Groups", answer: Callable[..., Any]) -> str | None:
    """Return what is wrong with the weights of two steps of ten numbers, if anything is."""
    import torch

    lend(answer)
    torch.manual_seed(0)
    start, gradients = torch.randn(10).double(), torch.randn(2, 4, 10).double()
    weights, momentum = start.clone(), torch.zeros(3).double()
    for of_ranks in gradients:
        answer(weights, of_ranks[rank].clone(), momentum, groups["dp"])
    learned = partial(_with_momentum, start)
    if torch.allclose(weights, learned(gradients.mean(1))):
        return None
    if torch.equal(weights, start):
        return "The weights have not changed. Change them in place: weights.copy_(…)."
    if torch.allclose(weights, learned(gradients.sum(1))):
        return "You add the gradients of the four ranks. A step takes their mean."
    if torch.allclose(weights, learned(gradients[:, rank])):
        return "This rank learns from its own gradient alone."
    if torch.allclose(weights, learned(gradients.mean(1), decay=0.0)):
        return "The momentum is forgotten between the steps: change it in place."
    mine = slice(3 * rank, 3 * rank + 3)
    if torch.allclose(weights[mine], learned(gradients.mean(1))[mine]):
        return "Its own shard is right, the others are not. Who gathers the weights?"
    return "The weights are not those of one process that has all four gradients."


def _with_momentum(start: "Tensor", gradients: "Tensor", *, decay: float = 0.9) -> "Tensor":
    """Return the weights after a step for each gradient, lr 0.1."""
    weights, momentum = start.clone(), start.new_zeros(start.shape)
    for gradient in gradients:
        momentum = decay * momentum + gradient
        weights = weights - 0.1 * momentum
    return weights


# ---- the broken loop


@exercise
def repaired_loop(answer: object) -> Verdict:
    """Repair a training loop whose copies agree, and learn something else; on two real ranks.

    >>> repaired_loop([])
    ✗ [] is not a function; write def answer(model, batches, group): and train the model.
    """
    asked = "def answer(model, batches, group): and train the model"
    results = tried(_trained, answer, _PAIR, asked)
    if isinstance(results, Verdict):
        return results
    sums = sum(event.rank == 0 and event.name == "all_reduce" for event in results.events)
    often = " Yours sums after every microbatch: right, but twice the messages." * (sums > 6)
    return Verdict(True, f"Three steps, and both ranks hold the weights of one process.{often}")


def _trained(rank: int, groups: "Groups", answer: Callable[..., Any]) -> str | None:
    """Return what is wrong with the weights after three steps of two microbatches."""
    import torch
    import torch.distributed as dist

    lend(answer)
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1).double()
    start = [parameter.detach().clone() for parameter in model.parameters()]
    batches = torch.randn(2, 3, 2, 4, 3).double()  # of each rank, step and microbatch
    answer(model, batches[rank], groups["dp"])
    weights = torch.cat([p.detach().flatten() for p in model.parameters()])
    both = [torch.empty_like(weights) for _ in range(2)]
    dist.all_gather(both, weights, group=groups["dp"])
    if not torch.equal(*both):
        return "The copies differ: not every gradient of every step is averaged."
    for zeroed, inside, divisor in product((True, False), (False, True), (2, 1, 4)):
        if torch.allclose(weights, _learned(start, batches, zeroed, inside, divisor)):
            return _fault(zeroed, inside, divisor)
    if torch.equal(weights, torch.cat([s.flatten() for s in start])):
        return "The weights have not changed."
    return "The copies agree, but do not hold the weights of one process."


def _fault(zeroed: bool, inside: bool, divisor: int) -> str | None:
    """Name the first fault of a loop, None if it has none."""
    if not zeroed:
        more = " (And that is not all.)" if inside or divisor != 2 else ""
        return f"The gradients of the last step are still there when the next begins.{more}"
    if inside:
        return (
            "The first microbatch is summed over the ranks twice. Sum when the last backward of "
            "the step has added its part."
        )
    if divisor != 2:
        return f"The gradients are {'twice' if divisor == 1 else 'half'} as large as the mean."
    return None


def _learned(
    start: "Sequence[Tensor]", batches: "Tensor", zeroed: bool, inside: bool, divisor: int
) -> "Tensor":
    """Return the weights of the loop with the faults named, computed in one process."""
    import torch

    weights = [tensor.clone().requires_grad_() for tensor in start]
    held = [[torch.zeros_like(w) for w in start] for _ in range(2)]  # gradients of both ranks

    def summed() -> None:
        held[:] = [[sum(pair) for pair in zip(*held, strict=True)] for _ in range(2)]

    for step in range(batches.shape[1]):
        if zeroed:
            held = [[torch.zeros_like(w) for w in start] for _ in range(2)]
        for microbatch in range(batches.shape[2]):
            for rank in range(2):
                y = batches[rank, step, microbatch] @ weights[0].T + weights[1]
                new = torch.autograd.grad(y.square().mean() / 2, weights)
                held[rank] = [old + more for old, more in zip(held[rank], new, strict=True)]
            if inside:
                summed()
        if not inside:
            summed()
        with torch.no_grad():
            for weight, gradient in zip(weights, held[0], strict=True):
                weight -= 0.1 * gradient / divisor
    return torch.cat([weight.detach().flatten() for weight in weights])
