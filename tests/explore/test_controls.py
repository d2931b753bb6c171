"""Stops of sliders, and the nearest sizes that fit."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpviz import ParallelLayout
from mpviz.explore.controls import notches
from mpviz.explore.sizes import order_menu
from mpviz.fitting import SIZES, nearest


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_notches_rise_and_hold_every_small_size_each_power_of_two_and_where_it_stands(most, here):
    stops = notches(most, here)
    assert list(stops) == sorted(set(stops))
    assert {*range(1, min(most, 16) + 1), here} <= set(stops)
    assert {2**k for k in range(13) if 2**k <= most} <= set(stops)
    assert max(stops) <= max(most, here)


@given(st.integers(16, 5000))
def test_neighbouring_notches_are_never_further_apart_than_an_eighth(most):
    stops = [stop for stop in notches(most) if stop >= 8]
    assert all(right <= left * 9 / 8 for left, right in pairwise(stops))


def test_an_order_of_ones_own_joins_the_menu():
    assert "ep-dp-pp-cp-tp" in [
        value for _, value in order_menu("order", "", "ep-dp-pp-cp-tp").options
    ]


sizes = st.fixed_dictionaries(
    {
        **{name: st.integers(1, 12) for name in ("tp", "pp", "cp", "ep")},
        "nodes": st.integers(1, 40),
        "gpus_per_node": st.sampled_from([1, 3, 4, 8, 72]),
        "order": st.sampled_from(["tp-cp-ep-dp-pp", "tp-cp-ep-pp-dp", "pp-dp-ep-cp-tp"]),
    }
)


@given(sizes, st.sampled_from(SIZES))
def test_every_way_out_leads_to_a_layout_by_one_change(wanted, moved):
    for name, value in nearest(wanted, moved=moved):
        assert wanted[name] != value
        ParallelLayout(**{**wanted, name: value})


@given(sizes, st.sampled_from(SIZES))
def test_no_nearer_value_of_the_moved_size_is_passed_over(wanted, moved):
    offered = [value for name, value in nearest(wanted, moved=moved, most=20) if name == moved]
    for value in range(1, 80):
        between = any(abs(value - wanted[moved]) < abs(other - wanted[moved]) for other in offered
                      if (other > wanted[moved]) == (value > wanted[moved]))  # fmt: skip
        if value != wanted[moved] and between:
            with pytest.raises(ValueError):
                ParallelLayout(**{**wanted, moved: value})


def test_the_moved_size_comes_first_and_the_size_of_a_node_last():
    wanted = {"nodes": 2, "gpus_per_node": 8, "tp": 3, "pp": 4}
    assert [name for name, _ in nearest(wanted, moved="tp", most=9)][:3] == ["tp", "tp", "nodes"]
    assert [name for name, _ in nearest(wanted, moved="tp", most=9)][-1] == "gpus_per_node"


def test_no_more_gpus_are_proposed_than_can_be_drawn():
    wanted = {"nodes": 2, "gpus_per_node": 8, "tp": 3, "pp": 4}
    assert ("nodes", 3) not in nearest(wanted, moved="tp", most_gpus=16, most=9)


def test_an_order_that_cannot_hold_the_experts_gives_way_first():
    wanted = {"nodes": 2, "tp": 2, "pp": 2, "cp": 2, "ep": 4, "order": "tp-cp-ep-pp-dp"}
    assert nearest(wanted)[0] == ("order", "tp-cp-ep-dp-pp")
