"""Checks of lesson 02."""

from ..layout import ParallelLayout
from ..names import MEGATRON_ORDER
from ..presets import SLIDE
from ..rankgrid import RankGrid
from .verdict import Verdict, exercise, judged_number, judged_ranks

_SLIDE = SLIDE.layout


@exercise
def rank_at(answer: object) -> Verdict:
    """Which rank sits at tp=1, dp=0, pp=2 on the slide?

    >>> rank_at(5)
    ✗ 5 is not it. You let pp vary before dp: in Megatron's default order dp comes first.
    """
    right = _SLIDE.rank(tp=1, dp=0, pp=2)
    dp_last = RankGrid(("tp", "pp", "dp"), (2, 4, 2)).rank({"tp": 1, "dp": 0, "pp": 2})
    pp_first = RankGrid(("pp", "dp", "tp"), (4, 2, 2)).rank({"tp": 1, "dp": 0, "pp": 2})
    return judged_number(
        answer,
        right,
        f"1 + 2 · 0 + 4 · 2 = {right}.",
        {
            dp_last: "You let pp vary before dp: in Megatron's default order dp comes first.",
            pp_first: "You let pp vary fastest; Megatron begins with tp.",
            right - 1: "That is its neighbour at tp=0.",
            3: "Do not add the coordinates: each counts as many ranks as its stride.",
        },
    )


@exercise
def pipeline_group_of_six(answer: object) -> Verdict:
    """Which ranks are in the pipeline group of rank 6?

    >>> pipeline_group_of_six([2, 6, 10, 14])
    ✓ tp and dp stay, pp runs: steps of 4.
    """
    return judged_ranks(
        answer,
        _SLIDE.groups("pp").of(6),
        "tp and dp stay, pp runs: steps of 4.",
        {
            _SLIDE.groups("dp").of(6): "That is its data-parallel group: pp stayed and dp ran.",
            _SLIDE.groups("tp").of(6): "That is its tensor-parallel group: pp stayed and tp ran.",
            (4, 5, 6, 7): "Those are the four ranks that share rank 6's stage. The group you want "
            "has one rank of each stage.",
            (6, 10, 14): "A group holds the earlier stages too: go back from 6 as well.",
            (0, 2, 4, 6): "Those are steps of 2. Two pipeline neighbours are tp × dp = 4 apart.",
        },
    )


@exercise
def largest_tp(answer: object) -> Verdict:
    """How large may tp be on 4 nodes of 8 GPUs (pp=1), if no tp group may cross a node?

    >>> largest_tp(16)
    ✗ 16 is not it. tp=16 works, but 2 of its 2 groups cross nodes.
    """
    sizes = [ParallelLayout(nodes=4, gpus_per_node=8, tp=tp) for tp in range(1, 33) if not 32 % tp]
    inside = [layout.tp for layout in sizes if not layout.crossings("tp")]
    crossing = {
        layout.tp: f"tp={layout.tp} works, but {len(layout.crossings('tp'))} of its "
        f"{len(layout.groups('tp'))} groups cross nodes."
        for layout in sizes
        if layout.tp not in inside
    }
    smaller = dict.fromkeys(inside, "No group crosses, true, but a larger tp also stays inside.")
    return judged_number(
        answer,
        max(inside),
        "As large as a node. That is why tp=8 is so common: most nodes hold 8 GPUs.",
        smaller | crossing,
    )


@exercise
def order_of_the_guide(answer: object) -> Verdict:
    """Which ``order`` puts each model copy of the slide on a node of its own?

    >>> order_of_the_guide("tp-cp-ep-pp-dp").correct
    True
    """
    try:
        layout = ParallelLayout(nodes=2, gpus_per_node=8, tp=2, pp=4, order=answer)  # type: ignore[arg-type]
    except ValueError as error:
        return Verdict(False, f"{error}.")
    if layout.nodes_of("model") == [(0,), (1,)]:
        return Verdict(
            True,
            "With dp last, copy 1 is ranks 0–7. In Megatron that takes "
            "--use-tp-pp-dp-mapping; it is not the default.",
        )
    default = " That is Megatron's default." if layout.order == MEGATRON_ORDER else ""
    return Verdict(
        False,
        f"With {layout.order!r} copy 1 spans nodes 0 and 1.{default} Which axis must vary "
        f"slowest, so that a copy is finished before the next begins?",
    )


@exercise
def gpus_with_experts(answer: object) -> Verdict:
    """How many GPUs do tp=2, pp=4 and dp=2 take if expert parallelism ep=2 is added?

    >>> gpus_with_experts(32)
    ✗ 32 is not it. ep is no factor of the world size: the experts regroup the same ranks.
    """
    layout = ParallelLayout(nodes=2, gpus_per_node=8, tp=2, pp=4, ep=2)
    return judged_number(
        answer,
        layout.world_size,
        f"Still {layout.world_size}: the two ranks of a dp group share out the experts, so "
        f"expert-dp is {layout.edp}.",
        {
            32: "ep is no factor of the world size: the experts regroup the same ranks.",
            8: "That is one model copy; dp=2 makes two.",
        },
    )
