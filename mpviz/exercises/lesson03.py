"""Checks of lesson 03; they read the state of an explorer."""

from math import gcd
from typing import Any

from ..layout import ParallelLayout
from ..presets import LLAMA3_405B
from .verdict import Verdict, exercise, judged_number

_NOT_AN_EXPLORER = "{!r} is not an explorer; give the one above, by its name: answer = {}."


@exercise
def no_all_reduce_leaves(answer: object) -> Verdict:
    """Find a layout of 4 nodes of 8 GPUs in which no all-reduce leaves its node.

    >>> no_all_reduce_leaves(ParallelLayout(nodes=4, tp=2, pp=2)).message[:35]
    '4 of 4 dp groups leave their node. '
    """
    layout: Any = getattr(answer, "layout", answer)
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
def tp_on_72_gpus(answer: object) -> Verdict:
    """How large may tp be on 2 nodes of 72 GPUs, if no tp group may leave its node?

    >>> tp_on_72_gpus(64)
    ✗ 64 is not it. 64 does not even divide the 144 GPUs. Which sizes divide a node?
    """
    node, world = 72, 144
    inside = dict.fromkeys(range(1, node), "That stays inside, but a larger one does too.")
    broken = {
        size: f"{size} does not even divide the {world} GPUs. Which sizes divide a node?"
        for size in range(1, world)
        if world % size
    }
    crossing = {
        size: f"{size} divides {world}, but not {node}: a group in the middle lies on both nodes."
        for size in range(1, world)
        if not world % size and node % size
    }
    return judged_number(
        answer,
        node,
        "The whole node. A group stays inside as long as tp divides the node, and 72 has many "
        "divisors.",
        inside | broken | crossing | {world: "Then the only tp group is both nodes."},
    )


@exercise
def tp_for_128_heads(answer: object) -> Verdict:
    """How large may it be for Llama 3 405B, whose 128 heads tp has to divide too?

    >>> tp_for_128_heads(64)
    ✗ 64 is not it. 64 divides 128, but not 72: not all groups can stay on a node.
    """
    node, heads = 72, LLAMA3_405B["8k"].heads
    right = gcd(node, heads)
    unequal = {
        size: f"{size} divides {node}, but not {heads}: the heads cannot be shared out evenly."
        for size in range(1, node + 1)
        if not node % size and heads % size
    }
    crossing = {
        size: f"{size} divides {heads}, but not {node}: not all groups can stay on a node."
        for size in range(1, heads + 1)
        if not heads % size and node % size
    }
    smaller = dict.fromkeys((1, 2, 4), "That works, but a larger one does too.")
    return judged_number(
        answer,
        right,
        f"{right} is the largest that divides both {node} and {heads}. On larger nodes it is the "
        f"model that limits tp.",
        unequal | crossing | smaller,
    )


@exercise
def order_does_not_matter(answer: object) -> Verdict:
    """Find sizes for which the two orders make the same groups.

    >>> order_does_not_matter(3)
    ✗ 3 is not an explorer; give the one above, by its name: answer = orders.
    """
    left, right = getattr(answer, "left", None), getattr(answer, "right", None)
    if not (isinstance(left, ParallelLayout) and isinstance(right, ParallelLayout)):
        return Verdict(False, _NOT_AN_EXPLORER.format(answer, "orders"))
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
