"""Checks of lesson 01."""

from dataclasses import replace

from ..layout import ParallelLayout
from ..presets import SLIDE
from ..shards import label
from .verdict import Verdict, exercise, judged_number, judged_ranks

_SLIDE = SLIDE.layout


@exercise
def copies(answer: object) -> Verdict:
    """How many model copies do 4 nodes of 8 GPUs hold at tp=4, pp=2?

    >>> copies(8)
    ✗ 8 is not it. That is how many GPUs one model takes; how many such models fit on 32?
    >>> copies(4)
    ✓ 32 GPUs / (tp 4 × pp 2) = 4 copies.
    """
    layout = ParallelLayout(nodes=4, gpus_per_node=8, tp=4, pp=2)
    one_model = layout.tp * layout.pp
    return judged_number(
        answer,
        layout.dp,
        f"{layout.world_size} GPUs / (tp {layout.tp} × pp {layout.pp}) = {layout.dp} copies.",
        {
            one_model: f"That is how many GPUs one model takes; how many such models fit on "
            f"{layout.world_size}?",
            layout.world_size: "That would be one copy on every GPU, so an uncut model.",
            layout.dp // 2: "Did you count the GPUs of two nodes? Here there are four.",
        },
    )


@exercise
def ranks_of_copy_two(answer: object) -> Verdict:
    """Which ranks hold model copy 2 of the slide's sizes on four nodes?

    >>> ranks_of_copy_two(range(8, 16)).message[:33]
    'That is node 1. Megatron does not'
    """
    layout = replace(_SLIDE, nodes=4)
    first, second, *_ = layout.groups("model")
    on_two_nodes = _SLIDE.groups("model")[1]
    return judged_ranks(
        answer,
        second,
        f"A stage is dp {layout.dp} × tp {layout.tp} = {layout.dp * layout.tp} ranks; copy 2 is "
        f"the second pair of each, one stage on each node.",
        {
            tuple(range(8, 16)): "That is node 1. Megatron does not give each copy a node of its "
            "own: in every stage the copies lie side by side.",
            tuple(sorted(first)): "That is copy 1: the first pair of each stage. Take the next.",
            tuple(sorted(on_two_nodes)): "Those are its ranks on two nodes. With four copies "
            "there are 8 ranks from one stage to the next, not 4.",
            tuple(range(2, layout.world_size, 8)): "Those are only its upper halves, tp 0. A "
            "copy needs both rows.",
        },
    )


@exercise
def same_parameters(answer: object) -> Verdict:
    """Which ranks hold the same parameters as rank 13, with the slide's sizes on four nodes?

    >>> same_parameters([13, 15])
    ✗ Those are the two of the slide. On four nodes there are four copies, and a holder in each.
    >>> same_parameters([9, 11, 13, 15])
    ✓ Stage 1 is ranks 8–15, and the odd ones hold its lower half, ⋈: one in each of 4 copies.
    """
    layout = replace(_SLIDE, nodes=4)
    right, pair = layout.groups("dp").of(13), layout.groups("tp").of(13)
    stage = layout.groups("tp-dp").of(13)
    return judged_ranks(
        answer,
        right,
        f"Stage 1 is ranks {stage[0]}–{stage[-1]}, and the odd ones hold its lower half, "
        f"{label(layout, 13)[0]}: one in each of {layout.dp} copies.",
        {
            tuple(rank for rank in right if rank != 13): "Those are the others. Add 13 itself: "
            "all of them together are a data-parallel group.",
            _SLIDE.groups("dp").of(13): "Those are the two of the slide. On four nodes there are "
            "four copies, and a holder in each.",
            (13,): "There are three other copies, and each has a holder too.",
            tuple(rank - 1 for rank in right): "Those hold the other half of its matrices, tp 0. "
            "Which half does 13 hold?",
            pair: "That is its tensor-parallel group: two halves of the same matrices.",
            stage: "That is all of its stage, both halves. Which of them hold the half of 13?",
            layout.groups("pp").of(13): "That is its pipeline: the other stages hold other layers.",
        },
    )
