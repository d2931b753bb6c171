"""Parameters in buffers: each element has one place, one owner, and none is lost."""

from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpviz.shards import Bucket, buckets_of

shapes = st.lists(st.lists(st.integers(0, 7), max_size=3).map(tuple), max_size=6).map(
    lambda each: {f"p{n}": shape for n, shape in enumerate(each)}
)


@given(shapes, st.integers(1, 9))
def test_every_element_is_owned_once(named, parts):
    bucket = Bucket(named, parts)
    assert bucket.padded_numel % parts == 0
    assert 0 <= bucket.padded_numel - bucket.numel < parts
    owners = {name: np.zeros(prod(shape), int) for name, shape in named.items()}
    for rank in range(parts):
        own = bucket.owned(rank)
        for name, part in own.items():
            owners[name][part] += 1
        assert sum(part.stop - part.start for part in own.values()) <= bucket.shard_numel
    assert all((count == 1).all() for count in owners.values())


@given(shapes, st.integers(1, 9))
def test_shards_are_slices_of_the_buffer(named, parts):
    bucket = Bucket(named, parts)
    buffer = np.full(bucket.padded_numel, -1)
    for name, span in bucket.spans.items():
        assert (buffer[span] == -1).all()
        buffer[span] = np.arange(prod(named[name]))
    for rank in range(parts):
        mine = buffer[bucket.shard(rank)]
        expected = [np.arange(prod(named[n]))[part] for n, part in bucket.owned(rank).items()]
        assert mine[mine >= 0].tolist() == np.concatenate([[], *expected]).tolist()


@given(shapes, st.integers(1, 9), st.integers(1, 60))
def test_buckets_hold_all_from_behind_and_end_where_they_are_full(named, parts, full):
    buckets = buckets_of(named, parts, full=full)
    order = [name for bucket in buckets for name in bucket.shapes]
    assert order == list(named)[::-1]
    for bucket in buckets:
        *before, _ = map(prod, bucket.shapes.values())
        assert sum(before) < full
        assert bucket.numel >= full or bucket is buckets[-1]


def test_buckets_are_equal_if_they_say_the_same():
    assert Bucket({"w": (2, 3)}, 2) == Bucket({"w": [2, 3]}, np.int64(2))
    assert Bucket({"w": (2, 3)}, 2) != Bucket({"w": (3, 2)}, 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Bucket({"w": (2, 3)}, 0), "parts must be a whole number ≥ 1, got 0"),
        (lambda: Bucket({"w": (-1,)}, 1), "a size of w must be a whole number ≥ 0, got -1"),
        (lambda: Bucket({"w": (2,)}, 2).owned(2), "rank must be 0 … 1, got 2"),
        (lambda: buckets_of({}, 1, full=0), "full must be a whole number ≥ 1, got 0"),
    ],
)
def test_sizes_are_whole_numbers(make, message):
    with pytest.raises(ValueError, match=message):
        make()
