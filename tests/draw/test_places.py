"""Each rank is drawn where it belongs, in the colour it should have."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from matplotlib.figure import Figure
from PIL import Image
from strategies import dense_layouts, layouts

from mpviz import ParallelLayout, draw, presets, shards
from mpviz.draw.canvas.scene import Box, Curve, Label, Raster
from mpviz.draw.canvas.theme import CROSSING, MAX_WIDTH, PALETTE, PAPER, fill
from mpviz.draw.grids.arrange import cluster_board, grid_board
from mpviz.draw.grids.board import EMPTY

SLIDE = presets.SLIDE.layout
HERE = 13  # vermillion
OTHER_ORDER = ParallelLayout(nodes=2, tp=2, pp=4, order="tp-cp-ep-pp-dp")


def cells_of(picture: draw.Picture) -> dict[int, Box]:
    """The box under each small number that stands for a rank."""
    found = {}
    for label in picture.scene.of(Label):
        if label.text.isdigit():
            under = [
                box
                for box in picture.scene.of(Box)
                if box.x < label.x < box.x + box.width and box.y < label.y < box.y + box.height
            ]
            if under:
                found[int(label.text)] = under[-1]
    return found


def test_the_slide_reads_as_in_the_lecture():
    cells = cells_of(draw.grid(SLIDE))
    rows = sorted({box.y for box in cells.values()})
    columns = sorted({box.x for box in cells.values()})
    at = {(rows.index(box.y), columns.index(box.x)): rank for rank, box in cells.items()}
    read = [[at[row, column] for column in range(4)] for row in range(4)]
    assert read == [[0, 4, 8, 12], [1, 5, 9, 13], [2, 6, 10, 14], [3, 7, 11, 15]]


@settings(deadline=None)
@given(dense_layouts())
def test_grid_board_has_tp_down_pp_across_and_a_block_for_each_copy(layout):
    blocks = grid_board(layout, max_width=MAX_WIDTH).blocks
    for copy, group in enumerate(layout.groups("tp-cp-pp")):
        assert sorted(blocks[copy][blocks[copy] != EMPTY].tolist()) == sorted(group)
    if layout.pp <= 16:
        for row, (cp_rank, tp_rank) in enumerate(np.ndindex(layout.cp, layout.tp)):
            for pp_rank in range(layout.pp):
                at = layout.coordinates(blocks[:, row, pp_rank])
                assert set(at["tp"]) == {tp_rank} and set(at["pp"]) == {pp_rank}
                assert set(at["cp"]) == {cp_rank}


@settings(deadline=None)
@given(layouts)
def test_cluster_board_has_a_block_for_each_node_in_rank_order(layout):
    blocks = cluster_board(layout, max_width=MAX_WIDTH).blocks
    for node, block in enumerate(blocks):
        ranks = block[block != EMPTY].tolist()
        start = node * layout.gpus_per_node
        assert ranks == list(range(start, start + layout.gpus_per_node))


@pytest.mark.parametrize("draw_one", [draw.grid, draw.cluster])
def test_same_parameters_have_the_same_colour_and_others_another(draw_one):
    cells = cells_of(draw_one(SLIDE))
    pieces = shards.piece_of(SLIDE, np.arange(16))
    for one in range(16):
        for other in range(16):
            same = cells[one].face == cells[other].face
            assert same == (pieces[one] == pieces[other])


@settings(deadline=None)
@given(layouts)
def test_a_point_in_a_cell_is_its_ranks_and_one_beside_it_nobodys(layout):
    for picture in (draw.grid(layout), draw.cluster(layout), draw.groups(layout, "model")):
        scene = picture.scene
        for rank, box in cells_of(picture).items():
            assert scene.rank_at(box.x + 1, box.y + box.height - 1) == rank
            assert scene.rank_at(box.x + box.width + 1, box.y) is None
        assert scene.rank_at(0, 0) is None


@pytest.mark.parametrize("draw_one", [draw.grid, draw.cluster])
@pytest.mark.parametrize("rank", [0, 1, 517, 1038, 1039])
def test_a_point_of_a_fine_board_is_the_rank_in_focus_there(draw_one, rank):
    scene = draw_one(ParallelLayout(nodes=130, tp=4, pp=2), focus=rank).scene
    (raster,) = scene.of(Raster)
    ((row, column),) = np.argwhere(raster.indices == HERE)
    rows, columns = raster.indices.shape
    x = raster.x + (column + 0.5) * raster.width / columns
    y = raster.y + (row + 0.5) * raster.height / rows
    assert scene.rank_at(x, y) == rank
    assert scene.rank_at(raster.x - 1, y) is None


GROUPED = [
    pytest.param(kind, on, id=f"{kind} on the {on}")
    for kind in ("dp", "tp", "pp", "tp-pp", "embedding")
    for on in ("grid", "cluster")
]


@pytest.mark.parametrize(("kind", "on"), GROUPED)
def test_a_piece_keeps_its_colour_where_groups_are_shown(kind, on):
    alone = cells_of(draw.grid(SLIDE))
    for rank, box in cells_of(draw.groups(SLIDE, kind, on=on)).items():
        ranks_in_a_group = {rank for group in SLIDE.groups(kind) for rank in group}
        assert box.face == (alone[rank].face if rank in ranks_in_a_group else PAPER)


def frames_of(picture: draw.Picture) -> dict[int, Box]:
    """The frame around each rank's cell: the smallest box that holds all of it."""
    found = {}
    for rank, cell in cells_of(picture).items():
        outer = [
            box
            for box in picture.scene.of(Box)
            if box.rank is None
            and box.x < cell.x
            and cell.x + cell.width < box.x + box.width
            and box.y < cell.y
            and cell.y + cell.height < box.y + box.height
        ]
        found[rank] = min(outer, key=lambda box: box.width * box.height, default=None)
    return found


