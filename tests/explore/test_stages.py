"""The explorer of ZeRO's stages, without a page."""

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpviz import cost, draw, explore
from mpviz.draw.canvas.scene import Box

STAGES = [f"stage {stage}" for stage in range(4)]


def offered(explorer, name):
    (control,) = (each for each in explorer.controls if each["name"] == name)
    return control


def test_the_papers_figure_is_one_setting():
    explorer = explore.zero()
    assert [row[2] for row in explorer.shown["table"][1:]] == [
        *("120 GB", "31.4 GB", "16.6 GB", "1.88 GB")
    ]
    assert [row[4].partition(":")[0] for row in explorer.shown["table"][1:]] == [
        *("2Ψ × 63/64", "2Ψ × 63/64", "2Ψ × 63/64", "3Ψ × 63/64")
    ]
    assert repr(explorer) == "explore.zero(billions=7.5)"


@pytest.mark.parametrize("stage", range(4))
@pytest.mark.parametrize("precision", cost.PRECISIONS)
def test_it_hands_back_what_it_draws(stage, precision):
    explorer = explore.zero(13, dp=8, stage=stage, precision=precision, memory=141)
    states = [cost.zero(13_000_000_000, 8, each, precision) for each in range(4)]
    assert explorer.value == states[stage]
    kinds = ("weights", "gradients", "optimizer")
    expected = draw.memory(
        {
            name: {kind: getattr(state, kind) for kind in kinds}
            for name, state in zip(STAGES, states, strict=True)
        },
        sent={name: state.sent_bytes for name, state in zip(STAGES, states, strict=True)},
        chosen=STAGES[stage],
        capacity=141e9,
        title="13 billion parameters, 8 copies: what a rank holds",
    )
    assert explorer.picture.scene == expected.scene
    assert explorer.shown["alt"] == expected.text
    again = eval(repr(explorer), {"explore": explore})
    assert again.text == explorer.text and again.settings == explorer.settings


def test_dragging_the_stage_moves_the_mark_and_leaves_the_scale():
    explorer = explore.zero(7.5, dp=64)
    widths = [box.width for box in explorer.picture.scene.of(Box)]
    for stage in range(4):
        explorer.stage = stage
        assert [box.width for box in explorer.picture.scene.of(Box)] == pytest.approx(widths)
        marked = [row[0] for row in explorer.shown["table"] if row[0].startswith("▸")]
        assert marked == [f"▸ stage {stage}"]
        assert explorer.shown["summary"].startswith(
            f"7.5 billion parameters, 64 copies, stage {stage}: a rank holds "
        )
        assert explorer.value.total == cost.zero(7_500_000_000, 64, stage).total
    assert offered(explorer, "stage")["values"] == [0, 1, 2, 3]


@pytest.mark.parametrize("memory", [40, 80, 141, 192])
@pytest.mark.parametrize("dp", [1, 3, 64])
def test_the_table_says_what_fits_and_from_how_many_copies(memory, dp):
    explorer = explore.zero(70, dp=dp, memory=memory)
    for stage, row in enumerate(explorer.shown["table"][1:]):
        fits = [
            n for n in range(1, 1000) if cost.zero(70_000_000_000, n, stage).total <= memory * 1e9
        ]
        said = "yes" if dp in fits else f"from dp {fits[0]}" if fits else "with no dp"
        assert row[3] == said
        explorer.stage = stage
        summary = explorer.shown["summary"]
        assert ("which fits into" in summary) == (dp in fits)
        assert ("more than its GPU has" in summary) == (dp not in fits)
    assert explorer.shown["table"][0][3] == f"fits {memory} GB"


def test_one_copy_sends_nothing_and_cuts_nothing():
    rows = explore.zero(1, dp=1, precision="bf16").shown["table"][1:]
    assert {row[1:] for row in map(tuple, rows)} == {("2 + 4 + 12", "18 GB", "yes", "nothing")}


