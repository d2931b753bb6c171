"""The text twin says what the picture shows, and changes whenever that does."""

import re
from collections import Counter

import pytest
from hypothesis import given, settings
from strategies import layouts

from mpviz import ParallelLayout, draw, presets, shards
from mpviz.draw.canvas.scene import Raster
from mpviz.rankgrid import Groups

SLIDE = presets.SLIDE.layout


def test_the_slide_in_characters():
    assert draw.grid(SLIDE).text.splitlines() == [
        "16 GPUs = tp 2 × dp 2 × pp 4",
        "              pp 0  pp 1  pp 2   pp 3",
        "model₁  tp 0  ★₁ 0  ⊕₁ 4  □₁ 8   ⊠₁ 12",
        "        tp 1  △₁ 1  ⋈₁ 5  #₁ 9   ○₁ 13",
        "model₂  tp 0  ★₂ 2  ⊕₂ 6  □₂ 10  ⊠₂ 14",
        "        tp 1  △₂ 3  ⋈₂ 7  #₂ 11  ○₂ 15",
    ]


def test_a_copy_is_a_dp_coordinate_and_its_cp_ranks_are_named():
    # dp=2: two models, each the work of cp=2 times tp=2 ranks.
    assert draw.grid(ParallelLayout(nodes=1, tp=2, cp=2)).text.splitlines() == [
        "8 GPUs = tp 2 × cp 2 × dp 2 × pp 1",
        "                    pp 0",
        "model₁  cp 0, tp 0  ★₁ 0",
        "        cp 0, tp 1  ⊕₁ 1",
        "        cp 1, tp 0  ★₁ 2",
        "        cp 1, tp 1  ⊕₁ 3",
        "model₂  cp 0, tp 0  ★₂ 4",
        "        cp 0, tp 1  ⊕₂ 5",
        "        cp 1, tp 0  ★₂ 6",
        "        cp 1, tp 1  ⊕₂ 7",
    ]


def test_the_machines_in_characters():
    assert draw.cluster(SLIDE).text.splitlines()[1:] == [
        "node 0  ★₁ 0  △₁ 1  ★₂ 2   △₂ 3   ⊕₁ 4   ⋈₁ 5   ⊕₂ 6   ⋈₂ 7",
        "node 1  □₁ 8  #₁ 9  □₂ 10  #₂ 11  ⊠₁ 12  ○₁ 13  ⊠₂ 14  ○₂ 15",
    ]


def test_only_one_group_in_characters():
    assert draw.groups(SLIDE, "dp", focus=0).text.splitlines() == [
        "Look only at GPUs 0 2: one of 8 dp groups of 2",
        "              pp 0    pp 1  pp 2  pp 3",
        "model₁  tp 0  ★₁ 0 a  ·     ·     ·",
        "        tp 1  ·       ·     ·     ·",
        "model₂  tp 0  ★₂ 2 a  ·     ·     ·",
        "        tp 1  ·       ·     ·     ·",
        "a  0 2",
        "0 of 8 dp groups cross nodes",
    ]


@pytest.mark.parametrize("kind", ["tp", "dp", "pp", "tp-pp", "embedding"])
@pytest.mark.parametrize("on", ["grid", "cluster"])
def test_the_list_beside_the_slide_is_the_list_of_groups(kind, on):
    text = draw.groups(SLIDE, kind, on=on).text
    listed = re.findall(r"^[a-z]  ([\d ]+\d)", text, re.MULTILINE)
    assert [[int(rank) for rank in line.split()] for line in listed] == SLIDE.groups(kind).tolist()
    assert text.count("⇄") == len(SLIDE.crossings(kind))


@settings(deadline=None, max_examples=50)
@given(layouts)
def test_every_rank_stands_once_in_the_text_with_its_label(layout):
    for picture in (draw.grid(layout), draw.cluster(layout)):
        if picture.scene.of(Raster):
            continue  # a large layout is shortened
        words = Counter(re.findall(r"(?<=  )\S+ \d+(?=  |$)", picture.text, re.MULTILINE))
        for rank in range(layout.world_size):
            assert words[f"{shards.label(layout, rank)} {rank}"] == 1


def test_two_ranks_swapped_in_one_group_change_picture_and_text(monkeypatch):
    right = draw.groups(SLIDE, "dp")
    ranks = SLIDE.groups("dp").ranks.copy()
    ranks[[0, 1], [0, 0]] = ranks[[1, 0], [0, 0]]
    monkeypatch.setattr(ParallelLayout, "groups", lambda self, kind: Groups("dp", ranks))
    wrong = draw.groups(SLIDE, "dp")
    assert wrong.text != right.text
    assert wrong.png() != right.png()


def test_a_large_layout_is_shortened_to_its_corners():
    text = draw.cluster(presets.LLAMA3_405B["8k"].layout).text
    assert len(text.splitlines()) == 13
    assert "node 2047" in text and "⋮" in text and "16383" in text


def test_a_long_list_of_groups_is_cut_and_says_so():
    text = draw.groups(presets.LLAMA3_405B["8k"].layout, "dp").text
    assert "… 112 more" in text and "128 of 128 dp groups cross nodes" in text


def test_compared_layouts_count_what_crosses():
    other = ParallelLayout(nodes=2, tp=2, pp=4, order="tp-cp-ep-pp-dp")
    text = draw.compare(SLIDE, other, titles=("default", "by copy")).text
    assert "crossing nodes: tp 0 of 8 · dp 0 of 8 · pp 4 of 4" in text
    assert "crossing nodes: tp 0 of 8 · dp 8 of 8 · pp 0 of 4" in text


def test_a_focused_rank_names_what_it_shares_with_each_peer():
    text = draw.grid(SLIDE, focus=5).text
    for word in ("⋈₁ 5 here", "⊕₁ 4 tp", "⋈₂ 7 dp", "△₁ 1 pp", "#₁ 9 pp", "○₁ 13 pp"):
        assert word in text
    assert text.count("·") == 10


def test_with_context_parallelism_gradients_also_reach_ranks_that_differ_in_both_axes():
    layout = ParallelLayout(nodes=2, tp=2, pp=2, cp=2)
    text = draw.grid(layout, focus=0).text
    for word in ("★₁ 0 here", "★₁ 2 cp", "★₂ 4 dp", "★₂ 6 dp-cp", "□₁ 1 tp", "⊕₁ 8 pp"):
        assert word in text
    assert set(layout.groups("dp-cp").of(0)) == {0, 2, 4, 6}
