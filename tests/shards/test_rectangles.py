"""What the ranks hold, put back where its rectangles say, is the whole tensor, once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpviz.shards import Bucket, rectangles


def parts_of(whole, parts, dim, stacked):
    """What each rank holds: of each of the stacked matrices, its part."""
    if dim is None:
        return [whole] * parts
    cut = [np.split(one, parts, axis=dim) for one in np.split(whole, stacked)]
    return [np.concatenate(mine) for mine in zip(*cut, strict=True)]


def put_back(found, seen, held, places):
    """Put what a rank holds where its rectangles say."""
    for one in places:
        at = tuple(slice(o, o + s) for o, s in zip(one.offsets, one.sizes, strict=True))
        found[at] = held[one.held].reshape(one.sizes)
        seen[at] += 1


cuts = st.sampled_from([(None, 1), (0, 1), (0, 2), (0, 3), (1, 1)])


@given(st.integers(1, 3), st.integers(1, 4), cuts, st.integers(1, 4), st.integers(1, 5))
def test_the_shards_of_all_ranks_are_the_whole(height, width, cut, parts, copies):
    (dim, stacked), columns = cut, width * (parts if cut[0] == 1 else 1)
    whole = np.arange(height * stacked * parts * columns).reshape(-1, columns)
    found, seen = np.full_like(whole, -1), np.zeros_like(whole)
    for rank, part in enumerate(parts_of(whole, parts, dim, stacked)):
        bucket = Bucket({"weight": part.shape, "bias": (2,)}, copies)
        for copy in range(copies):
            owned = bucket.owned(copy).get("weight", slice(0, 0))
            places = rectangles(
                part.shape, rank, parts, dim=dim, stacked=stacked, only=owned
            )  # fmt: skip
            assert len(places) <= 3 * stacked
            put_back(found, seen, part.ravel()[owned], places)
    assert np.array_equal(found, whole)
    assert (seen == (parts if dim is None else 1)).all()


@pytest.mark.parametrize(("words", "parts"), [(9, 4), (8, 4), (3, 2), (19, 2)])
def test_padding_is_in_no_rectangle(words, parts):
    padded = -(-words // 4 // parts) * 4 * parts
    whole = np.arange(2 * words).reshape(words, 2)
    part = np.split(np.vstack([whole, np.full((padded - words, 2), -5)]), parts)
    found, seen = np.full_like(whole, -1), np.zeros_like(whole)
    for rank, held in enumerate(part):
        for only in (slice(0, 3), slice(3, held.size)):
            places = rectangles(held.shape, rank, parts, dim=0, rows=words, only=only)
            put_back(found, seen, held.ravel()[only], places)
    assert np.array_equal(found, whole) and (seen == 1).all()


def test_vectors_and_numbers():
    assert [one.offsets for one in rectangles((3,), 2, 4, dim=0)] == [(6,)]
    (one,) = rectangles((4,), 0, 2, dim=0, only=slice(1, 3))
    assert (one.offsets, one.sizes, one.start) == ((1,), (2,), 0)
    (one,) = rectangles(())
    assert one.held == slice(0, 1)
    assert rectangles((4, 2), only=slice(0, 0)) == []
