"""Checks of lesson 08."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from ..layout import ParallelLayout
from ..schedule import one_forward_one_backward, zero_bubble_v
from ..shards import attention, mlp
from .ranks import lend, tried
from .verdict import Verdict, exercise, judged_number

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed import ProcessGroup

_SLIDE = ParallelLayout(nodes=2, tp=2, pp=4)


@exercise
def bytes_of_a_step(answer: object) -> Verdict:
    """How many bytes does a rank of the first stage put in, along tp, pp and embedding?

    16 ranks, tp=4, pp=2; 12 layers, hidden size 128, 1,024 words, tied; 8 microbatches of one
    sequence of 64 tokens, numbers of 4 bytes.

    >>> bytes_of_a_step({"tp": 6_553_600, "pp": 65_536, "embedding": 131_072})
    ✗ pp: 65536 is not it. Cut by tp? Without sequence parallelism each tp rank sends the whole \
activation.
    """
    right = bytes_put_in(layers=12, hidden=128, words=1024, tokens=64, microbatches=8, tp=4, pp=2)
    if not isinstance(answer, dict) or {*answer} != {*right}:
        return Verdict(
            False,
            f"{str(answer)[:60]!r} is not a dictionary of three numbers: "
            f'{{"tp": …, "pp": …, "embedding": …}}.',
        )
    one = 64 * 128 * 4
    mistakes = {
        "tp": {
            8 * 24 * one: "The six layers are right. The first stage has something before them.",
            8 * 13 * one: "That is forward alone. In backward, f of each block sums as g did.",
            8 * 12 * one: "That is the forward of the layers. What sums in backward, and before "
            "the first layer?",
            8 * 49 * one: "Does one rank have all 12 layers?",
            8 * 48 * one: "Does one rank have all 12 layers?",
            25 * one: "That is one microbatch; a step has 8.",
            8 * 25 * one // 4: "Cut by tp? What is summed is whole on every rank.",
            2 * 8 * 25 * one: "Are your numbers of 8 bytes? Here they have 4.",
        },
        "pp": {
            2 * 8 * one: "Does the first stage send in both directions?",
            one: "That is one microbatch; a step has 8.",
            8 * one // 4: "Cut by tp? Without sequence parallelism each tp rank sends the whole "
            "activation.",
        },
        "embedding": {
            1024 * 128 * 4: "That is the whole vocabulary. How many of its words does a tp rank "
            "hold?",
            8 * 1024 * 32 * 4: "The gradient adds up over the microbatches, and is summed once.",
            one: "Not an activation: what is summed is a gradient, of the size of the weight.",
        },
    }
    for kind, wanted in right.items():
        verdict = judged_number(answer[kind], wanted, "", mistakes[kind])
        if not verdict.correct:
            return Verdict(False, f"{kind}: {verdict.message}")
    return Verdict(True, "All three. The fourth, dp, is the size of all that the rank holds.")


def bytes_put_in(
    *, layers: int, hidden: int, words: int, tokens: int, microbatches: int, tp: int, pp: int
) -> dict[str, int]:
    """Return what a rank of the first of several stages puts in, in float32, by kind of group.

    Of each microbatch: the collectives of the layers' blocks, the sum of the embedding, and one
    message; of a step: one sum of the embedding's gradient. The sum of squares for the norm, and
    the header of the first message, are left out.
    """
    blocks = attention(tokens, hidden, hidden // 16, tp), mlp(tokens, hidden, 4 * hidden, tp)
    layer = sum(
        call.bytes(itemsize=4) for block in blocks for call in block.forward + block.backward
    )
    activation = tokens * hidden * 4
    return {
        "tp": microbatches * (layers // pp * layer + activation),
        "pp": microbatches * activation,
        "embedding": words // tp * hidden * 4,
    }


# ---- the tied embedding

_PIPELINE = ParallelLayout(nodes=1, gpus_per_node=4, pp=4)
_FIRST, _LAST = 1.0, 10.0


@exercise
def tied_sum(answer: object) -> Verdict:
    """Write the sum of a tied embedding's gradients; tried on four real ranks, with two plans.

    >>> tied_sum("all-reduce")
    ✗ 'all-reduce' is not a function; write def answer(gradients, groups): and sum them in place.
    """
    asked = "def answer(gradients, groups): and sum them in place"
    plans = {
        "1F1B": one_forward_one_backward(pp=4, microbatches=4),
        "ZB-V": zero_bubble_v(pp=4, microbatches=4),
    }
    for name, plan in plans.items():
        copies = {0: _FIRST, plan.stages - 1: _LAST}
        held = [[copies[n] for n in plan.stages_of(r) if n in copies] for r in range(plan.pp)]
        got = tried(_summed(held), answer, _PIPELINE, asked, partial(_nobody_comes, name))
        if isinstance(got, Verdict):
            return got
        found = [value for values in got for value in values]
        if said := _wrong_sum(found):
            return Verdict(False, f"With {name}: {said}")
    return Verdict(
        True,
        "Both copies get the same gradient, with both plans, so they stay copies. Megatron's "
        "line is in finalize_model_grads.py, _allreduce_word_embedding_grads.",
    )


def _summed(held: list[list[float]]) -> Callable[..., list[float]]:
    """Return what each rank does: call the answer with the gradients of the copies it holds."""

    def summed(
        rank: int,
        groups: "dict[str, ProcessGroup]",
        answer: "Callable[[list[Tensor], Mapping[str, ProcessGroup]], Any]",
    ) -> list[float]:
        import torch

        lend(answer)
        gradients = [torch.full((2, 3), value) for value in held[rank]]
        answer(gradients, groups)
        return [gradient[0, 0].item() for gradient in gradients]

    return summed


def _wrong_sum(found: list[float]) -> str:
    """Say what is wrong with the gradients of the first and the last stage, if anything is."""
    total = _FIRST + _LAST
    if found == [total, total]:
        return ""
    if found == [_FIRST, _LAST]:
        return "each copy has kept its own gradient. Change the tensors in place."
    if found == [total / 2, total / 2]:
        return "that is the mean. The word is used twice, so its gradient is the sum of both uses."
    if found in ([total, total + _LAST], [total + _FIRST, total]):
        return "the copy that you changed first was added to the other. Take the sum first."
    if total in found:
        return f"one copy has the sum, and the other has {min(found, key=lambda v: v == total):g}."
    return f"the gradients {_FIRST:g} and {_LAST:g} became {found[0]:g} and {found[1]:g}."


def _nobody_comes(plan: str, waiting: Mapping[int, str]) -> str:
    rank, operation = next(iter(waiting.items()))
    if plan == "ZB-V":
        return (
            f"With ZB-V it hangs: rank {rank} waits in {operation}. It holds both copies, in its "
            f"two stages, and rank 3 holds none: nobody else has anything to add."
        )
    return (
        f"It hangs: rank {rank} waits in {operation}. The middle stages hold no copy, and do not "
        f"come. Whose group is the first stage's and the last one's alone?"
    )


# ---- the wrong seed

_WRONG = 9


@exercise
def wrong_seed(answer: object) -> Verdict:
    """On which rank is the seed wrong, by the masks of `residual_mask`?

    >>> wrong_seed(8)
    ✗ 8 is not it. Ranks 8 and 9 drop different elements, but which of the two is wrong? Ranks 10 \
