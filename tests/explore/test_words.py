"""The words beside a picture, and what messages cost."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import layouts

from mpviz import ParallelLayout, cost, presets
from mpviz.explore import words


def row(layout, kind):
    (found,) = [row for row in words.table(layout) if row[0].endswith(f" {kind}")]
    return found


@settings(max_examples=60, deadline=None)
@given(layouts)
def test_every_row_counts_its_groups_and_those_that_leave_their_node(layout):
    for counted, size, leaving, _, _ in words.table(layout)[1:]:
        count, kind = counted.split()
        groups = layout.groups(kind)
        assert int(count.replace(",", "")) == len(groups)
        assert int(size.replace(",", "")) == groups.size
        crossing = len(layout.crossings(kind))
        assert leaving.replace(",", "").split()[-1] == (
            "none" if not crossing else f"{crossing if crossing == len(groups) else len(groups)}"
        )


def test_axes_that_do_not_exist_get_no_row():
    kinds = [row[0].split()[1] for row in words.table(presets.SLIDE.layout)[1:]]
    assert kinds == ["tp", "dp", "pp"]
    moe = ParallelLayout(nodes=2, tp=2, cp=2, pp=2, ep=4)
    assert [row[0].split()[1] for row in words.table(moe)[1:]] == [
        *("tp", "cp", "dp-cp", "pp", "ep", "edp")
    ]


def test_a_group_of_one_carries_nothing():
    assert row(ParallelLayout(nodes=1, tp=8), "dp")[3:] == ("nothing", "–")


def test_members_on_one_node_share_the_way_out():
    times = [row(ParallelLayout(nodes=4, tp=tp), "dp")[4] for tp in (8, 4, 2, 1)]
    assert times == ["30 ms", "15 ms", "7.5 ms", "3.9 ms"]


def test_uneven_groups_are_judged_by_the_one_that_is_spread_most():
    wide = ParallelLayout(nodes=2, gpus_per_node=72, tp=16)
    assert row(wide, "tp")[2] == "⇄ 1 of 9"
    assert row(wide, "tp")[4] == f"{1000 * cost.all_reduce_seconds(1e9, 16, nodes=2):.2g} ms"


# ---- cost


def simulated_all_reduce(nodes, on_one):
    """Bytes that each rank of a step-by-step all-reduce of 1 byte moves inside and between nodes.

    Reduce-scatter in each node, a ring over the nodes for every part, all-gather in each node.
    """
    inside = between = 0.0
    inside += (on_one - 1) * (1 / on_one)  # reduce-scatter: a part to each of the others
    part = 1 / on_one
    for _step in range(2 * (nodes - 1)):  # a ring over the nodes, in pieces of part / nodes
        between += part / nodes
    inside += (on_one - 1) * (1 / on_one)
    return inside, between


@given(st.integers(1, 40), st.integers(1, 16))
def test_the_best_all_reduce_is_the_slower_of_its_two_levels_counted_step_by_step(nodes, on_one):
    inside, between = simulated_all_reduce(nodes, on_one)
    expected = max(inside / 450e9, between / 50e9)
    assert cost.all_reduce_seconds(1, nodes * on_one, nodes) == pytest.approx(expected)


def test_an_all_gather_is_half_an_all_reduce():
    assert cost.all_gather_seconds(8e9, 16, 4) == cost.all_reduce_seconds(8e9, 16, 4) / 2


@given(st.integers(1, 20), st.integers(1, 16))
def test_an_all_to_all_counts_each_pair_of_ranks(nodes, on_one):
    ranks = nodes * on_one
    near = sum(1 / ranks for other in range(1, ranks) if other < on_one)
    far = sum(1 / ranks for other in range(1, ranks) if other >= on_one)
    expected = max(near / 450e9, far / 50e9)
    assert cost.all_to_all_seconds(1, ranks, nodes) == pytest.approx(expected)


@pytest.mark.parametrize(
    "what", [cost.all_reduce_seconds, cost.all_gather_seconds, cost.all_to_all_seconds]
)
def test_more_nodes_than_ranks_are_refused(what):
    with pytest.raises(ValueError, match="2 ranks cannot be on 3 nodes; nodes may be 1 … 2"):
        what(1e9, 2, 3)