def test_the_bytes_for_each_parameter_are_those_a_rank_holds():
    for precision in cost.PRECISIONS:
        for stage, row in enumerate(explore.zero(1, dp=8, precision=precision).shown["table"][1:]):
            parts = [part.partition("/") for part in row[1].split(" + ")]
            each = sum(int(size) / int(shares or 1) for size, _, shares in parts)
            assert each * 10**9 == cost.zero(10**9, 8, stage, precision).total


def test_controls_have_a_stop_where_they_stand():
    explorer = explore.zero(6.7, dp=100, memory=24)
    assert 6.7 in offered(explorer, "billions")["values"]
    assert 100 in offered(explorer, "dp")["values"]
    assert [each["text"] for each in offered(explorer, "memory")["options"]] == [
        *("24 (your own)", "40 (A100)", "80 (A100, H100)", "141 (H200)", "192 (B200, MI300X)")
    ]
    assert [each["value"] for each in offered(explorer, "precision")["options"]] == [
        *cost.PRECISIONS
    ]


BAD = [
    ({"billions": 0}, "billions must be a number 0.001 … 100,000, got 0"),
    ({"billions": True}, "billions must be a number 0.001 … 100,000, got True"),
    ({"billions": "7B"}, "billions must be a number 0.001 … 100,000, got '7B'"),
    ({"memory": 10**6}, "memory must be a number 0.001 … 100,000, got 1000000"),
    ({"dp": 0}, "dp must be a whole number ≥ 1, got 0"),
    ({"dp": 1_000_000}, "dp must be 1 … 131,072, got 1,000,000"),
    ({"stage": 4}, "stage must be 0, 1, 2 or 3, got 4"),
    ({"stage": -1}, "stage must be a whole number ≥ 0, got -1"),
    ({"stage": None}, "stage must be a whole number ≥ 0, got None"),
    ({"precision": "fp8"}, "precision must be 'mixed', 'bf16', 'fp16' or 'fp32', got 'fp8'"),
]


@pytest.mark.parametrize(("changes", "said"), BAD)
def test_what_does_not_fit_is_explained_and_the_picture_stays(changes, said):
    explorer = explore.zero(stage=2)
    for name, value in changes.items():
        setattr(explorer, name, value)
    assert explorer.problem == said
    assert explorer.value == cost.zero(7_500_000_000, 64, 2)
    (back,) = explorer.shown["fixes"]
    explorer.set(**back["changes"])
    assert explorer.problem is None
    with pytest.raises(ValueError, match=re.escape(said)):
        explorer.set(**changes)
    with pytest.raises(ValueError, match=re.escape(said)):
        explore.zero(**changes)


moves = st.one_of(
    st.tuples(st.just("billions"), st.sampled_from([0.001, 0.1, 7.5, 1000, 100_000, 0, -1])),
    st.tuples(st.just("dp"), st.integers(-1, 2000) | st.just(131_072)),
    st.tuples(st.just("stage"), st.integers(-1, 4)),
    st.tuples(st.just("precision"), st.sampled_from([*cost.PRECISIONS, "fp8"])),
    st.tuples(st.just("memory"), st.sampled_from([24, 80, 192, 0, 0.5])),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(moves, max_size=8))
def test_any_moves_end_in_a_picture_or_a_reason(several):
    explorer = explore.zero()
    for name, value in several:
        setattr(explorer, name, value)
        fresh = eval(repr(explorer), {"explore": explore})
        assert explorer.text.startswith(fresh.picture.text)
        assert explorer.problem or explorer.settings == fresh.settings
        json.dumps([explorer.shown, explorer.controls, explorer.settings])


def test_it_is_recorded_with_its_menu(tmp_path):
    explorer = explore.zero()
    page = explorer.save(tmp_path / "zero.html").read_text(encoding="utf-8")
    assert len(page) < 600_000 and explorer.store in page
