from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import grids, naive_groups

from mpviz import Groups, RankGrid

SLIDE_DP = Groups("dp", np.array([[0, 2], [1, 3]]))


# ---- the grid


def test_24_ranks_middle_axis_is_the_example_in_megatrons_docstring() -> None:
    groups = RankGrid(("tp", "dp", "pp"), (2, 3, 4)).groups(["dp"]).tolist()
    assert groups == [
        [0, 2, 4],
        [1, 3, 5],
        [6, 8, 10],
        [7, 9, 11],
        [12, 14, 16],
        [13, 15, 17],
        [18, 20, 22],
        [19, 21, 23],
    ]


def test_the_first_axis_varies_fastest() -> None:
    grid = RankGrid(("tp", "dp", "pp"), (2, 3, 4))
    assert grid.world_size == 24
    assert grid.strides == {"tp": 1, "dp": 2, "pp": 6}
    assert [grid.coordinates(rank) for rank in (0, 1, 2, 6, 23)] == [
        {"tp": 0, "dp": 0, "pp": 0},
        {"tp": 1, "dp": 0, "pp": 0},
        {"tp": 0, "dp": 1, "pp": 0},
        {"tp": 0, "dp": 0, "pp": 1},
        {"tp": 1, "dp": 2, "pp": 3},
    ]


def test_along_no_axis_every_rank_is_alone() -> None:
    assert RankGrid(("tp", "dp"), (2, 2)).groups([]).tolist() == [[0], [1], [2], [3]]


@given(grids())
def test_rank_undoes_coordinates(grid: RankGrid) -> None:
    assert [grid.rank(grid.coordinates(r)) for r in range(grid.world_size)] == list(
        range(grid.world_size)
    )


@given(grids())
def test_an_array_of_ranks_is_located_like_its_elements(grid: RankGrid) -> None:
    ranks = np.arange(grid.world_size)
    at = grid.coordinates(ranks)
    one_by_one = [grid.coordinates(int(rank)) for rank in ranks]
    assert one_by_one == [{axis: int(at[axis][rank]) for axis in grid.axes} for rank in ranks]
    assert np.array_equal(grid.rank(at), ranks)


@given(grids(), st.data())
def test_groups_equal_a_naive_loop_in_whatever_order_the_axes_are_named(
    grid: RankGrid, data: st.DataObject
) -> None:
    along = data.draw(st.lists(st.sampled_from(grid.axes), unique=True))
    assert grid.groups(along).tolist() == naive_groups(grid.axes, grid.sizes, along)


def test_a_grid_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        RankGrid(("tp",), (2,)).sizes = (3,)  # type: ignore[misc]


def test_grids_with_the_same_axes_and_sizes_are_equal() -> None:
    grid, same = RankGrid(("tp", "dp"), (2, 3)), RankGrid(("tp", "dp"), (2, 3))
    assert grid == same and hash(grid) == hash(same)
    assert grid != RankGrid(("dp", "tp"), (2, 3))
    assert grid != RankGrid(("tp", "dp"), (3, 2))


# ---- the groups


def test_groups_are_a_sequence_of_tuples() -> None:
    assert len(SLIDE_DP) == 2
    assert list(SLIDE_DP) == [(0, 2), (1, 3)]
    assert SLIDE_DP[1] == (1, 3)
    assert SLIDE_DP[-1] == (1, 3)
    assert SLIDE_DP[:1] == [(0, 2)]
    assert (0, 2) in SLIDE_DP
    assert SLIDE_DP.tolist() == [[0, 2], [1, 3]]
    assert SLIDE_DP.size == 2
    with pytest.raises(IndexError):
        SLIDE_DP[2]


def test_groups_hold_plain_ints() -> None:
    members = [*SLIDE_DP[0], *next(iter(SLIDE_DP)), *SLIDE_DP.of(3), *SLIDE_DP[:1][0]]
    assert {type(member) for member in members} == {int}


def test_of_finds_the_group_that_holds_a_rank() -> None:
    assert [SLIDE_DP.of(rank) for rank in range(4)] == [(0, 2), (1, 3), (0, 2), (1, 3)]


def test_of_refuses_a_rank_in_no_group() -> None:
    with pytest.raises(ValueError) as refused:
        SLIDE_DP.of(4)
    assert str(refused.value) == "rank 4 is in none of the 2 dp groups"


def test_groups_equal_when_kind_and_ranks_do() -> None:
    same = Groups("dp", np.array([[0, 2], [1, 3]], dtype=np.int32))
    assert same == SLIDE_DP and hash(same) == hash(SLIDE_DP)
    others = [
        Groups("tp", np.array([[0, 2], [1, 3]])),
        Groups("dp", np.array([[0, 1], [2, 3]])),
        Groups("dp", np.array([[0, 2, 1, 3]])),
    ]
    assert all(SLIDE_DP != other for other in others)
    assert len({SLIDE_DP, same, *others}) == 4
    assert SLIDE_DP != [[0, 2], [1, 3]]


def test_ranks_of_groups_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        SLIDE_DP.ranks[0, 0] = 9
    with pytest.raises(FrozenInstanceError):
        SLIDE_DP.kind = "tp"  # type: ignore[misc]


def test_groups_keep_their_own_copy_of_the_array_given() -> None:
    given_ranks = np.array([[0, 2], [1, 3]])
    groups = Groups("dp", given_ranks)
    given_ranks[0, 0] = 9
    assert groups == SLIDE_DP


def test_groups_refuse_anything_but_rows() -> None:
    with pytest.raises(ValueError) as refused:
        Groups("dp", np.array([0, 2]))
    assert str(refused.value) == "groups are the rows of a 2-D array, got shape (2,)"


def test_few_groups_print_whole() -> None:
    assert repr(SLIDE_DP) == "2 dp groups of 2\n0 2 | 1 3"
    assert repr(Groups("dp", np.array([[0, 1]]))) == "1 dp group of 2\n0 1"
    assert repr(Groups("dp", np.empty((0, 2)))) == "0 dp groups of 2"
    sixteen = repr(Groups("dp", np.arange(16).reshape(16, 1)))
    assert sixteen == "16 dp groups of 1\n" + " | ".join(map(str, range(16)))
    assert repr(Groups("dp", np.arange(16).reshape(1, 16))).endswith("12 13 14 15")


def test_many_groups_and_long_groups_print_shortened() -> None:
    many = repr(Groups("dp", np.arange(1017).reshape(1017, 1)))
    assert many == ("1,017 dp groups of 1\n" + " | ".join(map(str, range(16))) + " | … 1,001 more")
    long = repr(Groups("dp", np.arange(2000).reshape(1, 2000)))
    assert long == "1 dp group of 2,000\n" + " ".join(map(str, range(14))) + " … 1999"


def test_an_axis_the_grid_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="no axis xx in a grid of tp, dp"):
        RankGrid(("tp", "dp"), (2, 2)).groups(["tp", "xx"])


def test_every_axis_has_a_size() -> None:
    with pytest.raises(ValueError, match=r"2 axes \('tp', 'dp'\) with sizes \(2,\)"):
        RankGrid(("tp", "dp"), (2,))
