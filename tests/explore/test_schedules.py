"""The explorer of pipeline schedules, without a page."""

import time
from importlib import import_module

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpviz import draw, explore, schedule, simulate
from mpviz.explore.schedule import MOST_ACTIONS, check_sizes

explored = import_module("mpviz.explore.schedule")  # whose name in mpviz.explore is a function
KINDS = ("gpipe", "1f1b", "interleaved", "zb-h1", "zb-v")
PLANS = {
    "gpipe": schedule.gpipe,
    "1f1b": schedule.one_forward_one_backward,
    "interleaved": schedule.interleaved_1f1b,
    "zb-h1": schedule.zero_bubble_h1,
    "zb-v": schedule.zero_bubble_v,
}


def shown(explorer):
    return explorer.shown


@pytest.mark.parametrize("kind", KINDS)
def test_it_hands_back_the_plan_and_the_time_line_of_the_picture(kind):
    explorer = explore.schedule(kind, pp=4, microbatches=8)
    assert explorer.value == PLANS[kind](pp=4, microbatches=8)
    share = 1 / explorer.value.chunks
    durations = {"F": share, "B": 2 * share, "I": share, "W": share}
    assert explorer.timeline == simulate(explorer.value, durations)
    title = shown(explorer)["summary"].partition(":")[0]
    assert shown(explorer)["alt"].startswith(title)
    assert explorer.picture.text == draw.timeline(explorer.timeline, title=title).text


def test_all_schedules_of_the_same_sizes_do_the_same_work():
    works = {sum(explore.schedule(kind).timeline.busy) for kind in KINDS}
    assert works == {4 * 8 * 3}


@pytest.mark.parametrize("kind", KINDS)
def test_its_line_brings_it_back(kind):
    explorer = explore.schedule(kind, pp=2, microbatches=6, chunks=3, backward=1.5, time=40)
    again = eval(repr(explorer), {"explore": explore})
    assert again.text == explorer.text
    assert ("chunks" in repr(explorer)) == (kind == "interleaved")


def test_time_shows_who_does_what_now():
    explorer = explore.schedule("gpipe", pp=2, microbatches=1, time=0)
    rows = [row[:2] for row in shown(explorer)["table"]]
    assert rows == [["rank", "at 0"], ["0", "0F0"], ["1", "waits"]]
    explorer.set(time=50)  # of 6
    assert [row[1] for row in shown(explorer)["table"]] == ["at 3", "waits", "1B0"]
    explorer.set(time=None)
    assert [row[1] for row in shown(explorer)["table"]] == ["now", "–", "–"]


def test_the_table_says_how_long_each_rank_works_and_what_it_holds():
    explorer = explore.schedule("1f1b", pp=4, microbatches=8)
    assert [row[2:] for row in shown(explorer)["table"][1:]] == [
        ["73%", "4"], ["73%", "3"], ["73%", "2"], ["73%", "1"]
    ]  # fmt: skip
    explorer.set(kind="zb-v")
    assert {row[3] for row in shown(explorer)["table"][1:]} == {"4"}  # 8 of half the layers
    explorer.set(kind="gpipe", pp=16)
    assert shown(explorer)["table"][-1][0] == "… 8 more"


@pytest.mark.parametrize(
    ("changes", "said", "fix"),
    [
        ({"kind": "interleaved", "microbatches": 6}, "does not divide 6", "microbatches = 8"),
        ({"kind": "zb-v", "pp": 1}, "a V turns back", "pp = 2"),
        ({"kind": "interleaved", "chunks": 1}, "chunks", "stages / rank = 2"),
        ({"pp": 512, "microbatches": 512}, f"up to {MOST_ACTIONS:,}", "microbatches = "),
    ],
)
def test_what_does_not_fit_is_explained_with_what_would(changes, said, fix):
    explorer = explore.schedule()
    explorer.set(**changes)
    assert said in explorer.problem
    assert fix in " ".join(offer["text"] for offer in shown(explorer)["fixes"])
    assert explorer.value == schedule.one_forward_one_backward(pp=4, microbatches=8)
    explorer.set(**shown(explorer)["fixes"][0]["changes"])
    assert explorer.problem is None


