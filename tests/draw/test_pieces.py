"""The rectangle of one model: its pieces are those of the grid, and its cuts are where they are."""

import numpy as np
import pytest

from mpviz import ParallelLayout, draw, presets, shards
from mpviz.draw.canvas.scene import Box, Curve, Label

SLIDE = presets.SLIDE.layout


def drawn(picture):
    """Each piece's symbol with its box, row by row."""
    boxes = picture.scene.of(Box)
    found = [
        (box, label.text)
        for box in boxes
        for label in picture.scene.of(Label)
        if box.x < label.x < box.x + box.width and box.y < label.y < box.y + box.height
    ]
    return sorted(found, key=lambda item: (item[0].y, item[0].x))


def cuts(picture):
    """The dashed lines: those along a row, those down a column."""
    dashed = [curve.points for curve in picture.scene.of(Curve) if curve.dashed]
    along = [points[0][1] for points in dashed if points[0][1] == points[-1][1]]
    down = [points[0][0] for points in dashed if points[0][0] == points[-1][0]]
    assert len(along) + len(down) == len(dashed)
    return sorted(along), sorted(down)


def strips(picture, box):
    """Where layers are parted inside a piece."""
    lines = {
        curve.points[0][0]
        for curve in picture.scene.of(Curve)
        if not curve.dashed and box.y <= curve.points[0][1] <= box.y + box.height
    }
    return sorted(x for x in lines if box.x < x < box.x + box.width)


def test_the_pieces_of_the_lecture_have_the_symbols_and_colours_of_the_grid():
    pieces = drawn(draw.pieces(SLIDE, 16))
    assert [symbol for _, symbol in pieces] == list("★⊕□⊠△⋈#○")
    cells = {box.rank: box.face for box in draw.grid(SLIDE).scene.of(Box)}
    of_rank = shards.piece_of(SLIDE, np.arange(16))
    for rank in range(16):
        assert pieces[of_rank[rank]][0].face == cells[rank]


@pytest.mark.parametrize(("tp", "pp"), [(1, 1), (2, 1), (1, 4), (2, 4), (4, 2)])
def test_it_is_cut_between_all_rows_and_all_columns_and_nowhere_else(tp, pp):
    picture = draw.pieces(ParallelLayout(nodes=2, tp=tp, pp=pp))
    boxes = [box for box, _ in drawn(picture)]
    along, down = cuts(picture)
    tops, lefts = sorted({box.y for box in boxes}), sorted({box.x for box in boxes})
    assert (len(tops), len(lefts)) == (tp, pp) == (len(along) + 1, len(down) + 1)
    width, height = boxes[0].width, boxes[0].height
    gaps = zip(tops, along, tops[1:], strict=False)
    assert all(top + height < cut < below for top, cut, below in gaps)
    gaps = zip(lefts, down, lefts[1:], strict=False)
    assert all(left + width < cut < right for left, cut, right in gaps)


def test_each_piece_has_a_strip_for_each_of_its_stages_layers():
    picture = draw.pieces(SLIDE, 16)
    assert [len(strips(picture, box)) for box, _ in drawn(picture)] == [3] * 8
    uncut = draw.pieces(ParallelLayout(nodes=2), 16)
    assert [len(strips(uncut, box)) for box, _ in drawn(uncut)] == [15]


def test_in_characters():
    assert draw.pieces(SLIDE, 16).text.splitlines() == [
        "one model, cut into tp 2 × pp 4 = 8 pieces",
        "        pp 0  pp 1  pp 2  pp 3",
        "tp 0    ★     ⊕     □     ⊠",
        "tp 1    △     ⋈     #     ○",
        "layers  1–4   5–8   9–12  13–16",
    ]


@pytest.mark.parametrize(
    ("sizes", "layers", "message"),
    [
        ({"tp": 16}, None, "tp 16 × pp 1 pieces cannot be read; at most tp 8 × pp "),
        ({"pp": 16}, 4096, "tp 1 × pp 16 pieces cannot be read; at most tp 8 × pp 9 fit"),
        ({"nodes": 10**8, "gpus_per_node": 10, "pp": 10**9}, None, "at most tp 8 × pp 18 fit"),
        ({"pp": 4}, 15, "15"),
    ],
)
def test_what_cannot_be_drawn_is_a_clear_value_error(sizes, layers, message):
    with pytest.raises(ValueError, match=message):
        draw.pieces(ParallelLayout(**{"nodes": 2} | sizes), layers)
