"""Every way to ask for something that does not fit, and exactly what the learner is told."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mpviz import GROUP_KINDS, TP_PP_DP_ORDER, ParallelLayout

SLIDE = ParallelLayout(nodes=2, gpus_per_node=8, tp=2, pp=4)


def refusal(action: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
    with pytest.raises(ValueError) as refused:
        action(*args, **kwargs)
    return str(refused.value)


@pytest.mark.parametrize("name", ["nodes", "gpus_per_node", "tp", "pp", "cp", "ep", "expert_tp"])
@pytest.mark.parametrize("value", [0, -2, True, 2.0, "2", [2], np.float64(2), np.bool_(True)])
def test_sizes_are_whole_numbers_from_1(name: str, value: object) -> None:
    expected = f"{name} must be a whole number ≥ 1, got {value!r}"
    assert refusal(ParallelLayout, **{name: value}) == expected


@pytest.mark.parametrize("name", ["nodes", "gpus_per_node", "tp", "pp", "cp", "ep"])
def test_only_expert_tp_may_be_none(name: str) -> None:
    expected = f"{name} must be a whole number ≥ 1, got None"
    assert refusal(ParallelLayout, **{name: None}) == expected


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        (
            {"tp": 3, "pp": 4},
            "16 ranks cannot be split into tp=3 × pp=4 (12 does not divide 16); tp × pp may be "
            "1, 2, 4, 8 or 16; with pp=4, tp may be 1, 2 or 4",
        ),
        (
            # Either alone would fit, so both are offered.
            {"tp": 8, "pp": 4},
            "16 ranks cannot be split into tp=8 × pp=4 (32 does not divide 16); tp × pp may be "
            "1, 2, 4, 8 or 16; with pp=4, tp may be 1, 2 or 4; with tp=8, pp may be 1 or 2",
        ),
        (
            {"tp": 3, "pp": 5},
            "16 ranks cannot be split into tp=3 × pp=5 (15 does not divide 16); tp × pp may be "
            "1, 2, 4, 8 or 16",
        ),
        (
            {"tp": 2, "cp": 3, "pp": 2},
            "16 ranks cannot be split into tp=2 × cp=3 × pp=2 (12 does not divide 16); "
            "tp × cp × pp may be 1, 2, 4, 8 or 16; with tp=2, pp=2, cp may be 1, 2 or 4",
        ),
        (
            {"ep": 3},
            "16 ranks cannot be split into etp=1 × ep=3 × pp=1 (3 does not divide 16); "
            "etp × ep × pp may be 1, 2, 4, 8 or 16; with etp=1, pp=1, ep may be "
            "1, 2, 4, 8 or 16",
        ),
        (
            {"tp": 2, "pp": 2, "expert_tp": 3},
            "16 ranks cannot be split into etp=3 × pp=2 (6 does not divide 16); "
            "etp × pp may be 1, 2, 4, 8 or 16; with pp=2, etp may be 1, 2, 4 or 8",
        ),
        (
            {"tp": 4, "pp": 4, "ep": 2},
            "16 ranks cannot be split into etp=4 × ep=2 × pp=4 (32 does not divide 16); "
            "etp × ep × pp may be 1, 2, 4, 8 or 16; with ep=2, pp=4, etp may be 1 or 2; "
            "with etp=4, pp=4, ep may be 1; with etp=4, ep=2, pp may be 1 or 2",
        ),
    ],
)
def test_sizes_that_do_not_divide_the_world_say_what_would(
    sizes: dict[str, int], expected: str
) -> None:
    assert refusal(ParallelLayout, nodes=2, **sizes) == expected


def test_sizes_far_beyond_64_bits_are_refused_not_wrapped() -> None:
    # 2**32 · 2**32 is 0 in 64 bits, and 0 would be a division error.
    assert "does not divide 8" in refusal(ParallelLayout, tp=2**32, pp=2**32)


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("tp-dp-pp-xx", "order 'tp-dp-pp-xx' holds 'xx'; it takes tp, cp, ep, dp, pp, each once"),
        ("tp-a-b", "order 'tp-a-b' holds 'a', 'b'; it takes tp, cp, ep, dp, pp, each once"),
        ("", "order '' holds ''; it takes tp, cp, ep, dp, pp, each once"),
        ("tp dp pp", "order 'tp dp pp' holds 'tp dp pp'; it takes tp, cp, ep, dp, pp, each once"),
        ("tp-dp-pp-tp", "order 'tp-dp-pp-tp' repeats tp"),
        ("pp-tp-dp-pp-tp", "order 'pp-tp-dp-pp-tp' repeats pp, tp"),
        (
            "tp-dp",
            "order 'tp-dp' misses pp, whose size is 4; only axes of size 1 may be left out",
        ),
        (
            "dp-pp",
            "order 'dp-pp' misses tp, whose size is 2; only axes of size 1 may be left out",
        ),
        (
            "tp-pp",
            "order 'tp-pp' misses dp, whose size is 2; only axes of size 1 may be left out",
        ),
        (None, "order must be text such as 'tp-cp-ep-dp-pp', got None"),
        (("tp", "dp"), "order must be text such as 'tp-cp-ep-dp-pp', got ('tp', 'dp')"),
    ],
)
def test_orders_name_each_axis_that_is_cut_once(order: Any, expected: str) -> None:
    assert refusal(ParallelLayout, nodes=2, tp=2, pp=4, order=order) == expected


@pytest.mark.parametrize(
    ("sizes", "missed"),
    [
        ({"cp": 2, "order": "tp-dp-pp"}, "cp, whose size is 2"),
        ({"ep": 4, "order": "tp-dp-pp"}, "ep, whose size is 4"),
        ({"tp": 1, "expert_tp": 2, "order": "dp-pp"}, "tp, whose size is 2"),
        ({"tp": 8, "expert_tp": 1, "order": "tp-pp"}, "dp, whose size is 8"),
    ],
)
def test_orders_name_the_axes_that_only_experts_or_contexts_need(
    sizes: dict[str, Any], missed: str
) -> None:
    assert refusal(ParallelLayout, **sizes) == (
        f"order {sizes['order']!r} misses {missed}; only axes of size 1 may be left out"
    )


def test_with_experts_the_order_ends_in_pp_or_both_grids_have_the_same_dp() -> None:
    assert refusal(ParallelLayout, nodes=2, tp=2, pp=2, ep=2, order=TP_PP_DP_ORDER) == (
        "order 'tp-cp-ep-pp-dp' cannot hold the experts of 16 GPUs = tp 2 × dp 4 × pp 2; "
        "experts: etp 2 × ep 2 × edp 2 × pp 2 (etp=2, ep=2): dp=4 but expert-dp=2: unless pp "
        "comes last, Megatron needs them equal; an order that ends in pp, such as "
        "'tp-cp-ep-dp-pp', fits"
    )
    # The tp of attention turned into ep: dp stays what it was.
    same_dp = ParallelLayout(nodes=2, tp=2, pp=2, ep=2, expert_tp=1, order=TP_PP_DP_ORDER)
    assert same_dp.dp == same_dp.edp == 4


def test_both_grids_need_the_same_pipeline_groups() -> None:
    # With dp = expert-dp only the strides tell: 2 tp ranks come before pp, but 1 etp rank.
    sizes: dict[str, Any] = {"tp": 2, "pp": 2, "ep": 2, "expert_tp": 1, "order": "tp-pp-ep-cp-dp"}
    assert refusal(ParallelLayout, **sizes) == (
        "order 'tp-pp-ep-cp-dp' cannot hold the experts of 8 GPUs = tp 2 × dp 2 × pp 2; "
        "experts: etp 1 × ep 2 × edp 2 × pp 2 (etp=1, ep=2): pipeline group (0, 2) of the dense "
        "layers would be (0, 1) for the experts, and both must be the same; an order that ends "
        "in pp, such as 'tp-cp-ep-dp-pp', fits"
    )


def test_a_dense_layout_may_stand_in_an_order_that_could_hold_no_experts() -> None:
    # Llama 3's own order: right for its dense groups, but Megatron would refuse the expert grid.
    layout = ParallelLayout(nodes=2, tp=2, cp=2, pp=2, order=TP_PP_DP_ORDER)
    assert layout.groups("pp")[0] == (0, 4)
    expected = (
        "order 'tp-cp-ep-pp-dp' cannot hold the experts of 16 GPUs = tp 2 × cp 2 × dp 2 × pp 2 "
        "(etp=2, ep=1): dp=2 but expert-dp=4: unless pp comes last, Megatron needs them equal; "
        "an order that ends in pp, such as 'tp-cp-ep-dp-pp', fits"
    )
    assert refusal(layout.groups, "ep") == expected
    assert refusal(layout.coordinates, 0, "expert") == expected
    assert refusal(layout.rank, ep=0, edp=0, etp=0, pp=0) == expected
    assert refusal(lambda: layout.expert) == expected


def test_experts_of_a_dense_layout_need_dp_in_the_order() -> None:
    # dp = 1, so it may be left out; but expert-dp takes cp's place, and is 2.
    layout = ParallelLayout(tp=2, cp=2, pp=2, order="tp-cp-pp")
    assert "(etp=2, ep=1): it misses dp, and expert-dp=2; an order" in refusal(layout.groups, "ep")


# ---- questions that have no answer


@pytest.mark.parametrize("kind", ["", "TP", "xx", "tp-xx", "tp pp", "model-dp", 3, None, ["tp"]])
def test_unknown_group_kinds_name_the_known_ones(kind: Any) -> None:
    assert refusal(SLIDE.groups, kind) == (
        f"no group kind {kind!r}; kinds: {', '.join(GROUP_KINDS)}"
    )


@pytest.mark.parametrize("kind", ["cp-ep", "ep-cp", "tp-cp-ep", "cp-edp", "etp-cp-pp"])
def test_cp_and_experts_never_share_a_group(kind: str) -> None:
    assert refusal(SLIDE.groups, kind) == (
        f"no group kind {kind!r}: cp and ep never share a grid (cp belongs to the dense layers, "
        f"ep to the experts)"
    )


@pytest.mark.parametrize("query", ["crossings", "nodes_of"])
def test_other_questions_refuse_unknown_kinds_alike(query: str) -> None:
    assert refusal(getattr(SLIDE, query), "xx").startswith("no group kind 'xx'; kinds: tp, pp")


@pytest.mark.parametrize(
    ("rank", "expected"),
    [
        (16, "rank 16 is out of range: 0 … 15"),
        (-1, "rank must be a whole number ≥ 0, got -1"),
        (True, "rank must be a whole number ≥ 0, got True"),
        (1.0, "rank must be a whole number ≥ 0, got 1.0"),
        ("1", "rank must be a whole number ≥ 0, got '1'"),
        (np.array([3, 16]), "rank 16 is out of range: 0 … 15"),
        (np.array([[0.5]]), "rank must be a whole number ≥ 0, got 0.5"),
        (np.array([-1, 3]), "rank must be a whole number ≥ 0, got -1"),
    ],
)
def test_ranks_lie_inside_the_world(rank: Any, expected: str) -> None:
    assert refusal(SLIDE.coordinates, rank) == expected


def test_there_are_two_grids() -> None:
    assert refusal(SLIDE.coordinates, 0, "cube") == "grid must be 'dense' or 'expert', got 'cube'"


@pytest.mark.parametrize(
    ("coordinates", "expected"),
    [
        ({"tp": 2, "dp": 0, "pp": 0}, "tp=2 is out of range: 0 … 1"),
        ({"tp": 0, "dp": 0, "pp": -1}, "pp=-1 is out of range: 0 … 3"),
        ({"tp": 0, "dp": np.array([0, 2]), "pp": 0}, "dp=2 is out of range: 0 … 1"),
        ({"tp": 0.5, "dp": 0, "pp": 0}, "tp must be a whole number or an array of them, got 0.5"),
        ({"tp": "0", "dp": 0, "pp": 0}, "tp must be a whole number or an array of them, got '0'"),
        ({"tp": True, "dp": 0, "pp": 0}, "tp must be a whole number or an array of them, got True"),
        ({"tp": [], "dp": 0, "pp": 0}, "tp must be a whole number or an array of them, got []"),
        ({"tp": 0, "dp": 0, "pp": 0, "xx": 0}, "'xx' is not an axis here; axes: tp, cp, dp, pp"),
        ({"tp": 0, "ep": 0}, "'tp' is not an axis here; axes: etp, ep, edp, pp"),
        ({"tp": 0}, "which dp and pp? 16 GPUs = tp 2 × dp 2 × pp 4 needs it to name one rank"),
    ],
)
def test_coordinates_name_one_rank(coordinates: dict[str, Any], expected: str) -> None:
    assert refusal(SLIDE.rank, **coordinates) == expected


def test_an_empty_array_of_ranks_is_located_as_empty() -> None:
    assert SLIDE.coordinates(np.array([], dtype=np.int64))["tp"].tolist() == []
