from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import EXPERT_NAMES, dense_layouts, expert_layouts, layouts, naive_groups

from mpviz import GROUP_KINDS, MEGATRON_ORDER, TP_PP_DP_ORDER, ParallelLayout

SLIDE = ParallelLayout(nodes=2, gpus_per_node=8, tp=2, pp=4)
OTHER_ORDER = ParallelLayout(nodes=2, gpus_per_node=8, tp=2, pp=4, order=TP_PP_DP_ORDER)


# ---- the lecture's case


@pytest.mark.parametrize(
    ("kind", "groups"),
    [
        ("dp", "0 2 | 1 3 | 4 6 | 5 7 | 8 10 | 9 11 | 12 14 | 13 15"),
        ("tp", "0 1 | 2 3 | 4 5 | 6 7 | 8 9 | 10 11 | 12 13 | 14 15"),
        ("pp", "0 4 8 12 | 1 5 9 13 | 2 6 10 14 | 3 7 11 15"),
        ("model", "0 1 4 5 8 9 12 13 | 2 3 6 7 10 11 14 15"),
        ("embedding", "0 12 | 1 13 | 2 14 | 3 15"),
        ("position_embedding", "0 | 1 | 2 | 3"),
    ],
)
def test_groups_of_the_slide(kind: str, groups: str) -> None:
    assert repr(SLIDE.groups(kind)).split("\n")[1] == groups


def test_sizes_of_the_slide_follow_from_the_cluster() -> None:
    assert (SLIDE.world_size, SLIDE.dp, SLIDE.etp, SLIDE.edp) == (16, 2, 2, 2)
    assert not SLIDE.has_experts


def test_defaults_are_one_node_of_eight_in_megatrons_order() -> None:
    default = ParallelLayout()
    assert (default.world_size, default.dp, default.gpus_per_node) == (8, 8, 8)
    assert default.order == MEGATRON_ORDER == "tp-cp-ep-dp-pp"
    assert TP_PP_DP_ORDER == "tp-cp-ep-pp-dp"


@pytest.mark.parametrize(
    ("layout", "crossing"),
    [(SLIDE, {"tp": 0, "dp": 0, "pp": 4}), (OTHER_ORDER, {"tp": 0, "dp": 8, "pp": 0})],
    ids=lambda value: getattr(value, "order", None),
)
def test_what_crosses_the_nodes_is_decided_by_the_order(
    layout: ParallelLayout, crossing: dict[str, int]
) -> None:
    assert {kind: len(layout.crossings(kind)) for kind in crossing} == crossing


def test_each_copy_spans_both_nodes_only_in_megatrons_order() -> None:
    assert SLIDE.nodes_of("model") == [(0, 1), (0, 1)]
    assert OTHER_ORDER.nodes_of("model") == [(0,), (1,)]


def test_crossings_keeps_exactly_the_crossing_groups() -> None:
    # Nodes of three: every third pair of neighbours straddles a border.
    layout = ParallelLayout(nodes=4, gpus_per_node=3, tp=2)
    crossing = layout.crossings("tp")
    assert crossing.kind == "tp"
    assert crossing.tolist() == [[2, 3], [8, 9]]
    assert layout.crosses(layout.groups("tp")).tolist() == [False, True, False, False, True, False]
    assert layout.nodes_of("tp") == [(0,), (0, 1), (1,), (2,), (2, 3), (3,)]
    assert layout.node(np.array([0, 2, 3, 11])).tolist() == [0, 0, 1, 3]
    assert int(layout.node(5)) == 1


# ---- further goldens


def test_context_parallel_groups_of_tp4_cp2() -> None:
    layout = ParallelLayout(tp=4, cp=2)
    assert layout.groups("cp").tolist() == [[0, 4], [1, 5], [2, 6], [3, 7]]
    assert layout.groups("dp-cp").tolist() == [[0, 4], [1, 5], [2, 6], [3, 7]]
    assert layout.groups("dp").tolist() == [[rank] for rank in range(8)]


def test_without_a_pipeline_the_one_stage_embeds_alone() -> None:
    layout = ParallelLayout(nodes=1, gpus_per_node=2, tp=2)
    assert layout.groups("embedding").tolist() == [[0], [1]]
    assert layout.groups("position_embedding").tolist() == [[0], [1]]


def test_a_middle_stage_is_in_no_embedding_group() -> None:
    with pytest.raises(ValueError) as refused:
        SLIDE.groups("embedding").of(4)
    assert str(refused.value) == "rank 4 is in none of the 4 embedding groups"


