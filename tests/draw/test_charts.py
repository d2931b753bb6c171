"""Bars of memory, buckets in strips, backward beside its buckets: legible, and as the text says."""

import re
from math import prod

import numpy as np
import pytest
from draw.test_legible import check
from hypothesis import given, settings
from hypothesis import strategies as st

from mpviz import Event, draw
from mpviz.draw.canvas.glyphs import box_of
from mpviz.draw.canvas.scene import Box, Curve, Label
from mpviz.draw.canvas.theme import MAX_WIDTH, fill
from mpviz.shards import Bucket, buckets_of

KINDS = ("weights", "gradients", "optimizer", "activations")
STAGES = {
    f"stage {stage}": dict(zip(KINDS, sizes, strict=True))
    for stage, sizes in enumerate(
        [(15e9, 15e9, 90e9, 7e9), (15e9, 15e9, 1.4e9, 7e9), (15e9, 0.2e9, 1.4e9, 7e9), (0.2e9,) * 4]
    )
}


def widths(picture, face):
    return [box.width for box in picture.scene.of(Box) if box.face == face and box.height == 20]


@pytest.mark.parametrize("capacity", [None, 80e9, 1e9, 127e9, 400e9])
def test_bars_can_be_read(capacity):
    scene = draw.memory(STAGES, capacity=capacity).scene
    check(scene)
    assert scene.width <= MAX_WIDTH + 100
    assert len(scene.of(Curve)) == (1 if capacity is None else 2)
    for line in scene.of(Curve)[1:]:  # runs through no word
        for left, top, right, bottom in map(box_of, scene.of(Label)):
            below = bottom > line.points[-1][1] or top < line.points[0][1]
            assert below or not left < line.points[0][0] < right


def test_bars_are_as_long_as_what_they_stand_for():
    picture = draw.memory(STAGES)
    for number, kind in enumerate(KINDS):
        drawn = widths(picture, fill(number))
        sizes = [held[kind] for held in STAGES.values()]
        assert np.allclose(np.array(drawn) / drawn[0], np.array(sizes) / sizes[0])
    totals = [label.text for label in picture.scene.of(Label) if label.bold][:4]
    assert totals == ["127 GB", "38.4 GB", "23.6 GB", "0.8 GB"]


def test_a_kind_that_a_bar_lacks_is_nothing():
    text = draw.memory({"a": {"weights": 1500}, "b": {"optimizer": 20}}, capacity=3000).text
    assert text.splitlines()[1:] == [
        "   weights  optimizer  in all",
        "a  1.5 kB   –          1.5 kB",
        "b  –        0.02 kB    0.02 kB",
        "line: 3 kB, what a GPU has",
    ]


@given(
    st.dictionaries(
        st.sampled_from(["stage 0", "ZeRO 1", "rank 15", "x"]),
        st.dictionaries(st.sampled_from(KINDS), st.floats(0, 1e16), min_size=1),
        min_size=1,
    ),
    st.none() | st.floats(0, 1e14),
)
def test_bars_of_anything(bars, capacity):
    check(draw.memory(bars, capacity=capacity).scene)


@pytest.mark.parametrize(
    ("bars", "message"),
    [
        ({}, "there is no bar to draw"),
        ({"a": {}}, "there is no bar to draw"),
        ({"a": {"weights": -1}}, "a holds -1 bytes of weights; expected 0 or more"),
        ({"a": {"weights": float("nan")}}, "a holds nan bytes"),
        ({"a": {"weights": "1 GB"}}, "a holds '1 GB' bytes of weights; expected 0 or more"),
        ({str(n): {"weights": 1} for n in range(33)}, "33 bars cannot be read; at most 32"),
    ],
)
def test_bars_that_cannot_be_drawn(bars, message):
    with pytest.raises(ValueError, match=message):
        draw.memory(bars)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"capacity": -80e9}, "a GPU has -80000000000.0 bytes; expected 0 or more"),
        ({"capacity": float("nan")}, "a GPU has nan bytes"),
        ({"chosen": "stage 4"}, "no bar 'stage 4' to choose; there are stage 0, stage 1, stage 2"),
        ({"sent": {}}, "there is no bar to draw"),
        ({"sent": {"stage 0": {"all_reduce": -1}}}, "stage 0 sends -1 bytes of all_reduce"),
    ],
)
def test_what_stands_beside_bars_is_checked(how, message):
    with pytest.raises(ValueError, match=message):
        draw.memory(STAGES, **how)


SENT = {"stage 0": {"all_reduce": 30e9}, "stage 3": {"reduce_scatter": 15e9, "all_gather": 30e9}}


