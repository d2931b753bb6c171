"""Checks of lesson 01."""

from dataclasses import replace

from ..layout import ParallelLayout
from ..presets import SLIDE
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
    """Which other rank holds the same parameters as rank 5 of the slide?

    >>> same_parameters(7)
    ✓ Ranks 5 and 7 both hold ⋈: they are a data-parallel group.
    """
    here, twin = _SLIDE.groups("dp").of(5)
    return judged_number(
        answer,
        twin,
        f"Ranks {here} and {twin} both hold ⋈: they are a data-parallel group.",
        {
            5: "That is rank 5 itself; which other rank shows ⋈?",
            4: "Rank 4 is its tensor-parallel partner: the other half of the same layers.",
            13: "Eight further would be right if each node held one copy. It does not.",
            1: "Rank 1 is an earlier stage of the same copy: other layers.",
            9: "Rank 9 is the next stage of the same copy: other layers.",
        },
    )
