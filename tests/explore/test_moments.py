"""The explorer of a recorded step, without a page."""

import pytest
from steps import SLIDE, recorded_events

from mpviz import draw, explore
from mpviz.draw.canvas.scene import Box, Label
from mpviz.timeline import RecordedStep


@pytest.fixture
def explorer():
    return explore.step(recorded_events(), SLIDE)


def cells(picture):
    """What stands in the cell of each rank: its face, and the words inside."""
    scene = picture.scene
    inside = {}
    for box in (box for box in scene.of(Box) if box.rank is not None):
        words = [
            label.text
            for label in scene.of(Label)
            if box.x < label.x < box.x + box.width and box.y < label.y < box.y + box.height
        ]
        inside[box.rank] = (box.face, words)
    return inside


def test_at_first_it_shows_the_whole_step(explorer):
    assert explorer.value is None and cells(explorer.picture) == {}
    assert explorer.picture.text == draw.step(recorded_events(), SLIDE).text
    assert repr(explorer) == "explore.step(events, layout)"
    assert explorer.shown["table"][1:3] == [
        ["tp", "–", "2", "128"],
        ["pp", "–", "1 – 2", "8 – 24"],
    ]


@pytest.mark.parametrize(("time", "kinds"), [(35, {"tp", "pp", None}), (42, {"embedding", None})])
def test_at_a_moment_the_cells_light_up(explorer, time, kinds):
    explorer.time = time
    step = RecordedStep(recorded_events(), SLIDE)
    assert explorer.value == step.at(time / 100 * step.seconds)
    short = {"embedding": "emb"}
    lit = cells(explorer.picture)
    assert len(lit) == 16 and len({face for face, _ in lit.values()}) == len(kinds)
    assert set(explorer.value) == kinds
    for rank, (_, words) in lit.items():
        kind = explorer.value[rank]
        assert words == [str(rank), short.get(kind, kind or "")]
    assert repr(explorer) == f"explore.step(events, layout, time={time})"
    again = eval(repr(explorer), {"explore": explore, "events": recorded_events(), "layout": SLIDE})
    assert again.text == explorer.text
    assert explorer.shown["table"][1][1] != "–"


def test_the_words_that_nbval_compares_hold_no_time():
    later = [draw.step(recorded_events(), SLIDE, at=at).text for at in (0.2, 0.9)]
    assert later == [draw.step(recorded_events(), SLIDE).text] * 2


def test_a_moment_outside_the_step_is_explained(explorer):
    explorer.time = 101
    assert explorer.problem == "time must be 0 … 100 % of the step, got 101"
    assert explorer.shown["fixes"][0]["text"] == "time = 100"
    with pytest.raises(ValueError, match="whole number"):
        explorer.set(time=1.5)
    with pytest.raises(ValueError, match=r"at must be 0 … 1\.3 s, got 2"):
        draw.step(recorded_events(), SLIDE, at=2)


def test_no_events_are_an_error():
    with pytest.raises(ValueError, match="there is no event in this step; was it recorded"):
        explore.step([], SLIDE)