@pytest.mark.parametrize(
    ("changes", "fits", "fixes"),
    [
        ({"microbatches": 10**6}, "microbatches up to 25,000 would fit", ["microbatches = 25000"]),
        ({"pp": 10**6}, "pp up to 12,500 would fit", ["pp = 12500"]),
        ({"pp": 10**9, "microbatches": 10**9}, "microbatches × pp may be up to 100,000", []),
        (
            {"kind": "interleaved", "pp": 64, "microbatches": 10**6},
            "microbatches up to 781 would fit",
            ["microbatches = 768"],
        ),
    ],
)
def test_a_size_far_too_large_is_refused_at_once_with_what_would_fit(changes, fits, fixes):
    explorer = explore.schedule()
    began = time.perf_counter()
    explorer.set(**changes)
    assert time.perf_counter() - began < 1
    assert f"the explorer draws up to {MOST_ACTIONS:,}, so {fits}" in explorer.problem
    assert [offer["text"] for offer in shown(explorer)["fixes"]][:-1] == fixes


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pp", [1, 2, 3])
@pytest.mark.parametrize("microbatches", [1, 3, 4])
@pytest.mark.parametrize("chunks", [1, 2])
def test_sizes_are_refused_in_the_words_of_the_plan(kind, pp, microbatches, chunks):
    sizes = {"pp": pp, "microbatches": microbatches}
    of_plan = sizes | ({"chunks": chunks} if kind == "interleaved" else {})

    def refusal(call, *given, **named):
        try:
            call(*given, **named)
        except ValueError as error:
            return str(error)
        return None

    found = refusal(check_sizes, {**sizes, "kind": kind, "chunks": chunks})
    assert found == refusal(PLANS[kind], **of_plan)


@pytest.fixture
def made(monkeypatch):
    """The kinds of the plans that were made, one after the other."""
    kinds = []
    for kind, row in list(explored._KINDS.items()):

        def noted(kind=kind, make=row.plan, **sizes):
            kinds.append(kind)
            return make(**sizes)

        monkeypatch.setitem(explored._KINDS, kind, row._replace(plan=noted))
    return kinds


def test_ways_out_are_found_without_making_plans(made):
    explorer = explore.schedule("interleaved", pp=8, microbatches=8, chunks=8)
    explorer.set(microbatches=500)
    assert explorer.problem and shown(explorer)["fixes"]
    explorer.set(pp=64, microbatches=512)
    assert f"up to {MOST_ACTIONS:,}" in explorer.problem
    assert made == ["interleaved"]


def test_another_moment_needs_no_other_plan(made):
    explorer = explore.schedule("gpipe", pp=2, microbatches=3)
    plan, timeline = explorer.value, explorer.timeline
    for changes in ({"time": 10}, {"time": 20}, {"chunks": 3}, {"time": None}):
        explorer.set(**changes)
    assert explorer.value is plan and explorer.timeline is timeline
    assert made == ["gpipe"]
    for changes in ({"backward": 1.0}, {"microbatches": 4}, {"kind": "interleaved"}):
        explorer.set(**changes)
        assert explorer.timeline == explore.schedule(**explorer.settings).timeline
    assert explorer.value == schedule.interleaved_1f1b(pp=2, microbatches=4, chunks=3)
    explorer.set(chunks=2)
    assert explorer.value.chunks == 2


def test_what_does_not_fit_leaves_plan_and_time_line_as_they_were():
    explorer = explore.schedule("zb-v", pp=2, microbatches=4)
    timeline = explorer.timeline
    explorer.set(pp=1)
    assert explorer.problem and explorer.timeline is timeline
    explorer.set(pp=2, time=50)
    assert explorer.problem is None and explorer.timeline is timeline


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kind": "2f2b"}, "kind must be 'gpipe', '1f1b'"),
        ({"kind": []}, "kind must be 'gpipe', '1f1b'"),
        ({"backward": True}, "backward must be a number of forwards"),
        ({"pp": 0}, "pp must be a whole number ≥ 1, got 0"),
        ({"backward": -1}, "backward must be a number of forwards"),
        ({"backward": "long"}, "backward must be a number of forwards"),
        ({"time": 101}, "time is a percentage of all"),
        ({"time": -5}, "time must be a whole number ≥ 0"),
        ({"dp": 2}, "no control named dp"),
    ],
)
def test_what_no_control_could_say_is_an_error(changes, said):
    explorer = explore.schedule()
    with pytest.raises(ValueError, match=said):
        explorer.set(**changes)
    assert not explorer.moved


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.integers(1, 8),
    st.integers(1, 20),
    st.integers(1, 4),
    st.sampled_from([1.0, 2.0, 3.0, 0.7]),
    st.none() | st.integers(0, 100),
)
def test_any_settings_end_in_a_picture_or_an_explanation(kind, pp, m, chunks, backward, time):
    explorer = explore.schedule()
    explorer.set(kind=kind, pp=pp, microbatches=m, chunks=chunks, backward=backward, time=time)
    if explorer.problem:
        with pytest.raises(ValueError) as refusal:
            sizes = {"chunks": chunks} if kind == "interleaved" else {}
            PLANS[kind](pp=pp, microbatches=m, **sizes)
        assert explorer.problem == str(refusal.value)
    else:
        assert explorer.value.pp == pp and explorer.value.microbatches == m
        assert shown(explorer)["code"] == repr(eval(repr(explorer), {"explore": explore}))
