"""Checks of lesson 03; they read the state of an explorer."""

from math import ceil, gcd
from typing import Any

from ..layout import ParallelLayout
from .functions import judged_function
from .verdict import Verdict, exercise

_NOT_AN_EXPLORER = "{!r} is not an explorer; give the one above, by its name: answer = {}."


@exercise
def no_all_reduce_leaves(answer: object) -> Verdict:
    """Find a layout of 4 nodes of 8 GPUs in which no all-reduce leaves its node.

    >>> no_all_reduce_leaves(ParallelLayout(nodes=4, tp=2, pp=2)).message[:35]
    '4 of 4 dp groups leave their node. '
    """
    layout: Any = getattr(answer, "value", answer)
    if not isinstance(layout, ParallelLayout):
        return Verdict(False, _NOT_AN_EXPLORER.format(answer, "four"))
    if (layout.nodes, layout.gpus_per_node) != (4, 8):
        return Verdict(
            False,
            f"That is {layout.nodes} × {layout.gpus_per_node} GPUs. Stay with 4 nodes of 8; "
            f"a cluster is what one has.",
        )
    if layout.tp == 1 or layout.dp == 1:
        missing = "tp" if layout.tp == 1 else "dp"
        return Verdict(
            False,
            f"With {missing}=1 there is nothing to sum along it. Keep tp and dp at 2 or more.",
        )
    stage = f"{'tp × cp × dp' if layout.cp > 1 else 'tp × dp'} = {_gpus_of_a_stage(layout)}"
    for kind in ("tp", "dp-cp" if layout.cp > 1 else "dp"):
        crossing, groups = layout.crossings(kind), layout.groups(kind)
        if crossing:
            leaving = f"{len(crossing)} of {len(groups)} {kind} groups leave their node"
            return Verdict(False, f"{leaving}{_why_they_leave(layout, stage)}")
    return Verdict(
        True,
        f"{layout}: the {stage} GPUs of a stage share a node, and only the pipeline's messages "
        f"leave it.",
    )


def _gpus_of_a_stage(layout: ParallelLayout) -> int:
    return layout.world_size // layout.pp


def _why_they_leave(layout: ParallelLayout, stage: str) -> str:
    if _gpus_of_a_stage(layout) > layout.gpus_per_node:
        return (
            f". All copies of a stage, {stage} GPUs here, must fit in its {layout.gpus_per_node}; "
            f"what is left for them when pp grows?"
        )
    return (
        f", though the {stage} GPUs of a stage would fit in one. Which axis of the order "
        f"{layout.order} should come last?"
    )


@exercise
def time_in_pieces(answer: object) -> Verdict:
    """Write ``answer(total, piece, latency, bandwidth)``: seconds to send bytes in pieces.

    >>> time_in_pieces(lambda total, piece, latency, bandwidth: total / bandwidth)
    ✗ That is the bandwidth's part alone. Each piece has its latency too, however small it is.
    """
    cases = [
        (total, piece, latency, 364.5e9)
        for total in (1e9, 8e9, 7e6, 3e6)
        for piece in (1e9, 25e6, 2e6)
        for latency in (0.0, 37e-6, 0.18e-3)
    ]
    return judged_function(
        answer,
        lambda total, piece, latency, bandwidth: ceil(total / piece) * latency + total / bandwidth,
        cases,
        "At 0.18 ms each, 1 GB takes 10 ms in pieces of 25 MB and 93 ms in pieces of 2 MB. So "
        "frameworks sum gradients in buckets.",
        {
            lambda total, piece, latency, bandwidth: total / bandwidth: "That is the bandwidth's "
            "part alone. Each piece has its latency too, however small it is.",
            lambda total, piece, latency, bandwidth: latency + total / bandwidth: "That counts "
            "the latency once. Every piece has one.",
            lambda total, piece, latency, bandwidth: (
                total / piece * latency + total / bandwidth
            ): "Close. A last piece that is smaller has its latency as well: round up.",
            lambda total, piece, latency, bandwidth: (
                total // piece * latency + total / bandwidth
            ): "Close. A last piece that is smaller has its latency as well: round up.",
            lambda total, piece, latency, bandwidth: (
                ceil(total / piece) * (latency + piece / bandwidth)
            ): "Close. A last piece may be smaller, and then sends fewer bytes.",
            lambda total, piece, latency, bandwidth: latency + piece / bandwidth: "That is the "
            "time of one piece. How many are there?",
            lambda total, piece, latency, bandwidth: (
                ceil(total / piece) * latency + piece / bandwidth
            ): "The latencies are right. All the bytes are sent, not those of one piece.",
        },
    )


