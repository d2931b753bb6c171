"""Below a grid or a cluster stands what its colours mean, and nothing that it does not show."""

import pytest

from mpviz import ParallelLayout, draw, presets
from mpviz.draw.scene import Label

LLAMA = {name: presets.LLAMA3_405B[name].layout for name in ("8k", "128k")}
HERE = "vermillion: here · sky blue: tp"


def texts(picture):
    return [label.text for label in picture.scene.of(Label)]


@pytest.mark.parametrize(
    ("run", "colors"),
    [
        ("8k", f"{HERE} · purple: dp · blue: pp"),
        ("128k", f"{HERE} · green: cp · purple: dp, dp-cp · blue: pp"),
    ],
)
@pytest.mark.parametrize("drawn", [draw.grid, draw.cluster])
def test_colours_are_named_that_occur(drawn, run, colors):
    assert colors in texts(drawn(LLAMA[run], focus=5000))


def test_pixels_are_coloured_by_stage_until_one_rank_is_looked_at():
    block = "one block: one node of 8 GPUs"
    assert f"{block} · colour: pipeline stage" in texts(draw.cluster(LLAMA["8k"]))
    assert block in texts(draw.cluster(LLAMA["8k"], focus=5000))


def test_more_stages_than_colours_are_said_to_begin_again():
    layout = presets.MEGATRON_TABLE_1["1008.0B"].layout
    (note,) = [text for text in texts(draw.cluster(layout)) if text.startswith("one block")]
    assert note.endswith("colour: pipeline stage (from the start again after 24)")


def test_cells_with_a_tag_need_no_list_of_colours():
    layout = ParallelLayout(nodes=2, tp=2, pp=4)
    assert not any("vermillion" in text for text in texts(draw.cluster(layout, focus=5)))
