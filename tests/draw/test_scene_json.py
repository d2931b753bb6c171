"""Scenes as JSON: what comes back is what went in, to a hundredth of a point."""

import json
import re

import numpy as np
import pytest
from matplotlib.path import Path

from mpviz import draw, explore, presets
from mpviz.draw.canvas.glyphs import outline, width_of
from mpviz.draw.canvas.scene import Box, Curve, Label, Raster
from mpviz.draw.canvas.scene_json import from_json, glyphs_of, to_json

LAYOUT = presets.SLIDE.layout
LARGE = presets.LLAMA3_405B["8k"].layout
PICTURES = {
    "grid": lambda: draw.grid(LAYOUT, focus=3),
    "groups": lambda: draw.groups(LAYOUT, "pp", on="cluster"),
    "raster": lambda: draw.grid(LARGE, focus=5000),
    "schedule": lambda: explore.schedule("zb-v", time=40).picture,
}


@pytest.fixture(params=PICTURES)
def scene(request):
    return PICTURES[request.param]().scene


def test_items_come_back_through_text_to_a_hundredth_of_a_point(scene):
    again = from_json(json.loads(json.dumps(to_json(scene))))
    assert (again.width, again.height) == pytest.approx((scene.width, scene.height), abs=0.006)
    for kind in (Box, Curve, Label):
        held, read = scene.of(kind), again.of(kind)
        assert len(held) == len(read)
        for one, other in zip(held, read, strict=True):
            for name, value in vars(one).items():
                fine = 0.5 / 255 if name in ("face", "edge", "color") else 0.006
                found = getattr(other, name)
                if isinstance(value, (str, bool, type(None))):
                    assert found == value
                else:
                    assert np.allclose(found, value, atol=fine, rtol=0)


def test_rasters_come_back_exactly_with_whose_each_pixel_is():
    scene = PICTURES["raster"]().scene
    for one, other in zip(scene.of(Raster), from_json(to_json(scene)).of(Raster), strict=True):
        table, read = np.array(one.colors), np.array(other.colors)
        assert np.array_equal(table[one.indices], read[other.indices])
        assert np.array_equal(np.maximum(one.ranks, -1), other.ranks)
    assert len(scene.of(Raster)) == 1


def test_a_click_finds_the_same_rank_after_the_way_there_and_back():
    for name in ("grid", "raster"):
        scene = PICTURES[name]().scene
        again = from_json(to_json(scene))
        places = np.random.default_rng(1).uniform((0, 0), (scene.width, scene.height), (300, 2))
        found = [scene.rank_at(*place) for place in places]
        assert [again.rank_at(*place) for place in places] == found
        assert len(set(found)) > 10


def test_outlines_are_those_that_matplotlib_fills(scene):
    glyphs = glyphs_of(scene)
    for label in scene.of(Label):
        for character in label.text:
            advance, path = glyphs[character + "*" * label.bold]
            assert advance == pytest.approx(width_of(character, 1000, label.bold), abs=0.5)
            drawn = outline([Label(0, -364.5, character, 1000, bold=label.bold)])
            numbers = np.array(re.findall(r"-?[0-9]+", path), dtype=float).reshape(-1, 2)
            kept = drawn.vertices[np.asarray(drawn.codes) != Path.CLOSEPOLY]
            assert np.allclose(numbers, kept, atol=0.5)


def test_what_is_known_of_glyphs_is_kept_and_only_what_is_new_is_added(scene):
    known = {"a": [1, "M0 0"]}
    assert glyphs_of(scene, known).items() >= known.items()
    assert glyphs_of(scene, glyphs_of(scene)) == glyphs_of(scene)


def test_it_is_a_fraction_of_the_png():
    picture = PICTURES["grid"]()
    assert len(json.dumps(to_json(picture.scene))) < len(picture.png()) / 2
