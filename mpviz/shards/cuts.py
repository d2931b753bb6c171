"""How one matrix lies on the ranks of a tensor-parallel group: whole, cut, or as partial sums."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._checks import divisors, listed, whole_number

Shape = tuple[int, ...]


def cut(shape: tuple[int, ...], parts: int, dim: int) -> list[tuple[slice, ...]]:
    """Cut an array into equal parts along one dimension; index the array with the result.

    Parameters
    ----------
    shape : tuple of int
        Of the array, for example (rows, columns).
    parts : int
        Usually tp.
    dim : int
        0 cuts the rows apart (``RowParallelLinear``, for a weight used as X·A), 1 the columns
        (``ColumnParallelLinear``).

    Raises
    ------
    ValueError
        When ``parts`` does not divide that dimension.

    Examples
    --------
    >>> matrix = np.arange(8).reshape(2, 4)
    >>> [matrix[part].tolist() for part in cut(matrix.shape, parts=2, dim=1)]
    [[[0, 1], [4, 5]], [[2, 3], [6, 7]]]
    """
    parts = whole_number("parts", parts)
    if not -len(shape) <= dim < len(shape):
        raise ValueError(f"dim={dim} is out of range for shape {shape}")
    dim %= len(shape)
    if shape[dim] % parts:
        raise ValueError(
            f"{shape[dim]} (dimension {dim} of shape {shape}) cannot be cut into {parts} equal "
            f"parts; parts may be {listed(divisors(shape[dim]), ' or ')}"
        )
    step = shape[dim] // parts
    whole = [slice(None)] * len(shape)
    return [
        (*whole[:dim], slice(part * step, (part + 1) * step), *whole[dim + 1 :])
        for part in range(parts)
    ]


@dataclass(frozen=True, repr=False)
class Cut:
    """A named array and how it lies on ``parts`` ranks: the layers cut by it, pictures draw it.

    One of three states, the placements of PyTorch's DTensor: *whole* on every rank
    (``Replicate``), *cut* along one dimension (``Shard(dim)``), or a *partial sum*: every rank
    holds an addend of the full shape (``Partial``).

    Parameters
    ----------
    name : str
        ``"X"``, ``"A"`` …
    shape : tuple of int
        Of the whole array. A weight used as X·A is (inner, columns); the ``weight`` of
        ``torch.nn.Linear`` is its transpose, (out_features, in_features), so that there the
        columns of A are cut apart along dimension 0.
    parts : int
        Ranks that share it, usually tp.
    dim : int, optional
        Along which it is cut; None: it is not.
    partial : bool
        Whether the parts are addends.

    Raises
    ------
    ValueError
        When ``parts`` does not divide the dimension, or the array is said to be both cut and a
        sum.

    Examples
    --------
    >>> A = Cut("A", (6, 8), 2, dim=1)
    >>> A
    A 6×8, cut by column into 2 parts of 6×4
    >>> A.part(np.arange(48).reshape(6, 8), 1)[0]
    array([4, 5, 6, 7])
    >>> Cut("X", (4, 6), 2), Cut("Y", (4, 8), 2, partial=True)
    (X 4×6, whole on each of 2, Y 4×8, a partial sum on each of 2)
    """

    name: str
    shape: Shape
    parts: int
    _: KW_ONLY
    dim: int | None = None
    partial: bool = False

    def __post_init__(self) -> None:
        sizes = tuple(whole_number(f"a size of {self.name}", size) for size in self.shape)
        object.__setattr__(self, "shape", sizes)
        object.__setattr__(self, "parts", whole_number("parts", self.parts))
        if self.dim is None:
            return
        if self.partial:
            raise ValueError(f"{self.name} is either cut or a partial sum; give dim or partial")
        try:
            cut(sizes, self.parts, self.dim)
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from None
        object.__setattr__(self, "dim", self.dim % len(sizes))

    # ---- what each rank holds

    @property
    def local_shape(self) -> Shape:
        """The shape of one part."""
        return tuple(
            size // self.parts if dim == self.dim else size for dim, size in enumerate(self.shape)
        )

    @cached_property
    def slices(self) -> list[tuple[slice, ...]]:
        """For each rank the index of its part; all of the array where it is not cut."""
        if self.dim is None:
            return [(slice(None),) * len(self.shape)] * self.parts
        return cut(self.shape, self.parts, self.dim)

    def part(self, array: Any, index: int) -> Any:
        """Return the part of rank ``index`` of a numpy array or a torch tensor, as a view.

        Raises
        ------
        ValueError
            When the array has another shape; or for a partial sum, whose addends are not in it.
        """
        if self.partial:
            raise ValueError(f"{self}: its addends cannot be told from the sum")
        if tuple(array.shape) != self.shape:
            raise ValueError(f"{self.name} is {times(self.shape)}, got {times(array.shape)}")
        return array[self.slices[index]]

    def whole(self, parts: Sequence[Any]) -> NDArray[Any]:
        """Put the parts of all ranks together again: join them, add them up, or compare them.

        Examples
        --------
        >>> Cut("Y", (1, 4), 2, dim=1).whole([[[1, 2]], [[3, 4]]])
        array([[1, 2, 3, 4]])
        >>> Cut("Y", (1, 2), 2, partial=True).whole([[[1, 2]], [[3, 4]]])
        array([[4, 6]])
        """
        arrays = [np.asarray(part) for part in parts]
        shapes = [array.shape for array in arrays]
        if shapes != [self.local_shape] * self.parts:
            raise ValueError(f"{self}, got {listed(map(times, shapes), ' and ') or 'no parts'}")
        if self.dim is not None:
            return np.concatenate(arrays, axis=self.dim)
        if self.partial:
            return sum(arrays[1:], arrays[0])
        differing = [i for i, array in enumerate(arrays) if not np.array_equal(array, arrays[0])]
        if differing:
            raise ValueError(f"{self}, but part {differing[0]} differs from part 0")
        return arrays[0]

    # ---- how it reads

    @property
    def state(self) -> str:
        """In words: whole, cut (and how), or a partial sum."""
        if self.partial:
            return "a partial sum"
        if self.dim is None:
            return "whole"
        if len(self.shape) == 2:
            return f"cut by {('row', 'column')[self.dim]}"
        return "cut" if len(self.shape) == 1 else f"cut along dimension {self.dim}"

    def __repr__(self) -> str:
        plural = "" if self.parts == 1 else "s"
        spread = (
            f"on each of {self.parts}"
            if self.dim is None
            else f"into {self.parts} part{plural} of {times(self.local_shape)}"
        )
        return f"{self.name} {times(self.shape)}, {self.state} {spread}"


def times(shape: Sequence[int]) -> str:
    """Write a shape as people do.

    >>> times((6, 8))
    '6×8'
    """
    return "×".join(map(str, shape)) or "a scalar"
