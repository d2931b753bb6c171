"""Checks of lesson 05."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..layout import ParallelLayout
from ..shards import attention, mlp
from .verdict import Verdict, exercise, judged_choice, judged_number

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed import ProcessGroup


@exercise
def wrong_split(answer: object) -> Verdict:
    """Which of the three splits p, q and r of an MLP gives a wrong result?

    >>> wrong_split("q")
    ✗ q sums before GeLU, so GeLU sees XA itself. It is right, but pays for two all-reduces.
    """
    return judged_choice(
        answer,
        "r",
        "r takes GeLU of each addend. GeLU(a) + GeLU(b) is not GeLU(a + b), so it is lost.",
        {
            "p": "p is the MLP of the picture: column, GeLU, row, and one sum at the end.",
            "q": "q sums before GeLU, so GeLU sees XA itself. It is right, but pays for two "
            "all-reduces.",
        },
    )


@exercise
def backward_of_g(answer: object) -> Verdict:
    """Write the backward of g, whose forward is an all-reduce; tried on two real ranks.

    >>> backward_of_g("copy")
    ✗ 'copy' is not a function; write def answer(gradient, group): and return the gradient of \
this rank's addend.
    """
    if not callable(answer):
        return Verdict(
            False,
            f"{answer!r} is not a function; write def answer(gradient, group): and return the "
            f"gradient of this rank's addend.",
        )
    from ..world import RanksError, World  # only whoever answers pays for ranks

    with World(ParallelLayout(nodes=1, gpus_per_node=2, tp=2), timeout=10) as world:
        try:
            factors = world.run(_factor_of, answer)
        except RanksError as error:
            return Verdict(False, f"It does not run on the ranks: {str(error).splitlines()[0]}")
    said = [factor for factor in factors if isinstance(factor, str)]
    if said:
        return Verdict(False, said[0])
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

    # The lesson imports these on its ranks, so an answer may use them; the kernel has neither.
    names = getattr(backward, "__globals__", {})
    names.setdefault("torch", torch)
    names.setdefault("dist", torch.distributed)
    arriving = torch.arange(1.0, 7.0).view(2, 3)
    leaving = backward(arriving.clone(), groups["tp"])
    if not isinstance(leaving, torch.Tensor) or leaving.shape != arriving.shape:
        return (
            f"It should return a tensor shaped like the gradient, {[*arriving.shape]} here; it "
            f"returns {_described(leaving)}"
        )
    factors = set((leaving / arriving).flatten().tolist())
    if len(factors) > 1:
        return "It should multiply every number of the gradient by the same."
    return factors.pop()


def _described(returned: object) -> str:
    if returned is None:
        return "None. Is there a `return`?"
    shape = getattr(returned, "shape", None)
    return f"a {type(returned).__name__}{'' if shape is None else f' of shape {[*shape]}'}."


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
