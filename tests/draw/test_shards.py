"""Products and blocks: each part where it belongs, every number right, and the same in text."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpviz import draw, shards
from mpviz.draw.canvas.glyphs import box_of
from mpviz.draw.canvas.scene import Box, Curve, Label
from mpviz.draw.canvas.theme import edge, fill
from mpviz.draw.tensor.block import figure
from mpviz.draw.tensor.matrices import GAP, Scale, matrix
from mpviz.shards import Cut, Operator, Product, times

X = np.array([[1, 2], [3, 4]])
A = np.array([[1, 0, 2, -1], [0, 1, 1, 3]])
COLUMN, ROW = (make(2, 2, 4, tp=2) for make in (shards.column_parallel, shards.row_parallel))
MLP = shards.mlp(4, 6, 24, tp=2)
ATTENTION = shards.attention(4, 6, heads=6, tp=2)


def texts(picture):
    return [label.text for label in picture.scene.of(Label)]


def inside(box, label):
    return box.x <= label.x <= box.x + box.width and box.y <= label.y <= box.y + box.height


def within(picture, box):
    """The labels that stand on a box, and on none above it."""
    boxes = picture.scene.of(Box)
    return [
        label
        for label in picture.scene.of(Label)
        if [each for each in boxes if inside(each, label)][-1:] == [box]
    ]


def colored(picture, rank):
    return [box for box in picture.scene.of(Box) if box.face == fill(rank)]


def cells(picture, box):
    """The numbers in a box, row by row; its heading is not among them."""
    _, *numbers = within(picture, box)
    rows = {}
    for label in numbers:
        rows.setdefault(label.y, {})[label.x] = float(label.text)
    return [[row[x] for x in sorted(row)] for _, row in sorted(rows.items())]


# ---- places


@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("parts", [1, 2, 3, 8])
def test_the_part_of_a_rank_covers_its_slice_of_the_matrix(dim, parts):
    cut = Cut("A", (24, 48), parts, dim=dim)
    width, height = 400.0, 300.0
    boxes = [item for item in matrix(cut, width, height) if isinstance(item, Box)]
    assert len(boxes) == parts
    for rank, (box, index) in enumerate(zip(boxes, cut.slices, strict=True)):
        rows, columns = (
            part.indices(size)[:2] for part, size in zip(index, cut.shape, strict=True)
        )
        close = pytest.approx
        assert box.x == close(width * columns[0] / 48, abs=GAP)
        assert box.x + box.width == close(width * columns[1] / 48, abs=GAP)
        assert box.y == close(height * rows[0] / 24, abs=GAP)
        assert box.y + box.height == close(height * rows[1] / 24, abs=GAP)
        assert (box.face, box.edge) == (fill(rank), edge(rank))


@pytest.mark.parametrize("cut", [Cut("A", (8, 8), 4, dim=0), Cut("A", (8, 8), 8, dim=1)], ids=repr)
def test_parts_of_a_matrix_are_of_one_size_and_fill_it(cut):
    boxes = [item for item in matrix(cut, 200, 100) if isinstance(item, Box)]
    assert len({(round(box.width, 9), round(box.height, 9)) for box in boxes}) == 1
    assert max(box.x + box.width for box in boxes) == pytest.approx(200)
    assert max(box.y + box.height for box in boxes) == pytest.approx(100)


def test_a_part_says_whose_it_is_and_its_shape():
    picture = draw.product(shards.column_parallel(4, 6, 8, tp=2))
    said = [[label.text for label in within(picture, box)] for box in colored(picture, 1)]
    assert said[1:] == [["A₂", "rank 1", "6×4"], ["Y₂", "rank 1", "4×4"]]


@pytest.mark.parametrize("tp", [2, 5, 8])
def test_a_whole_matrix_is_a_stack_with_a_card_for_each_rank(tp):
    items = matrix(Cut("X", (4, 6), tp), 100, 80)
    cards = [item for item in items if isinstance(item, Box)]
    assert [card.face for card in cards] == [fill(rank) for rank in reversed(range(tp))]
    assert len({(card.x, card.y) for card in cards}) == tp
    assert f"ranks 0–{tp - 1}" in [item.text for item in items if isinstance(item, Label)]


@given(
    st.tuples(*[st.integers(1, 500)] * 3),
    st.sampled_from([shards.column_parallel, shards.row_parallel]),
)
def test_a_longer_side_is_never_drawn_shorter(sizes, make):
    step = next(step for step in make(*sizes, tp=1).steps if isinstance(step, Product))
    drawn = Scale.of([*step.inputs, step.output], longest=140.0)
    for one in (*step.inputs, step.output):
        assert drawn.size(one)[0] <= 140 and drawn.size(one)[1] <= 140
        for other in (*step.inputs, step.output):
            if one.shape[1] >= other.shape[0]:
                assert drawn.size(one)[0] >= drawn.size(other)[1]
    for size, points in drawn.length.items():
        if points > 56:  # shorter ones are made long enough for words
            assert points == pytest.approx(140 * size / max(drawn.length))


def test_addends_stand_between_plus_signs():
    picture = draw.product(shards.row_parallel(4, 8, 6, tp=4))
    signs = [label for label in picture.scene.of(Label) if label.text in "·=+"]
    assert [sign.text for sign in signs] == ["·", "=", "+", "+", "+"]
    for rank in range(4):
        assert f"X{shards.subscript(rank + 1)}·A{shards.subscript(rank + 1)}" in texts(picture)


# ---- numbers


def test_cut_by_column_each_rank_shows_its_columns():
    picture = draw.product(COLUMN, {"X": X, "A": A})
    for rank, columns in enumerate((slice(0, 2), slice(2, 4))):
        *x, a, y = (box for box in colored(picture, rank) if within(picture, box))
        assert [cells(picture, box) for box in x] == ([X.tolist()] if rank == 0 else [])
        assert cells(picture, a) == A[:, columns].tolist()
        assert cells(picture, y) == (X @ A)[:, columns].tolist()


def test_cut_by_row_each_rank_shows_its_addend_and_then_the_sum():
    picture = draw.product(ROW, {"X": X, "A": A})
    for rank in (0, 1):
        x, a, addend, *total = (box for box in colored(picture, rank) if within(picture, box))
        assert cells(picture, x) == X[:, rank : rank + 1].tolist()
        assert cells(picture, a) == A[rank : rank + 1].tolist()
        assert cells(picture, addend) == np.outer(X[:, rank], A[rank]).tolist()
        assert [cells(picture, box) for box in total] == ([(X @ A).tolist()] if rank == 0 else [])


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 4]), st.booleans())
def test_what_is_shown_is_the_product_to_the_digits_shown(seed, tp, by_row):
    make = shards.row_parallel if by_row else shards.column_parallel
    random = np.random.default_rng(seed)
    values = {"X": random.normal(size=(2, 4)), "A": random.normal(size=(4, 4))}
    shown = draw.product(make(2, 4, 4, tp), values).text.splitlines()
    (line,) = [line for line in shown if " = [" in line][-1:]
    y = np.array([row.split() for row in line.split("= [")[-1].rstrip("]").split(";")], float)
    exact = values["X"] @ values["A"]
    # Three digits of the largest: half a unit of the third, and no addend is larger than 10 times.
    assert np.abs(y - exact).max() <= 0.5 * 10.0 ** (np.floor(np.log10(_most(values, tp))) - 2)


def _most(values, tp):
    """The largest number that is written of Y: an addend, or the sum."""
    parts = zip(np.split(values["X"], tp, axis=1), np.split(values["A"], tp, axis=0), strict=True)
    return max(
        np.abs(array).max() for array in (values["X"] @ values["A"], *(x @ a for x, a in parts))
    )


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        *[(3, "3"), (-2, "-2"), (0, "0"), (123456, "123456"), (True, "1")],
        *[(0.5, "0.5"), (2 / 3, "0.667"), (-1234.5, "-1234"), (0.0123, "0.0123")],
        *[(1.5e-7, "1.5e-07"), (-2.5e9, "-2.5e+09"), (np.nan, "nan"), (np.inf, "inf")],
    ],
)
def test_numbers_are_short(number, shown):
    picture = draw.product(shards.column_parallel(1, 1, 1, tp=1), {"X": [[1]], "A": [[number]]})
    assert f"[1] · [{shown}] = [{shown}]" in picture.text


def test_zero_stays_short_beside_tiny_numbers():
    values = {"X": [[1]], "A": [[0, 1.5e-9]]}
    assert "[0 1.5e-09]" in draw.product(shards.column_parallel(1, 1, 2, tp=1), values).text


def test_only_rounded_numbers_are_said_to_be():
    note = "numbers are rounded"
    assert note not in texts(draw.product(ROW, {"X": X, "A": A}))
    assert note in texts(draw.product(ROW, {"X": X / 3, "A": A}))


# ---- blocks


def test_an_mlp_reads_as_in_the_paper():
    picture = draw.block(MLP)
    ranks = [label for label in picture.scene.of(Label) if label.text in ("rank 0", "rank 1")]
    upper, lower = (min(label.y for label in ranks if label.text == f"rank {n}") for n in (0, 1))
    assert upper < lower
    for number, middle in (("₁", upper), ("₂", lower)):
        lane = [label for label in picture.scene.of(Label) if abs(label.y - middle) < 20]
        read = [label.text for label in sorted(lane, key=lambda label: label.x)]
        order = [f"A{number}", f"XA{number}", "GeLU", f"Y{number}", f"B{number}", f"Z{number}"]
        assert [text for text in read if text in order] == order


@pytest.mark.parametrize("rank", [0, 1])
def test_what_a_rank_holds_has_its_colour_and_stands_in_its_lane(rank):
    picture = draw.block(ATTENTION)
    sign = shards.subscript(rank + 1)
    (lane,) = [
        box
        for box in picture.scene.of(Box)
        if box.edge == edge(rank) and f"heads {3 * rank}–{3 * rank + 2}" in held(picture, box)
    ]
    assert f"rank {rank}" in held(picture, lane)
    for name in (f"WQ{sign}", f"WK{sign}", f"WV{sign}", f"B{sign}"):
        (label,) = [label for label in picture.scene.of(Label) if label.text == name]
        (box,) = [box for box in colored(picture, rank) if inside(box, label)]
        assert lane.x < box.x and box.x + box.width < lane.x + lane.width
        assert lane.y < box.y and box.y + box.height < lane.y + lane.height


def held(picture, box):
    return [label.text for label in within(picture, box)]


def test_f_and_g_reach_over_all_lanes_and_say_what_they_do():
    for sequence_parallel in (False, True):
        block = shards.mlp(4, 6, 24, tp=4, sequence_parallel=sequence_parallel)
        picture = draw.block(block)
        lanes = [
            box for box in picture.scene.of(Box) if any("rank" in t for t in held(picture, box))
        ]
        for operator in block.steps[0], block.steps[-1]:
            (name,) = [label for label in picture.scene.of(Label) if label.text == operator.name]
            (bar,) = [box for box in picture.scene.of(Box) if inside(box, name)]
            below = {
                label.text
                for label in picture.scene.of(Label)
                if label.y > bar.y + bar.height and abs(label.x - name.x) < 1
            }
            assert below == {f"forward: {operator.forward}", f"backward: {operator.backward}"}
            assert bar.y <= min(box.y for box in lanes)
            assert bar.y + bar.height >= max(box.y + box.height for box in lanes)


@pytest.mark.parametrize("tp", [1, 2, 3, 4, 8, 16])
@pytest.mark.parametrize("make", [shards.column_parallel, shards.row_parallel])
def test_no_arrow_runs_through_words(make, tp):
    items, _, _ = figure(make(4, 48, 48, tp))
    boxes = [box_of(item) for item in items if isinstance(item, Label)]
    for curve in (item for item in items if isinstance(item, Curve)):
        t = np.linspace(0, 1, 101)[:, None]
        a, b, c, d = map(np.array, curve.points)
        points = a * (1 - t) ** 3 + 3 * b * t * (1 - t) ** 2 + 3 * c * t**2 * (1 - t) + d * t**3
        for left, top, right, bottom in boxes:
            x, y = points.T
            assert not ((left < x) & (x < right) & (top < y) & (y < bottom)).any()


def test_a_long_name_of_a_matrix_does_not_stick_out():
    step = Product(
        Cut("all the activations that go in", (4, 6), 2),
        Cut("A", (6, 8), 2, dim=1),
        Cut("all that come out", (4, 8), 2, dim=1),
    )
    scene = draw.block(shards.Block("named at length", 2, (step,))).scene
    spans = [box_of(label)[::2] for label in scene.of(Label)]
    assert min(left for left, _ in spans) >= 0
    assert max(right for _, right in spans) <= scene.width


# ---- the twin


BLOCKS = [
    make(48, 96, 192, tp, sequence_parallel=sequence_parallel)
    for make in (shards.column_parallel, shards.row_parallel, shards.mlp)
    for tp in (1, 2, 3, 8)
    for sequence_parallel in (False, True)
]


@pytest.mark.parametrize(
    "block", [*BLOCKS, ATTENTION], ids=lambda block: f"{block.name} {block.tp}"
)
def test_the_text_states_every_shape_and_begins_as_the_block_prints(block):
    text = draw.block(block).text
    assert text.startswith(f"{block!r}\n")
    for step in block.steps:
        for cut in step.inputs:
            if isinstance(step, Product) and cut == step.right:
                assert f"{cut.name} {times(cut.shape)}" in text
                assert text.count(f" {times(cut.local_shape)} ") >= block.tp or block.tp == 1
    for call in (*block.forward, *block.backward):
        assert repr(call) in text


@pytest.mark.parametrize("block", BLOCKS[:16], ids=lambda block: f"{block.name} {block.tp}")
def test_the_text_of_a_product_says_which_part_each_rank_multiplies(block):
    text = draw.product(block).text
    assert text.startswith(f"{block!r}\n")
    step = next(step for step in block.steps if isinstance(step, Product))
    lines = re.findall(r"^rank (\d+) +(.*)", text, re.MULTILINE)
    assert [int(rank) for rank, _ in lines] == list(range(block.tp))
    for rank, line in lines:
        spans = re.findall(r"(\w+) (\d+×\d+)(?: \((?:row|column)s? (\d+)(?:–(\d+))?\))?", line)
        assert len(spans) == 3
        for cut, (name, shape, first, last) in zip((*step.inputs, step.output), spans, strict=True):
            assert (name, shape) == (cut.name, times(cut.local_shape))
            if cut.dim is not None and cut.parts > 1:
                part = cut.slices[int(rank)][cut.dim]
                assert (int(first), int(last or first) + 1) == (part.start, part.stop)


def test_heads_are_dealt_in_order_and_none_twice():
    block = shards.attention(4, 24, heads=12, tp=4)
    dealt = re.findall(r"heads (\d+)–(\d+)\)", draw.block(block).text)
    assert [head for a, b in dealt for head in range(int(a), int(b) + 1)] == list(range(12))
    assert "(head 3)" in draw.block(shards.attention(4, 8, heads=4, tp=4)).text
    assert "head" not in draw.block(MLP).text


def test_another_cut_is_another_picture_and_another_text():
    pictures = [draw.product(block, {"X": X, "A": A}) for block in (COLUMN, ROW)]
    pictures += [draw.product(block) for block in (COLUMN, ROW)]
    pictures += [draw.block(block) for block in (COLUMN, ROW, MLP, ATTENTION)]
    assert len({picture.text for picture in pictures}) == len(pictures)
    assert len({picture.png() for picture in pictures}) == len(pictures)


def test_one_product_of_a_block_can_be_drawn():
    text = draw.product(MLP.steps[1]).text
    assert text.splitlines()[:2] == ["X·A = XA, tp=2", "X 4×6, whole on each of 2"]
    assert "rank 1  X 4×6 · A 6×12 (columns 12–23) = XA 4×12 (columns 12–23)" in text


# ---- bad input


WRONG = Product(Cut("X", (4, 6), 2), Cut("A", (6, 8), 2, dim=1), Cut("Y", (4, 8), 2))
MISPLACED = shards.Block("odd", 2, (MLP.steps[1], MLP.steps[0], MLP.steps[-2]))
ALONE = shards.Block("idle", 2, (Operator("f", "copy", "all-reduce", *[Cut("X", (4, 6), 2)] * 2),))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: draw.product(MLP), r"draws one product, and MLP has X·A = XA, GeLU\(XA\) = Y and"),
        (lambda: draw.product(Cut("X", (4, 6), 2)), "or a Product, got X 4×6, whole on each of 2"),
        (lambda: draw.product(WRONG), r"X·A = Y gives Y 4×8, cut by column .* says Y 4×8, whole"),
        (lambda: draw.block(MLP.steps[1]), r"a block such as shards.mlp\(…\), got X·A = XA"),
        (lambda: draw.block(MISPLACED), "its steps are X·A = XA; f: copy forward"),
        (lambda: draw.block(ALONE), "its steps are f: copy forward, all-reduce backward"),
        (lambda: draw.block(shards.Block("empty", 2, ())), "its steps are none"),
        (lambda: draw.product(ROW, {}), "must give X and A by name, got nothing; Y is computed"),
        (lambda: draw.product(ROW, X), "must give X and A by name, got ndarray"),
        (lambda: draw.product(ROW, {"A": A, "B": A}), "must give X and A by name, got A and B"),
        (lambda: draw.product(ROW, {"X": X, "A": X}), "A is 2×4, got 2×2"),
        (lambda: draw.product(ROW, {"X": X, "A": A * 1j}), "A must hold real numbers, got complex"),
        (lambda: draw.product(ROW, {"X": X, "A": "words"}), "A must hold real numbers, got <U5"),
        (
            lambda: _valued(shards.column_parallel(64, 64, 64, tp=2)),
            r"numbers of X 64×64 cannot be read in one picture: at most 16×23 of numbers",
        ),
        (
            lambda: _valued(shards.column_parallel(2, 2, 14, tp=2), 1e-9),
            r"numbers of A 2×14 cannot be read in one picture: at most 16×12 .* as long as -1",
        ),
        (
            lambda: _valued(shards.row_parallel(2, 16, 2, tp=16)),
            "numbers of 16 ranks cannot be read in one picture: at most 8",
        ),
        (
            lambda: _valued(shards.row_parallel(16, 16, 16, tp=8)),
            r"X·A = Y with 16×16 and 16×16 on 8 ranks take \d+ points of height, and at most 1200",
        ),
    ],
)
def test_what_cannot_be_drawn_legibly_is_refused_with_its_numbers(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def _valued(block, scale=1.0):
    step = next(step for step in block.steps if isinstance(step, Product))
    random = np.random.default_rng(1)
    return draw.product(
        block, {cut.name: scale * random.normal(size=cut.shape) for cut in step.inputs}
    )
