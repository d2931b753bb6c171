from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import layouts, small

from mpviz import ParallelLayout
from mpviz.shards import Shard, held_by, label, layers_of

SLIDE = ParallelLayout(nodes=2, gpus_per_node=8, tp=2, pp=4)


def test_the_virtual_pipeline_of_megatrons_docstring() -> None:
    dealt = [[list(chunk) for chunk in rank] for rank in layers_of(16, pp=4, chunks=2)]
    assert dealt == [
        [[1, 2], [9, 10]],
        [[3, 4], [11, 12]],
        [[5, 6], [13, 14]],
        [[7, 8], [15, 16]],
    ]


def test_llama_3_has_one_layer_less_on_its_first_and_last_pipeline_rank() -> None:
    counts = [len(chunks[0]) for chunks in layers_of(126, pp=16, first=7, last=7)]
    assert counts == [7, *[8] * 14, 7]


def test_either_end_may_differ_alone() -> None:
    assert layers_of(10, pp=4, first=1) == [
        [range(1, 2)],
        [range(2, 5)],
        [range(5, 8)],
        [range(8, 11)],
    ]
    assert layers_of(10, pp=2, last=3) == [[range(1, 8)], [range(8, 11)]]
    assert layers_of(10, pp=2, first=4, last=6) == [[range(1, 5)], [range(5, 11)]]


def test_without_a_pipeline_one_rank_holds_all_layers() -> None:
    assert layers_of(3, pp=1) == [[range(1, 4)]]
    assert layers_of(3, pp=1, first=3, last=3) == [[range(1, 4)]]


@given(pp=small, chunks=small, per_chunk=st.tuples(small, small, small), data=st.data())
def test_layers_are_dealt_once_each_in_chunks_of_equal_length(
    pp: int, chunks: int, per_chunk: tuple[int, int, int], data: st.DataObject
) -> None:
    assume(pp > 1 or chunks == 1)
    middle, *ends = (count * chunks for count in per_chunk)
    first, last = (data.draw(st.sampled_from([None, end])) if pp > 1 else None for end in ends)
    counts = [middle] * pp
    counts[0], counts[-1] = first or counts[0], last or counts[-1]
    dealt = layers_of(sum(counts), pp, chunks=chunks, first=first, last=last)
    # Chunk by chunk over all pipeline ranks is the order in which a microbatch meets the layers.
    met = [layer for chunk in range(chunks) for rank in dealt for layer in rank[chunk]]
    assert met == list(range(1, sum(counts) + 1))
    assert [[len(chunk) for chunk in rank] for rank in dealt] == [
        [count // chunks] * chunks for count in counts
    ]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"num_layers": 0}, "num_layers must be a whole number ≥ 1, got 0"),
        ({"num_layers": 16.0}, "num_layers must be a whole number ≥ 1, got 16.0"),
        ({"pp": True}, "pp must be a whole number ≥ 1, got True"),
        ({"pp": "4"}, "pp must be a whole number ≥ 1, got '4'"),
        ({"chunks": 0}, "chunks must be a whole number ≥ 1, got 0"),
        ({"first": 0}, "first must be a whole number ≥ 1, got 0"),
        ({"last": -1}, "last must be a whole number ≥ 1, got -1"),
        ({"first": 1.0}, "first must be a whole number ≥ 1, got 1.0"),
        (
            {"pp": 3},
            "the 16 layers cannot be dealt evenly to 3 of the 3 pipeline ranks; pp may be "
            "2, 4, 8 or 16; or give first= and last= their own number of layers",
        ),
        (
            {"num_layers": 2},
            "the 2 layers cannot be dealt evenly to 4 of the 4 pipeline ranks; pp may be 2; "
            "or give first= and last= their own number of layers",
        ),
        (
            {"first": 2},
            "14 of the 16 layers cannot be dealt evenly to 3 of the 4 pipeline ranks; "
            "or give first= and last= their own number of layers",
        ),
        (
            {"first": 8, "last": 8},
            "first=8 and last=8 leave 16 - 16 = 0 layers, which cannot be dealt evenly to the 2 "
            "pipeline ranks between; first + last may be 12 or 14",
        ),
        (
            {"pp": 2, "first": 8, "last": 4},
            "with pp=2, first + last must be all 16 layers, got 8 + 4",
        ),
        (
            {"num_layers": 6, "pp": 2, "first": 4, "last": 4},
            "with pp=2, first + last must be all 6 layers, got 4 + 4",
        ),
        (
            {"pp": 5, "first": 4, "last": 4},
            "first=4 and last=4 leave 16 - 8 = 8 layers, which cannot be dealt evenly to the 3 "
            "pipeline ranks between; first + last may be 7 or 10",
        ),
        (
            {"num_layers": 3, "first": 2, "last": 2},
            "first=2 and last=2 leave 3 - 4 = -1 layers, which cannot be dealt evenly to the 2 "
            "pipeline ranks between",
        ),
        (
            {"chunks": 3},
            "the 4 layers of pipeline rank 0 cannot be dealt to chunks=3; chunks may be 1, 2 or 4",
        ),
        (
            {"first": 4, "last": 6, "pp": 3, "chunks": 4},
            "the 6 layers of pipeline rank 1 cannot be dealt to chunks=4; "
            "chunks may be 1, 2, 3 or 6",
        ),
        ({"pp": 1, "first": 0}, "first must be a whole number ≥ 1, got 0"),
        ({"pp": 1, "last": 16.0}, "last must be a whole number ≥ 1, got 16.0"),
        (
            {"pp": 1, "chunks": 2},
            "chunks=2 interleaves the stages of a pipeline; pp=1 has none",
        ),
        ({"pp": 1, "first": 8}, "with pp=1 the only rank holds all 16 layers"),
        ({"pp": 1, "last": 8}, "with pp=1 the only rank holds all 16 layers"),
    ],
)
def test_layers_that_cannot_be_dealt_are_refused(arguments: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError) as refused:
        layers_of(**{"num_layers": 16, "pp": 4, **arguments})
    assert str(refused.value) == expected