@pytest.mark.parametrize("layout", [SLIDE, OTHER_ORDER], ids=["default", "other order"])
def test_the_copies_on_the_machines_have_frames_of_different_greys(layout):
    frames = frames_of(draw.groups(layout, "model", on="cluster"))
    tones = [{frames[rank].face for rank in group} for group in layout.groups("model")]
    assert [len(tone) for tone in tones] == [1, 1] and tones[0] != tones[1]
    assert all(len(set(face)) == 1 for tone in tones for face in tone), "a hue is for a piece"


def test_neighbours_of_one_group_share_a_frame_and_others_do_not():
    frames = frames_of(draw.groups(SLIDE, "tp"))
    for one in range(16):
        together = {other for other in range(16) if frames[other] is frames[one]}
        assert together == set(SLIDE.groups("tp").of(one))


def test_of_whole_copies_no_curve_looks_like_a_message():
    assert draw.groups(SLIDE, "pp", on="cluster").scene.of(Curve)
    assert not draw.groups(SLIDE, "model", on="cluster").scene.of(Curve)


def test_a_focus_fades_the_rest():
    cells = cells_of(draw.groups(SLIDE, "dp", focus=2))
    coloured = {rank for rank, box in cells.items() if box.face != PAPER}
    assert coloured == {0, 2}


def test_crossing_groups_and_only_they_have_a_dashed_frame():
    default = frames_of(draw.groups(SLIDE, "pp", on="cluster"))
    assert all(box.dashed and box.edge == CROSSING for box in default.values())
    inside = draw.groups(OTHER_ORDER, "pp", on="cluster")
    assert not any(box.dashed for box in inside.scene.of(Box))


def rgb(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def close(one, other) -> bool:
    return bool(np.abs(np.asarray(one) - np.asarray(other)).max() <= 4)


@pytest.mark.parametrize("layout", [SLIDE, ParallelLayout(nodes=8, tp=2, pp=8)], ids=str)
def test_the_png_has_each_cells_colour_where_the_scene_has_it(layout):
    picture = draw.grid(layout)
    pixels = rgb(picture.png())
    scale = pixels.shape[1] / picture.scene.width
    for box in cells_of(picture).values():
        x, y = int((box.x + box.width - 3.5) * scale), int((box.y + box.height - 3.5) * scale)
        assert close(pixels[y, x], [255 * value for value in box.face])


@pytest.mark.parametrize("own_axes", [False, True])
def test_pixels_of_a_fine_board_stand_where_their_ranks_belong(own_axes):
    # Ten blocks in a last row that is not full: an image upside down would show.
    layout = ParallelLayout(nodes=130, tp=4, pp=2)
    if own_axes:
        figure = Figure(figsize=(12, 7))
        ax = figure.add_axes((0, 0, 1, 1))
        picture = draw.groups(layout, "model", ax=ax)
        figure.draw_without_rendering()
        corner, _ = ax.transData.transform([(0, 0), (1, 1)])
        scale = np.diff(ax.transData.transform([(0, 0), (1, 0)])[:, 0])[0] * 192 / figure.dpi
        left, top = corner[0] * 192 / figure.dpi, (7 * 192) - corner[1] * 192 / figure.dpi
    else:
        picture = draw.groups(layout, "model")
        left, top, scale = 0.0, 0.0, 192 / 72
    pixels = rgb(picture.png())
    board = grid_board(layout, max_width=MAX_WIDTH)
    assert board.fine
    raster = next(item for item in picture.scene.items if hasattr(item, "indices"))
    unit = raster.width / raster.indices.shape[1]
    for copy in (0, 1, board.across - 1, board.across, len(board.blocks) - 1):
        below, beside = divmod(copy, board.across)
        x = raster.x + (beside * (layout.pp + 1) + 0.5) * unit
        y = raster.y + (below * (layout.tp + 1) + 0.5) * unit
        seen = pixels[int(top + y * scale), int(left + x * scale)]
        assert close(seen, [255 * value for value in fill(copy % 24)]), copy
    beyond = len(board.blocks) % board.across
    if beyond:
        x = raster.x + (beyond * (layout.pp + 1) + 0.5) * unit
        y = raster.y + ((board.down - 1) * (layout.tp + 1) + 0.5) * unit
        assert close(pixels[int(top + y * scale), int(left + x * scale)], [255] * 3)


def test_there_are_as_many_distinct_fills_as_the_theme_promises():
    assert len({fill(index) for index in range(3 * len(PALETTE))}) == 24
