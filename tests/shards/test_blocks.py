from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import small

from mpviz.shards import (
    Block,
    Collective,
    Cut,
    Local,
    Operator,
    Product,
    attention,
    column_parallel,
    mlp,
    product,
    row_parallel,
)

# ---- figure 3 of the Megatron paper


def test_the_mlp_of_figure_3a() -> None:
    assert repr(mlp(4, 6, 24, tp=2)) == (
        "MLP, tp=2\n"
        "                X 4×6, whole on each of 2\n"
        "  f             copy forward, all-reduce backward → X whole\n"
        "  X·A = XA      A 6×24, cut by column into 2 parts of 6×12 → XA cut by column\n"
        "  GeLU(XA) = Y  → Y cut by column\n"
        "  Y·B = Z       B 24×6, cut by row into 2 parts of 12×6 → Z a partial sum\n"
        "  g             all-reduce forward, copy backward → Z whole"
    )


def test_the_attention_of_figure_3b() -> None:
    steps = attention(4, 6, heads=2, tp=2).steps
    assert [repr(step) for step in steps] == [
        "f: copy forward, all-reduce backward",
        "X·WQ = Q",
        "X·WK = K",
        "X·WV = V",
        "softmax(QKᵀ)V = Y",
        "Y·B = Z",
        "g: all-reduce forward, copy backward",
    ]


@pytest.mark.parametrize("sequence_parallel", [False, True])
def test_each_step_takes_what_the_steps_before_it_gave(sequence_parallel: bool) -> None:
    options = {"tp": 2, "sequence_parallel": sequence_parallel}
    for block in (
        column_parallel(4, 6, 8, **options),
        row_parallel(4, 8, 6, **options),
        mlp(4, 6, 24, **options),
        attention(4, 6, heads=2, **options),
        column_parallel(4, 6, 8, tp=2, gather_output=True),
        row_parallel(4, 8, 6, tp=2, input_is_parallel=False),
    ):
        known = {block.steps[0].inputs[0]}
        for step in block.steps:
            weights = {step.right} if isinstance(step, Product) else set()
            assert set(step.inputs) <= known | weights, (block.name, step)
            known.add(step.output)


def test_sequence_parallel_blocks_have_tokens_cut_outside() -> None:
    for block in _layer(4, 6, 2, tp=2, sequence_parallel=True):
        assert block.steps[0].inputs[0].dim == block.steps[-1].output.dim == 0


# ---- products


@given(small, small, small, small, st.data())
def test_parts_multiplied_on_their_ranks_are_the_product(
    rows: int, inner: int, columns: int, tp: int, data: st.DataObject
) -> None:
    rows, inner, columns = tp * rows, tp * inner, tp * columns
    x = Cut("X", (rows, inner), tp, dim=data.draw(st.sampled_from([None, 0, 1])))
    a = Cut("A", (inner, columns), tp, dim=data.draw(st.sampled_from([None, 0, 1])))
    try:
        y = product(x, a, "Y")
    except ValueError:
        assume(tp == 1)  # the whole of one rank is enough, but not what this says
        return
    left = np.arange(rows * inner).reshape(rows, inner)
    right = np.arange(inner * columns).reshape(inner, columns) - 7
    of_ranks = [x.part(left, rank) @ a.part(right, rank) for rank in range(tp)]
    assert np.array_equal(y.whole(of_ranks), left @ right)


def test_what_needs_a_word_between_ranks_is_no_product() -> None:
    x, a = (4, 6), (6, 8)
    possible = {
        (x_dim, a_dim)
        for x_dim in (None, 0, 1)
        for a_dim in (None, 0, 1)
        if _exists(Cut("X", x, 2, dim=x_dim), Cut("A", a, 2, dim=a_dim))
    }
    assert possible == {(None, None), (None, 1), (0, None), (1, 0)}
    assert not _exists(Cut("X", x, 2, partial=True), Cut("A", a, 2))


def _exists(x: Cut, a: Cut) -> bool:
    try:
        product(x, a, "Y")
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (
            lambda: product(Cut("X", (4, 6), 2, dim=1), Cut("A", (6, 8), 2, dim=1), "Y"),
            "X is cut by column and A is cut by column, so no rank has what it needs for X·A; "
            "A cut by column fits X whole, A cut by row fits X cut by column",
        ),
        (
            lambda: product(Cut("X", (4, 6), 2), Cut("A", (8, 6), 2), "Y"),
            "X·A does not exist: X 4×6, whole on each of 2; A 8×6, whole on each of 2",
        ),
        (
            lambda: Local("GeLU(Y)", (Cut("Y", (4, 8), 2, partial=True),), Cut("Z", (4, 8), 2)),
            "GeLU(Y) needs Y itself, but each of 2 ranks holds a partial sum of it: reduce first, "
            "or cut the weight before by column",
        ),
        (
            lambda: attention(4, 6, heads=4, tp=2),
            "hidden=6 cannot be cut into 4 heads; heads may be 1, 2, 3 or 6",
        ),
        (
            lambda: attention(4, 6, heads=3, tp=2),
            "3 heads cannot be dealt evenly to tp=2; tp may be 1 or 3",
        ),
        (
            lambda: mlp(4, 6, 9, tp=2),
            "A: 9 (dimension 1 of shape (6, 9)) cannot be cut into 2 equal parts; "
            "parts may be 1, 3 or 9",
        ),
        (
            lambda: mlp(5, 6, 8, tp=2, sequence_parallel=True),
            "X: 5 (dimension 0 of shape (5, 6)) cannot be cut into 2 equal parts; "
            "parts may be 1 or 5",
        ),
    ],
)
def test_plans_that_cannot_work_are_refused(make: Any, expected: str) -> None:
    with pytest.raises(ValueError) as refused:
        make()
    assert str(refused.value) == expected


