from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from strategies import layouts

from mpviz import ParallelLayout
from mpviz.shards import SYMBOLS, copy_of, label, letters, piece_of, subscript, symbol

SLIDE = ParallelLayout(nodes=2, gpus_per_node=8, tp=2, pp=4)


def test_the_slides_grid_of_both_copies() -> None:
    # Rows are tp ranks, columns pipeline ranks, blocks model copies: as the lecture prints it.
    grid = [
        " ".join(label(SLIDE, SLIDE.rank(tp=tp, dp=dp, pp=pp)) for pp in range(4))
        for dp in range(2)
        for tp in range(2)
    ]
    assert grid == ["★₁ ⊕₁ □₁ ⊠₁", "△₁ ⋈₁ #₁ ○₁", "★₂ ⊕₂ □₂ ⊠₂", "△₂ ⋈₂ #₂ ○₂"]


def test_symbols_are_all_different() -> None:
    assert len(set(SYMBOLS)) == len(SYMBOLS) == 16


def test_beyond_the_symbols_pieces_are_letter_and_number() -> None:
    just_enough = ParallelLayout(nodes=2, tp=4, pp=4)
    assert [symbol(just_enough, piece) for piece in range(16)] == list(SYMBOLS)
    one_too_many = ParallelLayout(gpus_per_node=17, tp=17)
    assert [symbol(one_too_many, piece) for piece in (0, 16)] == ["A0", "Q0"]
    too_many = ParallelLayout(nodes=4, tp=4, pp=8)
    assert [symbol(too_many, piece) for piece in (0, 7, 8, 31)] == ["A0", "A7", "B0", "D7"]
    assert label(ParallelLayout(nodes=32, tp=8, pp=16), 255) == "H15₂"


def test_letters_count_as_spreadsheet_columns_do() -> None:
    known = {0: "A", 1: "B", 25: "Z", 26: "AA", 51: "AZ", 52: "BA", 701: "ZZ", 702: "AAA"}
    assert {number: letters(number) for number in known} == known
    assert len({letters(number) for number in range(2000)}) == 2000


def test_subscripts_are_decimal_digits() -> None:
    assert [subscript(number) for number in (0, 1234567890)] == ["₀", "₁₂₃₄₅₆₇₈₉₀"]


@given(layouts)
def test_ranks_share_a_label_exactly_if_only_cp_tells_them_apart(layout: ParallelLayout) -> None:
    by_label = defaultdict(list)
    for rank in range(layout.world_size):
        by_label[label(layout, rank)].append(rank)
    assert sorted(by_label.values()) == sorted(layout.groups("cp").tolist())


def test_cp_ranks_work_on_one_copy() -> None:
    # dp=2 is two copies, however many ranks hold the parameters.
    layout = ParallelLayout(nodes=1, gpus_per_node=8, tp=2, cp=2)
    assert layout.dp == 2
    assert " ".join(label(layout, rank) for rank in range(8)) == "★₁ ⊕₁ ★₁ ⊕₁ ★₂ ⊕₂ ★₂ ⊕₂"


@given(layouts)
def test_same_symbol_exactly_for_same_tp_and_pp_rank(layout: ParallelLayout) -> None:
    ranks = np.arange(layout.world_size)
    marks = [symbol(layout, int(piece)) for piece in piece_of(layout, ranks)]
    at = layout.coordinates(ranks)
    places = list(zip(at["tp"].tolist(), at["pp"].tolist(), strict=True))
    # Each mark has one place and each place one mark.
    assert len(set(marks)) == len(set(places)) == len(set(zip(marks, places, strict=True)))
    assert {int(piece) for piece in piece_of(layout, ranks)} == set(range(layout.tp * layout.pp))


@given(layouts)
def test_holders_of_one_piece_are_a_gradient_group(layout: ParallelLayout) -> None:
    for group in layout.groups("dp-cp"):
        assert len(set(piece_of(layout, np.array(group)).tolist())) == 1
        copies = copy_of(layout, np.array(group)).tolist()
        assert sorted(copies) == sorted(list(range(layout.dp)) * layout.cp)


@given(layouts)
def test_a_copy_is_all_ranks_of_one_dp_coordinate(layout: ParallelLayout) -> None:
    for i, group in enumerate(layout.groups("tp-cp-pp")):
        assert copy_of(layout, np.array(group)).tolist() == [i] * len(group)


@pytest.mark.parametrize("piece", [-1, 8])
def test_a_piece_the_model_does_not_have_is_refused(piece: int) -> None:
    with pytest.raises(ValueError, match=f"piece {piece} is out of range: 0 … 7"):
        symbol(SLIDE, piece)