and 11 hold the same layers of the other copy.
    """
    at = _SLIDE.coordinates(_WRONG)
    pair, other = _SLIDE.groups("tp").of(_WRONG), _SLIDE.groups("dp").of(_WRONG)
    (neighbour,) = {*pair} - {_WRONG}
    right_copy = [r for r in range(16) if _SLIDE.coordinates(r)["pp"] == at["pp"]]
    mistakes = dict.fromkeys(range(16), "This rank drops what its tp neighbour drops.")
    mistakes |= dict.fromkeys(
        set(right_copy) - {*pair},
        "This rank and its tp neighbour drop the same. Compare it with the other copy, too.",
    )
    mistakes[neighbour] = (
        f"Ranks {pair[0]} and {pair[1]} drop different elements, but which of the two is wrong? "
        f"Ranks {right_copy[2]} and {right_copy[3]} hold the same layers of the other copy."
    )
    return judged_number(
        answer,
        _WRONG,
        f"It differs from {neighbour}, which holds the same tensor, and from {other[1]}, which "
        f"holds the same layers; and these agree. Nothing would have raised.",
        mistakes,
    )


def residual_mask(rank: int) -> "Tensor":
    """Return what dropout keeps of a residual on a rank of the slide: 1,000 times 1.0 or 0.0.

    All ranks of a stage hold the same layers, and should drop the same. One rank's seed is wrong.

    >>> residual_mask(0).equal(residual_mask(1)), residual_mask(0).equal(residual_mask(4))
    (True, False)
    """
    import torch

    from ..parallel.random import RNGStatesTracker

    at = _SLIDE.coordinates(_SLIDE.check_rank(rank))
    rng = RNGStatesTracker(seed=100 * at["pp"] + (rank == _WRONG), tp_rank=at["tp"])
    with rng.fork("replicated"):
        return torch.nn.functional.dropout(torch.ones(1000), 0.1).sign()