@exercise
def largest_tp(answer: object) -> Verdict:
    """Write ``answer(gpus_per_node, heads, kv_heads)``: the largest tp that suits all three.

    >>> largest_tp(lambda gpus_per_node, heads, kv_heads: gcd(gpus_per_node, heads))
    ✗ That forgets the KV heads. Llama 3 405B has 128 heads and 8 KV heads: what does tp 16 leave \
a GPU?
    """
    heads = ((128, 8), (32, 8), (96, 96), (64, 8), (40, 10), (24, 6), (12, 12), (71, 71))
    cases = [(gpus, *both) for gpus in (4, 6, 8, 16, 36, 72) for both in heads]

    def power_of_two(gpus_per_node: int, heads: int, kv_heads: int) -> int:
        common = gcd(gpus_per_node, heads, kv_heads)
        return common & -common

    return judged_function(
        answer,
        gcd,
        cases,
        "8 for Llama 3 405B, on nodes of 8 as on nodes of 72; 24 for GPT-3 on 72. On small nodes "
        "the machine limits tp, on large ones the model.",
        {
            lambda gpus, heads, kv: gcd(gpus, heads): "That forgets the KV heads. Llama 3 405B "
            "has 128 heads and 8 KV heads: what does tp 16 leave a GPU?",
            lambda gpus, heads, kv: gcd(heads, kv): "That forgets the node. With 10 KV heads, "
            "groups of 10 do not fit whole into nodes of 8.",
            lambda gpus, heads, kv: kv: "That forgets the node. With 10 KV heads, groups of 10 "
            "do not fit whole into nodes of 8.",
            lambda gpus, heads, kv: gpus: "That is the machine's limit alone. The heads must be "
            "shared out evenly too.",
            lambda gpus, heads, kv: min(gpus, heads, kv): "The smallest of the three need not "
            "divide the others: 10 KV heads are not shared out evenly to the 8 GPUs of a node.",
            power_of_two: "tp need not be a power of two: GPT-3's 96 heads on nodes of 72 allow "
            "24.",
        },
    )


@exercise
def order_does_not_matter(answer: object) -> Verdict:
    """Find sizes for which the two orders make the same groups.

    >>> order_does_not_matter(3)
    ✗ 3 is not an explorer; give the one above, by its name: answer = orders.
    """
    both: Any = getattr(answer, "value", None)
    if not (isinstance(both, tuple) and all(isinstance(each, ParallelLayout) for each in both)):
        return Verdict(False, _NOT_AN_EXPLORER.format(answer, "orders"))
    left, right = both
    if left.dense.axes == right.dense.axes:
        return Verdict(False, "Both sides have the same order. Keep two, and move the sizes.")
    for kind in ("tp", "cp", "dp", "pp"):
        if left.groups(kind) != right.groups(kind):
            return Verdict(
                False,
                f"The {kind} groups differ: GPU 0 is with {_others(left, kind)} on the left and "
                f"with {_others(right, kind)} on the right. An order says which axis comes first; "
                f"when does that not matter?",
            )
    single = [axis for axis in ("dp", "pp") if getattr(left, axis) == 1]
    return Verdict(
        True,
        f"{left}: of two axes that change places, one has size 1 ({', '.join(single)}), "
        f"and an axis of size 1 moves no rank."
        if single
        else f"{left}: the same groups in both orders.",
    )


def _others(layout: ParallelLayout, kind: str) -> str:
    members = [rank for rank in layout.groups(kind).of(0) if rank]
    return ", ".join(map(str, members[:3])) + (" …" if len(members) > 3 else "") or "nobody"
