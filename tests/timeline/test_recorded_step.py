"""A recorded step: the kind of each call, and what a rank puts in."""

from dataclasses import replace

import pytest
from steps import SLIDE, recorded_events

from mpviz import Event, ParallelLayout
from mpviz.timeline import RecordedStep


def kind_of(layout, members, name="all_reduce"):
    rank = members[0]
    (call,) = RecordedStep([Event(rank, name, 0.0, 1.0, members, 8)], layout).calls
    return call.kind


@pytest.mark.parametrize("kind", ["tp", "pp", "dp", "tp-pp", "tp-dp", "embedding"])
def test_a_group_is_told_by_its_members_in_any_order(kind):
    for members in SLIDE.groups(kind):
        assert kind_of(SLIDE, members) == kind_of(SLIDE, members[::-1]) == kind


def test_of_several_names_it_has_that_of_fewest_axes():
    assert kind_of(SLIDE, (0, 2)) == "dp"  # which is dp-cp too
    with_cp = ParallelLayout(nodes=2, tp=2, cp=2, pp=2)
    assert kind_of(with_cp, with_cp.groups("dp-cp")[0]) == "dp-cp"
    assert kind_of(with_cp, with_cp.groups("dp")[0]) == "dp"
    one_copy = ParallelLayout(nodes=2, tp=4, pp=4)
    assert kind_of(one_copy, tuple(range(16))) == "tp-pp"  # which is all ranks
    assert kind_of(ParallelLayout(nodes=1, pp=8), (3,)) == "tp"  # of one rank, as dp is


def test_experts_have_kinds_of_their_own_where_there_is_a_grid_for_them():
    moe = ParallelLayout(nodes=2, tp=2, ep=4)
    assert kind_of(moe, moe.groups("ep")[0]) == "ep"
    dense = ParallelLayout(nodes=2, tp=2, pp=2, cp=2, order="tp-cp-pp-dp")
    assert kind_of(dense, dense.groups("cp")[0]) == "cp"


def test_two_stages_send_along_pp_and_sum_along_embedding():
    layout = ParallelLayout(nodes=2, tp=4, pp=2)
    (pair, *_) = layout.groups("pp")
    assert pair in list(layout.groups("embedding"))
    assert kind_of(layout, pair, "isend") == kind_of(layout, pair, "recv") == "pp"
    assert kind_of(layout, pair) == "embedding"


def test_a_group_that_the_layout_does_not_know_is_the_world_or_another():
    assert kind_of(SLIDE, tuple(range(16))) == "world"
    assert kind_of(SLIDE, (0, 5, 6)) == "other"


@pytest.mark.parametrize("layout", [SLIDE, ParallelLayout(nodes=8, tp=4, pp=4)])
def test_bytes_and_calls_of_each_rank_and_kind(layout):
    step = RecordedStep(recorded_events(layout), layout)
    assert step.kinds == ("tp", "pp", "dp", "embedding")
    for rank in range(layout.world_size):
        stage = layout.coordinates(rank)["pp"]
        ends, sends = stage in (0, 3), stage < 3
        assert step.bytes[rank] == {
            "tp": 128,
            "pp": 8 + 16 * sends,
            "dp": 256,
            "embedding": 32 * ends,
        }
        assert step.counts[rank] == {"tp": 2, "pp": 1 + sends, "dp": 1, "embedding": int(ends)}


def test_time_begins_with_the_first_call_and_not_with_a_barrier_or_a_wait():
    events = [
        Event(0, "barrier", 0.0, 1.0, (0, 1)),
        Event(0, "irecv", 1.0, 9.0, (0, 1), 8, 1),  # waits long: what counts is when it is over
        Event(1, "isend", 7.0, 9.5, (0, 1), 8, 0),
    ]
    step = RecordedStep(events, ParallelLayout(nodes=1, gpus_per_node=2, pp=2))
    assert [(call.rank, call.start, call.end) for call in step.calls] == [(1, 0, 0), (0, 2, 2)]
    assert step.seconds == 2


def test_at_a_moment_a_rank_is_in_its_collective_or_for_a_hundredth_in_a_message():
    step = RecordedStep(recorded_events(), SLIDE)
    assert step.at(0.0) == ("tp",) * 4 + (None,) * 12
    assert step.at(0.15)[:8] == ("tp",) * 8 and set(step.at(0.15)[8:]) == {None}
    assert step.at(0.404)[:4] == ("pp",) * 4  # handed over at 0.4, of 1.3 s
    assert step.at(0.42)[:4] == (None,) * 4
    assert step.at(0.452)[4:8] == ("pp",) * 4  # received at 0.45; from 0.35 to 0.4 they were in tp
    assert step.at(0.55)[:4] == ("embedding",) * 4
    assert step.at(step.seconds) == (None,) * 16
    during = Event(0, "isend", 0.05, 0.1, SLIDE.groups("pp").of(0), 16, 4)
    assert RecordedStep([*recorded_events(), during], SLIDE).at(0.051)[0] == "tp"


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ([], "there is no event in this step; was it recorded"),
        ([Event(0, "barrier", 0.0, 1.0, (0, 1))], "no event but barriers"),
        ([Event(16, "send", 0.0, 1.0, (16, 17))], "rank 16 is out of range: 0 … 15"),
        ([Event(0, "send", 1.0, 0.5, (0, 4))], "ends before it starts, or never"),
        ([Event(0, "send", 1.0, float("inf"), (0, 4))], "ends before it starts, or never"),
        ([Event(0, "send", float("nan"), 1.0, (0, 4))], "ends before it starts, or never"),
    ],
)
def test_what_is_no_recorded_step_is_refused(events, said):
    with pytest.raises(ValueError, match=said):
        RecordedStep(events, SLIDE)


def test_what_nobody_waited_for_lasts_until_the_recording_ends():
    late = [replace(e, end=9.0) if e.name == "all_reduce" else e for e in recorded_events()]
    assert RecordedStep(late, SLIDE).at(5.0)[0] is not None