# ---- one rank


def test_what_rank_5_of_the_slide_holds() -> None:
    shard = held_by(SLIDE, 5, num_layers=16)
    assert shard == Shard(5, "⋈₁", tp_rank=1, tp=2, chunks=(range(5, 9),))
    assert repr(shard) == "rank 5 holds ⋈₁: layers 5–8, part 2 of 2 of each matrix"
    assert shard.layers == (5, 6, 7, 8)
    assert shard.slice_of((4, 6), dim=1) == (slice(None), slice(3, 6))
    with pytest.raises(FrozenInstanceError):
        shard.rank = 6  # type: ignore[misc]


def test_interleaved_ranks_say_each_chunk() -> None:
    shard = held_by(SLIDE, 6, 16, chunks=2)
    assert repr(shard) == "rank 6 holds ⊕₂: layers 3–4 and 11–12, part 1 of 2 of each matrix"
    assert shard.layers == (3, 4, 11, 12)
    single = held_by(ParallelLayout(pp=4), 7, 7, first=2, last=1)
    assert repr(single).endswith("holds ⊠₂: layer 7, part 1 of 1 of each matrix")


@given(layouts)
def test_one_model_copy_holds_every_part_of_every_layer_once(layout: ParallelLayout) -> None:
    num_layers = 2 * layout.pp
    for copy in layout.groups("model"):
        shards = [
            held_by(layout, rank, num_layers, chunks=2 if layout.pp > 1 else 1) for rank in copy
        ]
        parts = sorted((layer, shard.tp_rank) for shard in shards for layer in shard.layers)
        assert parts == [
            (layer, tp_rank) for layer in range(1, num_layers + 1) for tp_rank in range(layout.tp)
        ]


@pytest.mark.parametrize(
    ("rank", "expected"),
    [
        (16, "rank 16 is out of range: 0 … 15"),
        (-1, "rank must be a whole number ≥ 0, got -1"),
        (True, "rank must be a whole number ≥ 0, got True"),
        ("1", "rank must be a whole number ≥ 0, got '1'"),
    ],
)
def test_ranks_outside_the_world_hold_nothing(rank: Any, expected: str) -> None:
    for question in (lambda: label(SLIDE, rank), lambda: held_by(SLIDE, rank, 16)):
        with pytest.raises(ValueError) as refused:
            question()
        assert str(refused.value) == expected
