from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import divisors

from mpviz.shards import Cut, cut, times


def test_dim_1_cuts_columns_apart_and_dim_0_rows() -> None:
    matrix = np.arange(8).reshape(2, 4)
    columns = [matrix[part].tolist() for part in cut((2, 4), parts=2, dim=1)]
    assert columns == [[[0, 1], [4, 5]], [[2, 3], [6, 7]]]
    rows = [matrix[part].tolist() for part in cut((2, 4), parts=2, dim=0)]
    assert rows == [[[0, 1, 2, 3]], [[4, 5, 6, 7]]]
    assert cut((2, 4), 2, dim=-1) == cut((2, 4), 2, dim=1)


@given(st.lists(st.integers(1, 12), min_size=1, max_size=3), st.data())
def test_cut_shards_reassemble(shape: list[int], data: st.DataObject) -> None:
    dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    parts = data.draw(st.sampled_from(divisors(shape[dim])))
    array = np.arange(np.prod(shape)).reshape(shape)
    shards = [array[part] for part in cut(tuple(shape), parts, dim)]
    assert len({shard.shape for shard in shards}) == 1 and len(shards) == parts
    assert np.array_equal(np.concatenate(shards, axis=dim), array)


@pytest.mark.parametrize(
    ("parts", "dim", "expected"),
    [
        (
            4,
            1,
            "6 (dimension 1 of shape (4, 6)) cannot be cut into 4 equal parts; parts may be "
            "1, 2, 3 or 6",
        ),
        (
            3,
            -2,
            "4 (dimension 0 of shape (4, 6)) cannot be cut into 3 equal parts; parts may be "
            "1, 2 or 4",
        ),
        (0, 0, "parts must be a whole number ≥ 1, got 0"),
        (2.0, 0, "parts must be a whole number ≥ 1, got 2.0"),
        (True, 0, "parts must be a whole number ≥ 1, got True"),
        (2, 2, "dim=2 is out of range for shape (4, 6)"),
        (2, -3, "dim=-3 is out of range for shape (4, 6)"),
    ],
)
def test_matrices_that_cannot_be_cut_are_refused(parts: Any, dim: int, expected: str) -> None:
    with pytest.raises(ValueError) as refused:
        cut((4, 6), parts, dim)
    assert str(refused.value) == expected


# ---- a matrix on its ranks


def test_the_three_states_read_as_one_line_each() -> None:
    assert repr(Cut("A", (6, 8), 2, dim=1)) == "A 6×8, cut by column into 2 parts of 6×4"
    assert repr(Cut("B", (8, 6), 2, dim=0)) == "B 8×6, cut by row into 2 parts of 4×6"
    assert repr(Cut("X", (4, 6), 2)) == "X 4×6, whole on each of 2"
    assert repr(Cut("Y", (4, 8), 2, partial=True)) == "Y 4×8, a partial sum on each of 2"
    assert repr(Cut("b", (8,), 4, dim=0)) == "b 8, cut into 4 parts of 2"
    assert (
        repr(Cut("T", (4, 2, 6), 1, dim=0)) == "T 4×2×6, cut along dimension 0 into 1 part of 4×2×6"
    )


def test_a_negative_dim_is_the_same_cut() -> None:
    assert Cut("A", (6, 8), 2, dim=-1) == Cut("A", (6, 8), 2, dim=1)


def test_a_cut_is_frozen_and_hashable() -> None:
    a = Cut("A", (6, 8), 2, dim=1)
    assert {a: 1}[Cut("A", (6, 8), 2, dim=1)] == 1
    with pytest.raises(FrozenInstanceError):
        a.parts = 3  # type: ignore[misc]


@st.composite
def arrays_and_cuts(draw: st.DrawFn) -> tuple[np.ndarray, Cut]:
    shape = tuple(draw(st.lists(st.integers(1, 6), min_size=1, max_size=3)))
    dim = draw(st.none() | st.integers(-len(shape), len(shape) - 1))
    parts = draw(st.integers(1, 6) if dim is None else st.sampled_from(divisors(shape[dim])))
    return np.arange(np.prod(shape)).reshape(shape), Cut("A", shape, parts, dim=dim)


@given(arrays_and_cuts())
def test_cutting_and_putting_together_again_is_the_identity(drawn: tuple[np.ndarray, Cut]) -> None:
    array, a = drawn
    parts = [a.part(array, index) for index in range(a.parts)]
    assert {part.shape for part in parts} == {a.local_shape} and len(a.slices) == a.parts
    assert np.array_equal(a.whole(parts), array)


@given(st.lists(st.integers(-9, 9), min_size=1, max_size=5))
def test_a_partial_sum_is_put_together_by_adding(addends: list[int]) -> None:
    y = Cut("Y", (1,), len(addends), partial=True)
    assert y.local_shape == (1,)
    assert y.whole([[addend] for addend in addends]).tolist() == [sum(addends)]


def test_a_part_is_a_view() -> None:
    array = np.zeros((2, 4))
    Cut("A", (2, 4), 2, dim=1).part(array, 1)[:] = 1
    assert array.tolist() == [[0, 0, 1, 1]] * 2


def test_tensors_are_cut_like_arrays() -> None:
    torch = pytest.importorskip("torch")
    a = Cut("A", (2, 4), 2, dim=1)
    parts = [a.part(torch.arange(8).reshape(2, 4), index) for index in range(2)]
    assert [part.tolist() for part in parts] == [[[0, 1], [4, 5]], [[2, 3], [6, 7]]]
    assert a.whole(parts).tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (
            lambda: Cut("A", (6, 7), 2, dim=1),
            "A: 7 (dimension 1 of shape (6, 7)) cannot be cut into 2 equal parts; "
            "parts may be 1 or 7",
        ),
        (lambda: Cut("A", (6, 7), 0), "parts must be a whole number ≥ 1, got 0"),
        (lambda: Cut("A", (6, 0), 1), "a size of A must be a whole number ≥ 1, got 0"),
        (lambda: Cut("A", (6, 7), 1, dim=2), "A: dim=2 is out of range for shape (6, 7)"),
        (
            lambda: Cut("A", (6, 8), 2, dim=1, partial=True),
            "A is either cut or a partial sum; give dim or partial",
        ),
        (lambda: Cut("A", (6, 8), 2).part(np.zeros((8, 6)), 0), "A is 6×8, got 8×6"),
        (
            lambda: Cut("Y", (6, 8), 2, partial=True).part(np.zeros((6, 8)), 0),
            "Y 6×8, a partial sum on each of 2: its addends cannot be told from the sum",
        ),
        (
            lambda: Cut("A", (2, 4), 2, dim=1).whole([np.zeros((2, 2)), np.zeros((2, 4))]),
            "A 2×4, cut by column into 2 parts of 2×2, got 2×2 and 2×4",
        ),
        (
            lambda: Cut("A", (2, 4), 2, dim=1).whole([]),
            "A 2×4, cut by column into 2 parts of 2×2, got no parts",
        ),
        (
            lambda: Cut("X", (1,), 2).whole([[1], [2]]),
            "X 1, whole on each of 2, but part 1 differs from part 0",
        ),
    ],
)
def test_what_is_no_cut_is_refused(make: Any, expected: str) -> None:
    with pytest.raises(ValueError) as refused:
        make()
    assert str(refused.value) == expected


def test_a_scalar_has_a_name_for_its_shape() -> None:
    assert [times(()), times((3,)), times((3, 4))] == ["a scalar", "3", "3×4"]
