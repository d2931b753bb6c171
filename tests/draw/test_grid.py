"""Below a grid or a cluster stands what its colours mean; a large one has axes that can be read."""

import tracemalloc

import numpy as np
import pytest

from mpviz import ParallelLayout, draw, presets, shards
from mpviz.draw.canvas.scene import Box, Label, Raster
from mpviz.draw.canvas.theme import fill
from mpviz.timeline import Event, Timeline

LLAMA = {name: presets.LLAMA3_405B[name].layout for name in ("8k", "128k")}
HERE = {"the GPU itself": 13, "same tp group": 9, "same pp group": 12}  # of Okabe and Ito


def texts(picture):
    return [label.text for label in picture.scene.of(Label)]


def swatches(picture):
    """The colour of the small square to the left of each text."""
    squares = [box for box in picture.scene.of(Box) if (box.width, box.height) == (10, 10)]
    return {
        label.text: box.face
        for label in picture.scene.of(Label)
        for box in squares
        if box.x + box.width < label.x < box.x + 20 and box.y < label.y < box.y + box.height
    }


@pytest.mark.parametrize(
    ("run", "colors"),
    [
        ("8k", HERE | {"same dp group": 14}),
        ("128k", HERE | {"same cp group": 10, "same dp or dp-cp group": 14}),
    ],
)
@pytest.mark.parametrize("drawn", [draw.grid, draw.cluster])
def test_colours_that_occur_are_explained_by_swatches(drawn, run, colors):
    picture = drawn(LLAMA[run], focus=5000)
    assert swatches(picture) == {words: fill(index) for words, index in colors.items()}
    assert not any("vermillion" in text or "blue" in text for text in texts(picture))


def test_pixels_are_coloured_by_stage_until_one_rank_is_looked_at():
    colored = "a colour for each pipeline stage, lighter with each tp rank"
    assert colored in texts(draw.cluster(LLAMA["8k"]))
    assert not any(
        "a colour for each" in text for text in texts(draw.cluster(LLAMA["8k"], focus=5))
    )


def test_more_stages_than_colours_are_said_to_begin_again():
    layout = presets.MEGATRON_TABLE_1["1008.0B"].layout
    (note,) = [text for text in texts(draw.cluster(layout)) if text.startswith("a colour")]
    assert note.startswith("a colour for each pipeline stage (from the start again after 24)")


def test_cells_with_a_tag_need_no_list_of_colours():
    layout = ParallelLayout(nodes=2, tp=2, pp=4)
    assert not swatches(draw.cluster(layout, focus=5))


# ---- large layouts


@pytest.mark.parametrize("run", LLAMA)
def test_same_parameters_have_the_same_colour_and_the_128_pieces_of_a_copy_another(run):
    layout = LLAMA[run]
    assert layout.tp * layout.pp == 128
    (raster,) = [r for r in draw.grid(layout).scene.of(Raster) if r.ranks.max() == 16_383]
    color = np.empty(layout.world_size, int)
    held = raster.ranks >= 0
    color[raster.ranks[held]] = raster.indices[held]
    pieces = shards.piece_of(layout, np.arange(layout.world_size))
    pairs = set(zip(pieces.tolist(), color.tolist(), strict=True))
    assert len(pairs) == 128 == len({raster.colors[index] for _, index in pairs})


def test_one_copy_is_drawn_large_with_its_axes_and_its_ranks():
    picture = draw.grid(LLAMA["8k"])
    words = texts(picture)
    assert {"copy 1, one of 128 copies", "all 128 copies, in the same colours"} <= set(words)
    assert [f"pp {stage}" for stage in range(16)] == [w for w in words if w.startswith("pp ")]
    assert [f"tp {rank}" for rank in range(8)] == [w for w in words if w.startswith("tp ")]
    ranks = {box.rank for box in picture.scene.of(Box) if box.rank is not None}
    assert ranks == set(range(128)) == {int(word) for word in words if word.isdigit()}