@pytest.mark.parametrize("chosen", SENT)
def test_what_is_sent_is_a_second_chart_on_its_own_scale(chosen):
    picture = draw.memory(STAGES, sent=SENT, chosen=chosen, capacity=80e9)
    check(picture.scene)
    text = picture.text.splitlines()
    assert [line.split("  ")[0] for line in text if line.startswith("▸")] == [f"▸ {chosen}"] * 2
    assert text[-4].startswith("Sent in a step") and text[-5] == "line: 80 GB, what a GPU has"
    parts = [line.replace("▸ ", "").split()[2:] for line in text[-2:]]
    assert parts == [
        [*("30", "GB", "–", "–"), *("30", "GB")],
        [*("–", "15", "GB", "30", "GB"), *("45", "GB")],
    ]
    faces = [box.face for box in picture.scene.of(Box) if box.height == 20][-3:]
    kinds = [fill(len(KINDS) + number) for number in range(3)]
    assert [face == kind for face, kind in zip(faces, kinds, strict=True)] == (
        [True, False, False] if chosen == "stage 0" else [False, True, True]
    )


def test_with_a_gpu_all_is_said_in_its_unit():
    text = draw.memory({"70B": {"weights": 1.26e12}, "1M": {"weights": 2e6}}, capacity=80e9).text
    assert "1,260 GB" in text and "0.002 GB" in text and "line: 80 GB" in text


def test_long_names_leave_room_for_the_bars():
    scene = draw.memory({"a distributed optimizer " * 6: {"weights": 5.0}}).scene
    check(scene)
    assert max(box.width for box in scene.of(Box)) == 200


# ---- buckets

shapes = st.lists(st.lists(st.integers(0, 300), max_size=2).map(tuple), max_size=9).map(
    lambda each: {f"layers.{n}.weight": shape for n, shape in enumerate(each)}
)


@settings(max_examples=60)
@given(shapes, st.integers(1, 40), st.integers(1, 1000))
def test_strips_of_any_buckets(named, parts, full):
    buckets = buckets_of(named, parts, full=full)
    if buckets:
        scene = draw.owned(buckets).scene
        check(scene)
        assert scene.width <= MAX_WIDTH + 100


def test_strips_show_each_shard_as_long_as_it_is():
    bucket = Bucket({"bias": (30,), "weight": (30, 4)}, parts=4)
    picture = draw.owned([bucket])
    for rank in range(4):
        assert widths(picture, fill(rank)) == pytest.approx([MAX_WIDTH * 38 / 152])
    text = picture.text.splitlines()
    assert text[1].split(None, 2)[2] == "bias 30, weight 30×4, padding 2"
    assert text[2] == "rank 0    bias 0–29, weight 0–7"
    assert text[5] == "rank 3    weight 84–119, padding 2"


def test_the_ranks_in_the_text_own_all():
    buckets = buckets_of({"a": (7, 3), "b": (5,), "c": (2, 2)}, parts=3, full=6)
    found = 0
    for line in draw.owned(buckets).text.splitlines():
        if line.startswith("rank"):
            for first, last in re.findall(r"[abc] (\d+)(?:–(\d+))?", line):
                found += int(last or first) - int(first) + 1
    assert found == sum(map(prod, [(7, 3), (5,), (2, 2)]))


def test_many_buckets_and_ranks_are_shortened():
    buckets = buckets_of({f"p{n}": (64,) for n in range(40)}, parts=40, full=64)
    picture = draw.owned(buckets)
    check(picture.scene)
    assert "… 29 more buckets" in picture.text and "bucket 39" in picture.text
    assert "rank 39" in picture.text and "rank 20" not in picture.text


def test_buckets_must_be_cut_alike():
    with pytest.raises(ValueError, match="as many shards each, got none"):
        draw.owned([])
    with pytest.raises(ValueError, match="as many shards each, got 1, 2"):
        draw.owned([Bucket({"a": (1,)}, 1), Bucket({"a": (1,)}, 2)])


# ---- backward


def overlapped(ranks, late=0.0):
    group = tuple(range(ranks))
    for rank in group:
        for layer in range(4):
            yield Event(rank, f"layer {3 - layer}", 5.0 + layer, 6.0 + layer)
            yield Event(rank, f"bucket {layer}", 6.0 + layer + late, 9.5 + layer + late, group)


@pytest.mark.parametrize("ranks", [1, 2, 8])
def test_backward_can_be_read(ranks):
    scene = draw.backward(overlapped(ranks)).scene
    check(scene)
    assert scene.width <= MAX_WIDTH + 100


def test_what_leaves_during_backward_is_marked():
    line = "sends     +bucket 0 · +bucket 1 · +bucket 2 · bucket 3"
    assert draw.backward(overlapped(2)).text.count(line) == 2
    assert "+" not in draw.backward(overlapped(2, late=3.0)).text


def test_collectives_under_way_at_once_have_a_track_each():
    boxes = draw.backward(overlapped(1)).scene.of(Box)
    sent = [box for box in boxes if box.face == fill(0)]
    computed = {box.y for box in boxes if box.face == fill(1)}
    assert len(computed) == 1 and computed.isdisjoint(box.y for box in sent)
    for one in sent:
        beside = [box for box in sent if box.y == one.y and box is not one]
        assert all(b.x >= one.x + one.width - 1e-9 or b.x + b.width <= one.x + 1e-9 for b in beside)


def test_nothing_to_draw_is_said():
    with pytest.raises(ValueError, match="there is no event to draw"):
        draw.backward([])
