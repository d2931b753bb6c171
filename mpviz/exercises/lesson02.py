"""Checks of lesson 02."""

from ..layout import ParallelLayout
from ..names import MEGATRON_ORDER
from ..presets import SLIDE
from ..rankgrid import RankGrid
from .functions import judged_function
from .verdict import Verdict, exercise, judged_number

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
def pipeline_group(answer: object) -> Verdict:
    """Write ``answer(rank, tp, dp, pp)``: the pipeline group of a rank, in the default order.

    >>> pipeline_group(lambda rank, tp, dp, pp: [rank % (tp * dp) + tp * dp * s for s in range(pp)])
    ✓ Of the slide and 14 other layouts, every rank: tp and dp stay, pp runs in steps of tp × dp.
    >>> pipeline_group(lambda rank, tp, dp, pp: [rank + tp * dp * s for s in range(pp)])
    ✗ A group holds the earlier stages too: begin at stage 0, not at the rank.
    """

    def right(rank: int, tp: int, dp: int, pp: int) -> list[int]:
        layout = ParallelLayout(nodes=1, gpus_per_node=tp * dp * pp, tp=tp, pp=pp)
        return list(layout.groups("pp").of(rank))

    sizes = [(2, 2, 4), *((tp, dp, pp) for tp in (1, 2, 3) for dp in (1, 4) for pp in (2, 3))]
    sizes += [(8, 2, 3), (4, 3, 1)]
    cases = [(rank, tp, dp, pp) for tp, dp, pp in sizes for rank in range(tp * dp * pp)]
    return judged_function(
        answer,
        right,
        cases,
        f"Of the slide and {len(sizes) - 1} other layouts, every rank: tp and dp stay, pp runs in "
        f"steps of tp × dp.",
        {
            lambda rank, tp, dp, pp: [rank + tp * dp * stage for stage in range(pp)]: "A group "
            "holds the earlier stages too: begin at stage 0, not at the rank.",
            lambda rank, tp, dp, pp: [
                rank % tp + rank // (tp * dp) * tp * dp + tp * copy for copy in range(dp)
            ]: "That is its data-parallel group: pp stayed and dp ran.",
            lambda rank, tp, dp, pp: [rank // tp * tp + half for half in range(tp)]: "That is its "
            "tensor-parallel group: pp stayed and tp ran.",
            lambda rank, tp, dp, pp: [
                rank // (tp * dp) * tp * dp + other for other in range(tp * dp)
            ]: "Those are the ranks of its stage. The group has one rank of each stage.",
            lambda rank, tp, dp, pp: [rank % tp + tp * stage for stage in range(pp)]: "Two "
            "stages are tp × dp ranks apart: dp varies between tp and pp.",
            lambda rank, tp, dp, pp: [
                rank // (tp * pp) * tp * pp + rank % tp + tp * stage for stage in range(pp)
            ]: "That is the order in which dp comes last. In Megatron's default pp does.",
        },
    )


@exercise
def leaves_node(answer: object) -> Verdict:
    """Write ``answer(group, gpus_per_node)``: whether a group has members on several nodes.

    >>> leaves_node(lambda group, gpus_per_node: len(group) > gpus_per_node)
    ✗ The size does not decide: [0, 4, 8, 12] has fewer members than a node has GPUs, and leaves it.
    """

    def nodes_of(group: list[int], gpus_per_node: int) -> list[int]:
        return [rank // gpus_per_node for rank in group]

    def right(group: list[int], gpus_per_node: int) -> bool:
        return len(set(nodes_of(group, gpus_per_node))) > 1

    cases = _groups_of_many_layouts()
    return judged_function(
        answer,
        right,
        cases,
        f"Right for {len(cases)} groups. `layout.crossings` asks the same of every group.",
        {
            lambda group, gpus: len(group) > gpus: "The size does not decide: [0, 4, 8, 12] has "
            "fewer members than a node has GPUs, and leaves it.",
            lambda group, gpus: max(group) - min(group) >= gpus: "The distance does not decide: "
            "of nodes of 8, ranks 7 and 8 are neighbours, and on two nodes.",
            lambda group, gpus: max(group) >= gpus: "That asks whether a member is outside node "
            "0. [8, 9] is on node 1, all of it.",
            lambda group, gpus: not right(group, gpus): "The other way round: that is True for "
            "the groups that stay.",
            lambda group, gpus: group[0] // gpus != group[1 % len(group)] // gpus: "Look at all "
            "members, not at the first two.",
            lambda group, gpus: len({rank % gpus for rank in group}) > 1: "rank % gpus_per_node "
            "is its place on the node. Which node is it on?",
        },
    )


def _groups_of_many_layouts() -> list[tuple[object, ...]]:
    """Return groups and the size of their nodes: crossing and not, small and large."""
    layouts = (
        _SLIDE,
        ParallelLayout(nodes=2, gpus_per_node=8, tp=16),
        ParallelLayout(nodes=4, gpus_per_node=8, tp=2, pp=4, order="tp-pp-dp"),
        ParallelLayout(nodes=3, gpus_per_node=4, tp=2, pp=3),
        ParallelLayout(nodes=2, gpus_per_node=72, tp=16),
        ParallelLayout(nodes=3, gpus_per_node=4, tp=6),
    )
    return [
        (group, layout.gpus_per_node)
        for layout in layouts
        for kind in ("tp", "dp", "pp")
        for group in layout.groups(kind).tolist()
    ]


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
def holders_of_an_expert(answer: object) -> Verdict:
    """64 GPUs, tp=2, pp=4, ep=4, experts uncut (etp=1): how many GPUs hold the same expert?

    >>> holders_of_an_expert(8)
    ✗ 8 is not it. dp=8 GPUs hold the same piece of attention. The experts have a grid of their \
own: which size is left there?
    """
    layout = ParallelLayout(nodes=8, gpus_per_node=8, tp=2, pp=4, ep=4, expert_tp=1)
    right = layout.edp
    return judged_number(
        answer,
        right,
        f"64 GPUs = etp 1 × ep 4 × edp {right} × pp 4: each expert of a layer is whole on {right} "
        f"GPUs, and they sum its gradients.",
        {
            layout.dp: f"dp={layout.dp} GPUs hold the same piece of attention. The experts have a "
            f"grid of their own: which size is left there?",
            2: "Did you divide by tp? The experts are not cut: their grid has etp=1.",
            16: "Did you leave out pp? A layer is on one stage, on a quarter of the GPUs.",
            64: "Each stage has other layers, and each ep rank of a stage other experts.",
            1: "So many would hold it if ep dealt the experts to all 16 GPUs of a stage.",
        },
    )