def test_experts_regroup_the_same_ranks_and_are_no_factor_of_the_world() -> None:
    layout = ParallelLayout(tp=2, ep=4)
    assert (layout.world_size, layout.dp, layout.edp) == (8, 4, 1)
    assert layout.groups("ep").tolist() == [[0, 2, 4, 6], [1, 3, 5, 7]]
    assert layout.groups("dp").tolist() == [[0, 2, 4, 6], [1, 3, 5, 7]]
    assert layout.groups("edp").tolist() == [[rank] for rank in range(8)]


def test_experts_may_be_cut_less_than_attention() -> None:
    layout = ParallelLayout(tp=4, ep=4, expert_tp=1)
    assert (layout.dp, layout.etp, layout.edp) == (2, 1, 2)
    assert layout.has_experts
    assert layout.groups("ep").tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert layout.groups("edp").tolist() == [[0, 4], [1, 5], [2, 6], [3, 7]]
    assert layout.groups("tp").tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert layout.rank(ep=3, edp=1) == 7


def test_kinds_may_be_spelled_in_megatrons_ways() -> None:
    layout = ParallelLayout(nodes=2, tp=2, pp=2, ep=2)
    spellings = {
        "model": "tp-pp",
        "pp-tp": "tp-pp",
        "cp-dp": "dp-cp",
        "dp-tp-cp": "tp-dp-cp",
        "expert-dp": "edp",
        "expert-tp": "etp",
        "tp-ep": "etp-ep",
        "tp-ep-pp": "etp-ep-pp",
        "ep-dp": "ep-edp",
    }
    for spelling, canonical in spellings.items():
        assert layout.groups(spelling) == layout.groups(canonical)
        assert layout.groups(spelling).kind == canonical


def test_every_kind_keeps_its_name() -> None:
    assert [SLIDE.groups(kind).kind for kind in GROUP_KINDS] == list(GROUP_KINDS)


# ---- rules that hold for every layout


dense_kinds = st.lists(st.sampled_from(["tp", "cp", "dp", "pp"]), min_size=1, unique=True)
expert_kinds = st.lists(st.sampled_from(["etp", "ep", "edp", "pp"]), min_size=1, unique=True)


@given(layouts, dense_kinds)
def test_dense_groups_equal_a_naive_loop(layout: ParallelLayout, along: list[str]) -> None:
    said = layout.order.split("-")
    axes = [axis for axis in said if axis != "ep"]
    sizes = [getattr(layout, axis) for axis in axes]
    expected = naive_groups(axes, sizes, along)
    assert layout.groups("-".join(along)).tolist() == expected


@given(expert_layouts(), expert_kinds.filter(lambda axes: axes != ["pp"]))
def test_expert_groups_equal_a_naive_loop(layout: ParallelLayout, along: list[str]) -> None:
    axes = [EXPERT_NAMES.get(axis, axis) for axis in layout.order.split("-") if axis != "cp"]
    stage = layout.world_size // layout.pp
    sizes = {"etp": layout.etp, "ep": layout.ep, "pp": layout.pp}
    sizes["edp"] = stage // (layout.etp * layout.ep)
    expected = naive_groups(axes, [sizes[axis] for axis in axes], along)
    assert layout.groups("-".join(along)).tolist() == expected


@given(expert_layouts(), dense_kinds | expert_kinds)
def test_groups_along_any_axes_partition_the_ranks(
    layout: ParallelLayout, along: list[str]
) -> None:
    members = [rank for group in layout.groups("-".join(along)) for rank in group]
    assert sorted(members) == list(range(layout.world_size))


@given(expert_layouts(), dense_kinds | expert_kinds)
def test_members_of_a_group_differ_only_along_its_axes(
    layout: ParallelLayout, along: list[str]
) -> None:
    grid = "expert" if {"etp", "ep", "edp"} & set(along) else "dense"
    for group in layout.groups("-".join(along)):
        at = layout.coordinates(np.array(group), grid)
        assert all(len(set(at[axis].tolist())) == 1 for axis in at if axis not in along)
        assert len(set(zip(*(at[axis].tolist() for axis in along), strict=True))) == len(group)


@given(layouts)
def test_rank_undoes_coordinates(layout: ParallelLayout) -> None:
    ranks = range(layout.world_size)
    assert [layout.rank(**layout.coordinates(rank)) for rank in ranks] == list(ranks)
    everyone = np.arange(layout.world_size)
    assert np.array_equal(layout.rank(**layout.coordinates(everyone)), everyone)


@given(expert_layouts())
def test_rank_undoes_expert_coordinates(layout: ParallelLayout) -> None:
    ranks = range(layout.world_size)
    assert [layout.rank(**layout.coordinates(rank, "expert")) for rank in ranks] == list(ranks)