def test_the_copy_that_is_drawn_large_is_that_of_the_rank_in_focus():
    picture = draw.grid(LLAMA["8k"], focus=5000)
    assert "copy 40, one of 128 copies" in texts(picture)
    assert "5000" in texts(picture)
    picture = draw.cluster(LLAMA["8k"], focus=5000)
    assert "node 625, one of 2,048 nodes" in texts(picture)


def test_blocks_are_named_by_what_stands_in_their_line():
    words = texts(draw.grid(LLAMA["8k"]))
    lines = [word for word in words if word.startswith("copies ")]
    assert lines[0] == "copies 1–16" and lines[-1] == "copies 113–128"
    assert not any("model" in word for word in words)


def test_the_rows_of_a_large_copy_name_cp():
    words = texts(draw.grid(LLAMA["128k"]))
    rows = [word for word in words if word.startswith("cp ") and "tp" in word]
    assert rows[0] == "cp 0, tp 0" and rows[-1] == "cp 15, tp 0"
    assert "copy 1, one of 8 copies" in words


def test_a_single_copy_of_pixels_has_its_axes_itself():
    words = texts(draw.grid(ParallelLayout(nodes=256, tp=128, pp=16)))
    assert {"tp 0", "tp 64", "pp 0", "pp 8"} <= set(words)
    assert not any("copy 1" in word for word in words)


HUGE = ParallelLayout(nodes=125_000_000, tp=8, pp=1)
REFUSED = {
    "grid": lambda: draw.grid(HUGE),
    "grid, one in focus": lambda: draw.grid(HUGE, focus=7),
    "cluster": lambda: draw.cluster(HUGE),
    "groups": lambda: draw.groups(HUGE, "dp"),
    "groups on the cluster": lambda: draw.groups(HUGE, "dp", on="cluster", focus=3),
    "compare": lambda: draw.compare(HUGE, HUGE),
    "values": lambda: draw.values(HUGE, {0: "word"}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_billion_ranks_are_refused_before_they_take_any_memory(name):
    assert HUGE.world_size == 10**9
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"at most 1,048,576 ranks, .* has 1,000,000,000"):
            REFUSED[name]()
        assert tracemalloc.get_traced_memory()[1] < 10**6
    finally:
        tracemalloc.stop()


BILLION = 10**9
TOO_MANY_ROWS = {
    "block": lambda: draw.block(shards.mlp(1, 5000, 5000, tp=5000)),
    "product": lambda: draw.product(shards.column_parallel(1, 1, 5000, tp=5000)),
    "timeline": lambda: draw.timeline(Timeline([FORWARD], BILLION)),
    "timelines": lambda: draw.timelines({"one": Timeline([FORWARD], BILLION)}),
    "operations": lambda: draw.timeline([Event(rank, "send", 0, 1) for rank in range(5000)]),
}
FORWARD = Event(0, "F", 0, 1, stage=0, microbatch=0)


@pytest.mark.parametrize("name", TOO_MANY_ROWS)
def test_more_ranks_than_rows_can_be_told_apart_are_refused_at_once(name):
    with pytest.raises(ValueError, match=r"a row for each rank takes at most 4,096 ranks"):
        TOO_MANY_ROWS[name]()


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"tp": 2**17}, r"1 copy of 131,072 × 1 ranks .* a picture of 2,026 × "),
        ({"pp": 2**17}, r"1 copy of 1 × 131,072 ranks"),
    ],
)
def test_a_copy_with_no_pixel_for_each_rank_is_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        draw.grid(ParallelLayout(nodes=2**14, **sizes))


def test_as_many_ranks_as_are_allowed_can_be_drawn():
    layout = ParallelLayout(nodes=2**17, tp=8, pp=16)
    assert draw.grid(layout).png().startswith(b"\x89PNG")


def test_the_members_of_listed_groups_stand_below_each_other():
    layout = ParallelLayout(nodes=2, tp=2, pp=4)
    picture = draw.groups(layout, "dp")
    members = [" ".join(map(str, group)) for group in layout.groups("dp").tolist()]
    places = {label.x for label in picture.scene.of(Label) if label.text in members}
    assert len(places) == 1  # a narrow letter, such as f, moves nothing
