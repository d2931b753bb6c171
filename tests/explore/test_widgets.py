"""An explorer among the widgets of ipywidgets: traits, observers, links, views, saved state."""

import json

import pytest
import traitlets
from IPython.core.interactiveshell import InteractiveShell
from ipywidgets import HTML, DOMWidget, IntSlider, VBox, link

from mpviz import ParallelLayout, explore, presets
from mpviz.explore.explorer import Setting

SLIDE = presets.SLIDE.layout
MAKERS = [explore.layout, explore.compare, explore.schedule]


@pytest.fixture(params=MAKERS, ids=lambda make: make.__name__)
def explorer(request):
    return request.param()


def test_it_has_a_synced_trait_for_each_setting(explorer):
    own = {name for name, trait in explorer.traits().items() if isinstance(trait, Setting)}
    assert own == set(explorer.settings) and own <= set(explorer.keys)
    assert {name: getattr(explorer, name) for name in own} == explorer.settings


def test_no_setting_takes_the_name_of_a_trait_that_widgets_have(explorer):
    assert not set(explorer.settings) & set(DOMWidget.class_traits())
    assert explorer.layout is VBox([explorer]).children[0].layout  # of CSS, as in every widget


def test_a_trait_that_is_assigned_to_moves_the_explorer():
    explorer = explore.layout(SLIDE)
    explorer.tp = 4
    assert explorer.value == ParallelLayout(nodes=2, tp=4, pp=4)
    assert explorer.shown["settings"]["tp"] == 4 and "tp=4" in explorer.shown["code"]


def test_the_value_is_what_is_shown():
    assert explore.layout(SLIDE).value == SLIDE
    assert [layout.order for layout in explore.compare().value] == [
        "tp-cp-ep-dp-pp",
        "tp-cp-ep-pp-dp",
    ]
    assert explore.schedule("gpipe", pp=2, microbatches=3).value.pp == 2


def test_observers_see_settings_value_and_problem_agree():
    explorer, seen = explore.layout(SLIDE), []

    def look(change):
        seen.append((change.name, explorer.tp, explorer.value.tp, explorer.problem is None))

    explorer.observe(look, ["tp", "value", "problem"])
    explorer.asked = {"number": 1, "changes": {"tp": 4}}  # from the page
    assert sorted(seen) == [("tp", 4, 4, True), ("value", 4, 4, True)]
    seen.clear()
    explorer.tp = 3
    assert sorted(seen) == [("problem", 3, 4, False), ("tp", 3, 4, False)]


def test_the_value_is_observed_only_when_another_one_is_shown():
    explorer, seen = explore.layout(SLIDE), []
    explorer.observe(lambda change: seen.append(change.new), "value")
    explorer.focus = 3
    explorer.tp = 3
    assert seen == []
    explorer.tp = 4
    assert seen == [ParallelLayout(nodes=2, tp=4, pp=4)]