@given(dense_layouts())
def test_axes_of_size_1_need_not_be_named(layout: ParallelLayout) -> None:
    for rank in range(layout.world_size):
        at = layout.coordinates(rank)
        assert layout.rank(**{axis: at[axis] for axis in at if getattr(layout, axis) > 1}) == rank


@given(layouts)
def test_the_sizes_multiply_to_the_world(layout: ParallelLayout) -> None:
    assert layout.tp * layout.cp * layout.dp * layout.pp == layout.world_size
    assert layout.nodes * layout.gpus_per_node == layout.world_size
    if layout.has_experts:
        assert layout.etp * layout.ep * layout.edp * layout.pp == layout.world_size


@given(layouts)
def test_crossing_groups_are_those_that_touch_several_nodes(layout: ParallelLayout) -> None:
    for kind in ("tp", "dp-cp", "pp", "model", "embedding"):
        touched = [{r // layout.gpus_per_node for r in group} for group in layout.groups(kind)]
        assert layout.nodes_of(kind) == [tuple(sorted(nodes)) for nodes in touched]
        crossing = [nodes for nodes in touched if len(nodes) > 1]
        assert len(layout.crossings(kind)) == len(crossing)


# ---- values: equal, hashable, frozen, readable


@given(layouts)
def test_repr_is_the_call_that_builds_it(layout: ParallelLayout) -> None:
    again = eval(repr(layout), {"ParallelLayout": ParallelLayout})
    assert again == layout and hash(again) == hash(layout)
    assert repr(again) == repr(layout)


def test_repr_leaves_defaults_out_but_always_says_the_slides_four() -> None:
    assert repr(SLIDE) == "ParallelLayout(nodes=2, gpus_per_node=8, tp=2, pp=4)"
    assert repr(ParallelLayout(cp=2, ep=4, expert_tp=2, order="tp-cp-ep-dp")) == (
        "ParallelLayout(nodes=1, gpus_per_node=8, tp=1, pp=1, cp=2, ep=4, expert_tp=2, "
        "order='tp-cp-ep-dp')"
    )


def test_str_is_the_equation() -> None:
    assert str(SLIDE) == "16 GPUs = tp 2 × dp 2 × pp 4"
    assert str(ParallelLayout(nodes=2048, tp=8, cp=16, pp=16)) == (
        "16,384 GPUs = tp 8 × cp 16 × dp 8 × pp 16"
    )
    assert str(ParallelLayout(tp=2, ep=2)) == (
        "8 GPUs = tp 2 × dp 4 × pp 1; experts: etp 2 × ep 2 × edp 2 × pp 1"
    )
    assert str(ParallelLayout(gpus_per_node=1)) == "1 GPU = tp 1 × dp 1 × pp 1"


def test_layouts_equal_when_all_their_sizes_do() -> None:
    assert SLIDE == ParallelLayout(nodes=2, tp=2, pp=4)
    assert len({SLIDE, ParallelLayout(nodes=2, tp=2, pp=4), OTHER_ORDER}) == 2
    assert ParallelLayout(nodes=1, gpus_per_node=16) != ParallelLayout(nodes=16, gpus_per_node=1)
    assert ParallelLayout(tp=2, expert_tp=2) == ParallelLayout(tp=2)
    assert ParallelLayout(order="TP-CP-EP-DP-PP") == ParallelLayout()


def test_sizes_of_any_integer_type_become_plain_ints() -> None:
    layout = ParallelLayout(nodes=np.int64(2), tp=np.int32(2), pp=4, expert_tp=np.uint8(1), ep=2)
    assert {type(value) for value in (layout.nodes, layout.tp, layout.expert_tp)} == {int}
    assert layout == ParallelLayout(nodes=2, tp=2, pp=4, expert_tp=1, ep=2)


@pytest.mark.parametrize("name", ["nodes", "tp", "order", "dp", "world_size", "news"])
def test_a_layout_is_frozen(name: str) -> None:
    with pytest.raises((FrozenInstanceError, AttributeError)):
        setattr(SLIDE, name, 1)
    with pytest.raises(ValueError, match="read-only"):
        SLIDE.groups("dp").ranks[0, 0] = 5


def test_an_order_may_leave_out_axes_of_size_1() -> None:
    assert ParallelLayout(tp=2, order="tp-dp").groups("dp") == ParallelLayout(tp=2).groups("dp")
    assert ParallelLayout(tp=2, order="tp-dp").dense.axes == ("tp", "dp", "cp", "pp")
