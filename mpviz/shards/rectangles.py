"""Where what a rank holds of a tensor lies in the whole of it: what a checkpoint has to know.

A rank of tensor parallelism holds rows or columns, of stacked matrices those of each; ZeRO cuts its
part once more, wherever a shard happens to begin. All of that is rectangles.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from .cuts import Shape


@dataclass(frozen=True)
class Rectangle:
    """Elements of a tensor that lie in one piece in the memory of a rank.

    Attributes
    ----------
    offsets : tuple of int
        Where it begins in the whole tensor, of at most two dimensions.
    sizes : tuple of int
        Of as many.
    start : int
        Where it begins in what the rank holds, flattened.
    """

    offsets: Shape
    sizes: Shape
    start: int

    @property
    def held(self) -> slice:
        """Where it lies in what the rank holds, flattened."""
        return slice(self.start, self.start + prod(self.sizes))


def rectangles(
    shape: Shape,
    rank: int = 0,
    parts: int = 1,
    *,
    dim: int | None = None,
    stacked: int = 1,
    rows: int | None = None,
    only: slice | None = None,
) -> list[Rectangle]:
    """Return where a rank's part of a tensor lies in the whole.

    Parameters
    ----------
    shape : tuple of int
        Of the part, of at most two dimensions.
    rank, parts : int
        Which of how many.
    dim : int, optional
        Along which the tensor is cut; None: each rank has all of it.
    stacked : int
        Matrices on top of each other, each of which is cut, along dimension 0.
    rows : int, optional
        Of the whole, where padding follows: that is left out.
    only : slice, optional
        What a shard of ZeRO has of the part, flattened. ``start`` then counts from there.

    Returns
    -------
    list of Rectangle
        One for each stacked matrix; of a shard of one at most three: the end of a row, whole rows,
        the beginning of a row.

    Examples
    --------
    Two stacked 4×3 matrices, an 8×3 tensor, of which rank 1 of 2 holds two rows each; and ten of
    these twelve numbers:

    >>> rectangles((4, 3), rank=1, parts=2, dim=0, stacked=2)
    [Rectangle(offsets=(2, 0), sizes=(2, 3), start=0), Rectangle(offsets=(6, 0), sizes=(2, 3), \
start=6)]
    >>> for one in rectangles((4, 3), rank=1, parts=2, dim=0, stacked=2, only=slice(2, 12)):
    ...     print(one)
    Rectangle(offsets=(2, 2), sizes=(1, 1), start=0)
    Rectangle(offsets=(3, 0), sizes=(1, 3), start=1)
    Rectangle(offsets=(6, 0), sizes=(2, 3), start=4)
    """
    found = []
    for whole in _stacked(shape, rank, parts, dim, stacked):
        kept = whole if rows is None else _cut_off(whole, rows)
        found += list(_within(kept, only)) if only else [kept]
    return [one for one in found if prod(one.sizes)]


def _stacked(
    shape: Shape, rank: int, parts: int, dim: int | None, stacked: int
) -> Iterator[Rectangle]:
    sizes = (shape[0] // stacked, *shape[1:]) if shape else ()
    for n in range(stacked):
        offsets = [0] * len(shape)
        if dim is not None:
            offsets[dim] = rank * sizes[dim]
        if n:
            offsets[0] += n * sizes[0] * (parts if dim == 0 else 1)
        yield Rectangle(tuple(offsets), sizes, n * prod(sizes))


def _cut_off(one: Rectangle, rows: int) -> Rectangle:
    here = min(one.sizes[0], max(0, rows - one.offsets[0]))
    return Rectangle(one.offsets, (here, *one.sizes[1:]), one.start)


def _within(one: Rectangle, only: slice) -> Iterator[Rectangle]:
    """Yield what a slice of the memory has of it, in rectangles."""
    width = prod(one.sizes[1:])
    at, stop = max(one.start, only.start), min(one.held.stop, only.stop)
    while at < stop:
        row, column = divmod(at - one.start, width)
        rows = max(1, (stop - at) // width) if column == 0 else 1
        columns = min(width - column, stop - at)
        begin, sizes = (row, column), (rows, columns)
        offsets = tuple(a + b for a, b in zip(one.offsets, begin, strict=False))
        yield Rectangle(offsets, sizes[: len(one.sizes)], at - only.start)
        at += rows * columns