def test_an_observer_may_make_the_next_move():
    explorer = explore.layout(SLIDE)
    explorer.observe(lambda change: setattr(explorer, "pp", 8 // explorer.tp), "tp")
    explorer.asked = {"number": 1, "changes": {"tp": 4}}
    assert (explorer.tp, explorer.pp, explorer.value.pp) == (4, 2, 2)
    assert explorer.shown["settings"]["pp"] == 2


def test_a_link_moves_both_ways_and_explains_what_does_not_fit():
    explorer, slider = explore.layout(SLIDE), IntSlider(min=0, max=16)
    link((explorer, "tp"), (slider, "value"))
    assert slider.value == 2
    slider.value = 4
    assert explorer.value.tp == 4
    explorer.set(tp=1)
    assert slider.value == 1
    for value, said in ((3, "cannot be split into tp=3"), (0, "tp must be a whole number ≥ 1")):
        slider.value = value
        assert said in explorer.problem and explorer.value.tp == 1 and explorer.tp == value
    slider.value = 2
    assert explorer.problem is None and explorer.value == SLIDE


def test_a_problem_can_be_shown_elsewhere():
    explorer, words = explore.layout(SLIDE), HTML()
    traitlets.dlink((explorer, "problem"), (words, "value"), lambda problem: problem or "fits")
    explorer.pp = 3
    assert "pp=3" in words.value
    explorer.pp = 2
    assert words.value == "fits"


def test_several_settings_at_once_are_one_move():
    explorer, problems = explore.layout(nodes=1, tp=8), []
    explorer.observe(lambda change: problems.append(change.new), "problem")
    with explorer.hold_trait_notifications():
        explorer.tp, explorer.pp = 2, 4  # neither tp 8 × pp 4 nor tp 2 × pp 1 is asked for
    assert explorer.value == ParallelLayout(nodes=1, tp=2, pp=4) and problems == []
    explorer.set_state({"tp": 8, "pp": 1})  # as a page does, of links made there
    assert explorer.value == ParallelLayout(nodes=1, tp=8) and problems == []


def test_an_observer_that_raises_keeps_nothing_from_the_page():
    explorer, sent = explore.layout(SLIDE), {}
    explorer.comm.send = lambda data, buffers: sent.update(data["state"])
    explorer.observe(lambda change: 1 / 0, ["tp", "preset", "value"])
    with pytest.raises(ZeroDivisionError):
        explorer.set_state({"asked": {"number": 7, "changes": {"tp": 4}}})
    assert sent["shown"]["answers"] == 7 and sent["shown"]["settings"]["tp"] == 4
    assert sent["scene"] == explorer.scene and explorer.value.tp == 4


@pytest.mark.parametrize("value", [[1], {"a": 1}, float("nan")])
def test_what_no_control_sends_is_refused_and_the_next_question_answered(value):
    explorer = explore.layout(SLIDE)
    with pytest.raises(ValueError, match="tp must be a number, a text or None"):
        explorer.asked = {"number": 1, "changes": {"pp": 2, "tp": value}}
    assert explorer.value == SLIDE and explorer.settings["pp"] == explorer.pp == 4
    explorer.asked = {"number": 2, "changes": {"unheard_of": 1, "tp": 4}}
    assert explorer.value.tp == 4 and "unheard_of" not in explorer.settings
    explorer.asked = {}
    assert explorer.problem is None


def test_a_number_of_another_kind_that_is_equal_is_no_change():
    explorer = explore.layout(SLIDE)
    explorer.tp = 2.0
    assert type(explorer.tp) is int and explorer.problem is None
    explorer.tp = 4.0
    assert explorer.problem == "tp must be a whole number ≥ 1, got 4.0"


NONSENSE = ("two", "", -1, 0, 2.5, 1e300, 10**30, True, None)


def test_no_number_and_no_text_assigned_is_ever_an_error(explorer):
    for name in explorer.settings:
        if name == "preset":
            continue
        here = getattr(explorer, name)
        for value in NONSENSE:
            setattr(explorer, name, value)
            assert getattr(explorer, name) == value
            json.dumps(explorer.get_state(), default=repr)
            assert (explorer.problem is None) == (explorer.shown["problem"] == "")
        setattr(explorer, name, here)
        assert explorer.problem is None, name


def test_nothing_follows_from_nonsense():
    explorer = explore.layout(SLIDE, focus=15)
    explorer.nodes = "two"
    assert (
        explorer.problem == "nodes must be a whole number ≥ 1, got 'two'" and explorer.focus == 15
    )
    explorer.nodes = 1
    assert explorer.problem is None and explorer.focus == 7


@pytest.mark.parametrize("value", [[], {}, object(), float("nan"), float("inf"), 1j])
def test_what_no_page_could_send_is_an_error_and_changes_nothing(explorer, value):
    name = next(iter(explorer.settings.keys() - {"preset"}))
    before = explorer.settings
    with pytest.raises(ValueError, match=f"{name} must be a number, a text or None"):
        setattr(explorer, name, value)
    assert explorer.settings == before and getattr(explorer, name) == before[name]


def test_value_and_problem_cannot_be_assigned_to(explorer):
    for name in ("value", "problem", "shown", "scene"):
        with pytest.raises(traitlets.TraitError):
            setattr(explorer, name, None)


def test_its_state_can_be_saved_as_json_and_holds_all_that_a_page_shows(explorer):
    state = json.loads(json.dumps(explorer.get_state(), default=repr))
    assert state["shown"]["alt"] == explorer.picture.text
    assert state["scene"]["labels"] and state["glyphs"]
    written = {row[2] for row in state["scene"]["labels"]}
    names = {name.removesuffix("*") or "*" for name in state["glyphs"]}
    assert set("".join(written)) <= names


def test_a_move_is_one_message():
    explorer, sent = explore.layout(SLIDE), []
    explorer.comm.send = lambda data, buffers: sent.append(data["state"].keys())
    explorer.set_state({"asked": {"number": 1, "changes": {"tp": 4}}})
    assert len(sent) == 1 and {"tp", "shown", "scene"} <= sent[0]


# ---- without an explorer: interact around draw


def test_sizes_that_do_not_fit_are_shown_in_brief_with_the_line_that_led_there(capsys):
    shell = InteractiveShell()
    shell.run_cell("from mpviz import ParallelLayout")
    result = shell.run_cell("def grid(tp):\n    return ParallelLayout(tp=tp)\ngrid(3)")
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("ValueError: 8 ranks cannot be split into tp=3")
    assert said[1:] == ["at line 2: return ParallelLayout(tp=tp)"]
    assert type(result.error_in_exec) is ValueError
