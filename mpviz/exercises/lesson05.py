"""Checks of lesson 05."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..layout import ParallelLayout
from ..shards import attention, mlp
from .ranks import described, lend, tried
from .verdict import Verdict, exercise, judged_number

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed import ProcessGroup

_PAIR = ParallelLayout(nodes=1, gpus_per_node=2, tp=2)


@exercise
def rows_first(answer: object) -> Verdict:
    """Write GeLU(X·A)·B with A and B both cut by row; tried on two real ranks.

    >>> rows_first("r")
    ✗ 'r' is not a function; write def answer(X_mine, A_mine, B_mine, group): and return Z.
    """
    asked = "def answer(X_mine, A_mine, B_mine, group): and return Z"
    results = tried(_rows_first, answer, _PAIR, asked)
    if isinstance(results, Verdict):
        return results
    calls = [event.name for event in results.events if event.rank == 0]
    took = f"{len(calls)} {'all-reduces' if {*calls} == {'all_reduce'} else 'collectives'}"
    return Verdict(True, f"Z is right on both ranks, after {took}. A by column needs a single one.")


def _rows_first(
    rank: int, groups: "dict[str, ProcessGroup]", answer: "Callable[..., Any]"
) -> str | None:
    """Return what is wrong with the Z of an answer, if anything is."""
    import torch

    lend(answer)
    torch.manual_seed(0)
    x, a, b = (torch.randn(*shape).double() for shape in ((4, 6), (6, 8), (8, 6)))
    mine = (x.chunk(2, dim=1)[rank], a.chunk(2)[rank], b.chunk(2)[rank])
    z = answer(*(part.clone() for part in mine), groups["tp"])
    if not isinstance(z, torch.Tensor) or z.shape != (4, 6):
        return f"It should return Z, of shape [4, 6]; it returns {described(z)}"
    for hint, candidates in _candidates(rank, x, a, b).items():
        if any(torch.allclose(z, one) for one in candidates):
            return hint or None
    return "Z has the right shape, but not the numbers of GeLU(X·A)·B."


def _candidates(rank: int, x: "Tensor", a: "Tensor", b: "Tensor") -> "dict[str, list[Tensor]]":
    """Return each Z that an answer may hold, by its hint; that of the right one is empty."""
    from torch.nn.functional import gelu

    def cut(y: "Tensor") -> "tuple[Tensor, ...]":
        return y.chunk(2, dim=1)

    (first, second), y = b.chunk(2), gelu(x @ a)
    left, right = (gelu(part @ rows) for part, rows in zip(cut(x), a.chunk(2), strict=True))
    own, same = b.chunk(2)[rank], [cut(y)[k] @ part for part in b.chunk(2) for k in range(2)]
    return {
        "": [y @ b],
        "You take GeLU of an addend. GeLU(a) + GeLU(b) is not GeLU(a + b): sum first.": [
            *((left + right) @ b, cut(left)[0] @ first + cut(right)[1] @ second),
            *(cut(left + right)[rank] @ own, cut((left, right)[rank])[rank] @ own),
        ],
        "That is this rank's addend of Z. Z is the sum of both.": [cut(y)[rank] @ own],
        "Both ranks take the same columns of Y. Which of them meet the rows of B on rank 1?": [
            *(same[0] + same[2], same[1] + same[3], *same),
        ],
        "GeLU is missing.": [x @ a @ b],
    }


@exercise
def backward_of_g(answer: object) -> Verdict:
    """Write the backward of g, whose forward is an all-reduce; tried on two real ranks.

    >>> backward_of_g("copy")
    ✗ 'copy' is not a function; write def answer(gradient, group): and return the gradient of \
this rank's addend.
    """
    asked = "def answer(gradient, group): and return the gradient of this rank's addend"
    factors = tried(_factor_of, answer, _PAIR, asked)
    if isinstance(factors, Verdict):
        return factors
    if set(factors) == {1.0}:
        return Verdict(True, "A copy. Z is the sum, so each addend counts once: dZ/daddend is 1.")
    if set(factors) == {2.0}:
        return Verdict(
            False,
            "Your gradient is 2 times too large. Every rank already has the whole gradient of Z; "
            "to sum it again counts it once for each rank.",
        )
    return Verdict(False, f"The gradients should be 1 times what arrives, and are {list(factors)}.")


def _factor_of(
    groups: "dict[str, ProcessGroup]", backward: "Callable[[Tensor, ProcessGroup], Any]"
) -> Any:
    """Return what a backward multiplies its gradient by; if it does not, what it should do."""
    import torch

    lend(backward)
    arriving = torch.arange(1.0, 7.0).view(2, 3)
    leaving = backward(arriving.clone(), groups["tp"])
    if not isinstance(leaving, torch.Tensor) or leaving.shape != arriving.shape:
        return (
            f"It should return a tensor shaped like the gradient, {[*arriving.shape]} here; it "
            f"returns {described(leaving)}"
        )
    factors = set((leaving / arriving).flatten().tolist())
    if len(factors) > 1:
        return "It should multiply every number of the gradient by the same."
    return factors.pop()


@exercise
def bytes_of_a_layer(answer: object) -> Verdict:
    """How many bytes does a tp rank put into all-reduces for one layer of GPT-3, both ways?

    One sequence of 2,048 tokens, hidden size 12,288, numbers of 2 bytes, tp=8.

    >>> bytes_of_a_layer(100_663_296)
    ✗ 100663296 is not it. That is forward alone (or the numbers, without their 2 bytes). \
Backward, f sums as often as g did.
    """
    tokens, hidden, heads, tp = 2048, 12288, 96, 8
    blocks = (attention(tokens, hidden, heads, tp), mlp(tokens, hidden, 4 * hidden, tp))
    once = [block.forward for block in blocks]
    both = [block.forward + block.backward for block in blocks]
    forward, right = (
        sum(call.bytes(itemsize=2) for calls in kind for call in calls) for kind in (once, both)
    )
    one = tokens * hidden
    ring = round(sum(2 * call.sent for calls in both for call in calls))
    return judged_number(
        answer,
        right,
        f"4 all-reduces of 2,048 × 12,288 numbers of 2 bytes: {right:,} bytes, in every layer, "
        f"whatever tp is.",
        {
            forward: "That is forward alone (or the numbers, without their 2 bytes). "
            "Backward, f sums as often as g did.",
            2 * one: "That is one all-reduce. Attention has one and the MLP has one, each way.",
            right // tp: "Cut by tp? What is summed is whole on every rank: each has an addend of "
            "every number.",
            ring: "That is what a ring makes each rank send (lesson 04). Asked is what a rank puts "
            "in: the size of the tensors.",
            2 * right: "Are your numbers of 4 bytes? Here they have 2.",
        },
    )