# ---- collectives


def _layer(tokens: int, hidden: int, heads: int, tp: int, **options: bool) -> tuple[Block, Block]:
    return attention(tokens, hidden, heads, tp, **options), mlp(
        tokens, hidden, 4 * hidden, tp, **options
    )


@given(small, small, small, st.integers(2, 8))
def test_a_layer_has_two_all_reduces_forward_and_two_backward(
    tokens: int, per_head: int, heads: int, tp: int
) -> None:
    hidden = tp * heads * per_head
    for way in ("forward", "backward"):
        calls = [
            call for block in _layer(tokens, hidden, tp * heads, tp) for call in getattr(block, way)
        ]
        assert [(call.name, call.elements) for call in calls] == 2 * [
            ("all-reduce", tokens * hidden)
        ]


@given(small, small, st.integers(2, 8))
def test_a_sequence_parallel_forward_sends_as_much_as_its_all_reduces(
    tokens: int, hidden: int, tp: int
) -> None:
    tokens, hidden = tp * tokens, tp * hidden
    plain = _layer(tokens, hidden, tp, tp)
    parallel = _layer(tokens, hidden, tp, tp, sequence_parallel=True)
    sent = [
        sum(call.sent for block in layer for call in block.forward) for layer in (plain, parallel)
    ]
    assert sent[0] == pytest.approx(sent[1])  # thirds and sevenths do not add up exactly
    assert sent[0] == pytest.approx(4 * (tp - 1) / tp * tokens * hidden)


def test_a_sequence_parallel_backward_gathers_the_input_again() -> None:
    block = mlp(4, 6, 24, tp=2, sequence_parallel=True)
    assert repr(block.forward) == "(all-gather of X 2×6, reduce-scatter of Z 4×6)"
    assert repr(block.backward) == (
        "(all-gather of dZ 2×6, all-gather of X 2×6, reduce-scatter of dX 4×6)"
    )


def test_gather_and_split_are_each_others_backward() -> None:
    column = column_parallel(4, 6, 8, tp=2, gather_output=True)
    assert repr(column.forward) == "(all-gather of Y 4×4,)"
    row = row_parallel(4, 8, 6, tp=2, input_is_parallel=False)
    assert repr(row.backward) == "(all-gather of dX 4×4,)"


def test_one_rank_alone_calls_nobody() -> None:
    for sequence_parallel in (False, True):
        for block in _layer(4, 6, 2, tp=1, sequence_parallel=sequence_parallel):
            assert block.forward == block.backward == ()


@pytest.mark.parametrize("ranks", [2, 3, 8])
def test_what_a_ring_sends_is_counted_message_by_message(ranks: int) -> None:
    """Against a walk round the ring: ranks - 1 steps, in each a chunk to the neighbour."""
    whole, part = (2 * ranks, 5), (2, 5)
    gathered = sum(prod(part) for _ in range(ranks - 1))
    assert Collective("all-gather", "X", part, ranks).sent == gathered
    assert Collective("reduce-scatter", "Z", whole, ranks).sent == gathered
    assert Collective("all-reduce", "Z", whole, ranks).sent == 2 * gathered


def test_bytes_are_those_a_rank_puts_in() -> None:
    assert Collective("all-gather", "X", (2, 6), 2).bytes(itemsize=8) == 96


def test_operators_are_steps_like_the_others() -> None:
    f, *_ = mlp(4, 6, 24, tp=2).steps
    assert isinstance(f, Operator) and f.inputs == (f.input,)


def test_a_block_without_a_step_prints_itself_too() -> None:
    assert repr(Block("idle", 2, ())) == "idle, tp=2"


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ({"heads": 0}, "heads must be a whole number ≥ 1, got 0"),
        ({"heads": 1.5}, "heads must be a whole number ≥ 1, got 1.5"),
        ({"heads": -1}, "heads must be a whole number ≥ 1, got -1"),
        ({"tp": 0}, "tp must be a whole number ≥ 1, got 0"),
        ({"hidden": 6.0}, "hidden must be a whole number ≥ 1, got 6.0"),
    ],
)
def test_heads_are_whole(sizes: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError) as refused:
        attention(4, **{"hidden": 6, "heads": 2, "tp": 2, **sizes})
    assert str(refused.value) == expected
