"""The explorer of collectives, without a page."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpviz import draw, explore, schedule


@pytest.mark.parametrize("name", schedule.ALGORITHMS)
@pytest.mark.parametrize("step", [0, 1, 3])
def test_it_shows_the_step_of_the_plan(name, step):
    explorer = explore.collective(name, ranks=4, step=step)
    assert explorer.value == schedule.collective(name, 4)
    assert explorer.picture.text == draw.collective(explorer.value, step).text
    again = eval(repr(explorer), {"explore": explore})
    assert again.text == explorer.text


def test_the_table_says_who_sends_to_whom_and_bytes_so_far():
    explorer = explore.collective("all_reduce", ranks=4, step=6)
    assert explorer.shown["table"][1:] == [
        [str(rank), str((rank + 1) % 4), str((rank - 1) % 4), "1,500 MB"] for rank in range(4)
    ]
    explorer.step = 0
    assert explorer.shown["table"][1] == ["0", "–", "–", "0 MB"]
    tree = explore.collective("broadcast", ranks=4, algorithm="tree", step=2)
    assert [row[3] for row in tree.shown["table"][1:]] == ["2,000 MB", "1,000 MB", "0 MB", "0 MB"]


def test_the_menu_of_algorithms_is_the_collectives_own_and_steps_end_with_the_last():
    explorer = explore.collective("all_reduce", ranks=8, algorithm="tree", step=6)

    def offered(name):
        (control,) = (each for each in explorer.controls if each["name"] == name)
        return control

    explorer.name = "all_to_all"
    assert (explorer.algorithm, explorer.step) == ("direct", 6) and explorer.problem is None
    assert [option["value"] for option in offered("algorithm")["options"]] == ["direct"]
    assert (offered("step")["least"], offered("step")["most"]) == (0, 7) and offered("step")[
        "plays"
    ]
    explorer.ranks = 2
    assert (explorer.step, offered("step")["most"]) == (1, 1)
    explorer.ranks = 1
    assert (explorer.step, explorer.problem) == (0, None)


@pytest.mark.parametrize(
    ("changes", "said", "fixes"),
    [
        ({"ranks": 6}, "must be a power of two, got 6", ["ranks = 4", "algorithm = ring"]),
        ({"ranks": 16}, "draws up to 8 ranks, got 16", ["ranks = 8"]),
        ({"step": 99}, "step must be 0 … 6, got 99", ["step = 6"]),
        ({"algorithm": "direct"}, "no algorithm 'direct' for all_reduce", ["algorithm = ring"]),
        ({"algorithm": "star"}, "algorithm must be 'ring'", []),
        ({"name": "reduce"}, "name must be 'broadcast'", []),
        ({"ranks": 0}, "ranks must be a whole number ≥ 1", []),
    ],
)
def test_what_does_not_fit_is_explained_with_what_would(changes, said, fixes):
    explorer = explore.collective("all_reduce", ranks=8, algorithm="halving_doubling", step=2)
    plan = explorer.value
    for name, value in changes.items():
        setattr(explorer, name, value)
    assert said in explorer.problem and explorer.value == plan
    offers = explorer.shown["fixes"]
    assert [offer["text"] for offer in offers[: len(fixes)]] == fixes
    for offer in offers:
        explorer.set(**offer["changes"])
        assert explorer.problem is None


def test_what_does_not_fit_at_first_is_refused():
    with pytest.raises(ValueError, match="no algorithm 'tree' for all_gather"):
        explore.collective("all_gather", algorithm="tree")
    with pytest.raises(ValueError, match="no collective 'reduce' here"):
        explore.collective("reduce")


moves = st.one_of(
    st.tuples(st.just("name"), st.sampled_from(sorted(schedule.ALGORITHMS))),
    st.tuples(st.just("ranks"), st.integers(1, 9)),
    st.tuples(st.just("step"), st.integers(0, 15)),
    st.tuples(st.just("algorithm"), st.sampled_from(["ring", "tree", "direct"])),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(moves, max_size=8))
def test_any_moves_show_a_step_or_a_reason(several):
    explorer = explore.collective()
    for name, value in several:
        setattr(explorer, name, value)
        fresh = draw.collective(explorer.value, explorer._good["step"])
        assert explorer.picture.text == fresh.text
        assert explorer.problem or explorer.settings == explorer._good
        json.dumps([explorer.shown, explorer.controls, explorer.settings])


def test_it_is_recorded_for_every_number_of_ranks(tmp_path):
    explorer = explore.collective("all_reduce", ranks=4, step=2)
    page = explorer.save(tmp_path / "ring.html").read_text(encoding="utf-8")
    assert len(page) < 600_000 and explorer.store in page
