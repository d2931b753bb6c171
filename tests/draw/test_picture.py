"""A picture shows itself, saves itself, and leaves matplotlib as it was."""

import base64
import subprocess
import sys
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from mpviz import ParallelLayout, draw, presets
from mpviz.draw import Picture
from mpviz.draw.canvas.scene import Box, Scene

SLIDE = presets.SLIDE.layout
LARGE = presets.LLAMA3_405B["8k"].layout


def test_notebooks_get_png_and_text_and_the_size_to_show():
    picture = draw.grid(SLIDE)
    data, metadata = picture._repr_mimebundle_()
    assert data["text/plain"] == picture.text == repr(picture)
    png = base64.b64decode(data["image/png"])
    assert png.startswith(b"\x89PNG")
    pixels = int.from_bytes(png[16:20], "big")
    assert abs(pixels - 2 * metadata["image/png"]["width"]) <= 2
    assert metadata["image/png"]["alt"] == picture.text


@pytest.mark.parametrize("layout", [SLIDE, LARGE], ids=["cells", "pixels"])
@pytest.mark.parametrize("ending", ["png", "svg", "pdf", "SVG"])
def test_saving_twice_gives_the_same_file(tmp_path, layout, ending):
    files = [draw.groups(layout, "pp").save(tmp_path / f"{n}.{ending}") for n in (1, 2)]
    one, other = (file.read_bytes() for file in files)
    assert one == other
    assert len(one) > 2000


def test_a_name_that_is_no_picture_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"cannot save as 'slide\.gif'; .* \.png, \.svg or \.pdf"):
        draw.grid(SLIDE).save(tmp_path / "slide.gif")
    assert list(tmp_path.iterdir()) == []


def test_a_picture_can_be_part_of_your_own_figure():
    figure = Figure()
    left, right = figure.subplots(1, 2)
    pictures = [draw.grid(SLIDE, ax=left), draw.cluster(LARGE, ax=right)]
    assert [picture.figure for picture in pictures] == [figure, figure]
    assert pictures[0].text == draw.grid(SLIDE).text
    assert pictures[0].png().startswith(b"\x89PNG")


def test_settings_of_the_user_change_nothing_and_are_not_changed():
    plain = draw.grid(SLIDE).png()
    before = dict(mpl.rcParams)
    with mpl.rc_context({"font.family": "serif", "axes.facecolor": "black", "figure.dpi": 33}):
        assert draw.grid(SLIDE).png() == plain
    assert dict(mpl.rcParams) == before


def test_pyplot_is_never_imported():
    code = (
        "import sys; from mpviz import draw, ParallelLayout as P; draw.grid(P()).png(); "
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: draw.grid(SLIDE, focus=16), "rank 16 is out of range: 0 … 15"),
        (lambda: draw.groups(SLIDE, "xx"), "no group kind 'xx'; kinds: tp, pp, dp"),
        (lambda: draw.groups(SLIDE, "dp", on="moon"), "on must be 'grid' or 'cluster', got 'moon'"),
        (lambda: draw.groups(SLIDE, "embedding", focus=4), "rank 4 is in none of the 4 embedding"),
        (lambda: draw.compare(SLIDE, SLIDE, titles=("a",)), "titles names the two layouts, got 1"),
    ],
)
def test_bad_input_is_a_clear_value_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_groups_of_the_expert_grid_can_be_drawn():
    experts = ParallelLayout(nodes=2, tp=2, pp=4, ep=2)
    assert "8 ep groups of 2" in draw.groups(experts, "ep").text


def test_a_lone_box_stands_where_one_among_others_does():
    box = Box(12.3, 5.7, 10, 10, (0.7, 0.9, 0.8), (0, 0.4, 0.3))
    far = replace(box, x=80)
    lone, among = (decoded(Picture(Scene(100, 20, boxes), "")) for boxes in ((box,), (box, far)))
    half = lone.shape[1] // 2
    assert (lone[:, :half] == among[:, :half]).all()


def decoded(picture):
    picture.figure.canvas.draw()
    return np.asarray(picture.figure.canvas.buffer_rgba())
