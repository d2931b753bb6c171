"""The arithmetic under every layout: ranks as mixed-radix numbers, and groups along axes.

A rank is one number; its coordinates are its digits. The first axis varies fastest, as the
seconds do on a clock:

    rank = tp + dp · (size of tp) + pp · (size of tp) · (size of dp)

A *group* along some axes holds the ranks that differ in those digits alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import overload

import numpy as np
from numpy.typing import NDArray

Ranks = NDArray[np.int64]

_MOST_SHOWN = 16


@dataclass(frozen=True, eq=False, repr=False)
class Groups(Sequence[tuple[int, ...]]):
    """All groups of one kind, one row a group.

    A sequence of tuples for small layouts, an array for large ones.

    Attributes
    ----------
    kind : str
        Along which axes the members differ: ``"dp"``, ``"tp-pp"``, ``"embedding"`` …
    ranks : ndarray of int, shape (number of groups, group size), read-only
        The global ranks; a member's column is its rank inside the group.

    Examples
    --------
    >>> Groups("dp", np.array([[0, 2], [1, 3]]))
    2 dp groups of 2
    0 2 | 1 3
    """

    kind: str
    ranks: Ranks

    def __post_init__(self) -> None:
        ranks = np.array(self.ranks, dtype=np.int64)
        if ranks.ndim != 2:
            raise ValueError(f"groups are the rows of a 2-D array, got shape {ranks.shape}")
        ranks.setflags(write=False)
        object.__setattr__(self, "ranks", ranks)

    @property
    def size(self) -> int:
        """Ranks in each group."""
        return int(self.ranks.shape[1])

    def of(self, rank: int) -> tuple[int, ...]:
        """Return the group that ``rank`` is in.

        Raises
        ------
        ValueError
            If no group holds it (a middle pipeline stage is in no embedding group).

        Examples
        --------
        >>> Groups("dp", np.array([[0, 2], [1, 3]])).of(3)
        (1, 3)
        """
        rows = np.flatnonzero((self.ranks == rank).any(axis=1))
        if not len(rows):
            raise ValueError(f"rank {rank} is in none of the {len(self)} {self.kind} groups")
        return self[int(rows[0])]

    def tolist(self) -> list[list[int]]:
        """Return the groups as plain nested lists, the form Megatron's code uses."""
        listed: list[list[int]] = self.ranks.tolist()
        return listed

    def __len__(self) -> int:
        return len(self.ranks)

    @overload
    def __getitem__(self, index: int) -> tuple[int, ...]: ...
    @overload
    def __getitem__(self, index: slice) -> list[tuple[int, ...]]: ...
    def __getitem__(self, index: int | slice) -> tuple[int, ...] | list[tuple[int, ...]]:
        rows = self.ranks[index].tolist()
        return [tuple(row) for row in rows] if isinstance(index, slice) else tuple(rows)

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        return (tuple(row) for row in self.ranks.tolist())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Groups):
            return NotImplemented
        return self.kind == other.kind and np.array_equal(self.ranks, other.ranks)

    def __hash__(self) -> int:
        return hash((self.kind, self.ranks.shape, self.ranks.tobytes()))

    def __repr__(self) -> str:
        plural = "" if len(self) == 1 else "s"
        shown = [_shortened([str(rank) for rank in row], " ") for row in self[:_MOST_SHOWN]]
        more = f" | … {len(self) - _MOST_SHOWN:,} more" if len(self) > _MOST_SHOWN else ""
        heading = f"{len(self):,} {self.kind} group{plural} of {self.size:,}"
        return f"{heading}\n{' | '.join(shown)}{more}".rstrip()


def _shortened(words: Sequence[str], separator: str) -> str:
    """Join ``words``; in the middle of many, an ellipsis."""
    if len(words) > _MOST_SHOWN:
        words = [*words[: _MOST_SHOWN - 2], "…", words[-1]]
    return separator.join(words)


@dataclass(frozen=True)
class RankGrid:
    """Ranks 0 … n-1 as the points of a grid; the first axis varies fastest.

    Parameters
    ----------
    axes : tuple of str
        Names, fastest first.
    sizes : tuple of int
        Points along each axis.

    Examples
    --------
    >>> grid = RankGrid(("tp", "dp", "pp"), (2, 3, 4))
    >>> grid.coordinates(7)
    {'tp': 1, 'dp': 0, 'pp': 1}
    >>> grid.groups(["dp"])[:2].tolist()
    [[0, 2, 4], [1, 3, 5]]
    """

    axes: tuple[str, ...]
    sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.axes) != len(self.sizes):
            raise ValueError(f"{len(self.axes)} axes {self.axes} with sizes {self.sizes}")

    @property
    def world_size(self) -> int:
        """Number of ranks."""
        return prod(self.sizes)

    @cached_property
    def strides(self) -> dict[str, int]:
        """How far apart in rank two neighbours along each axis are.

        >>> RankGrid(("tp", "dp", "pp"), (2, 3, 4)).strides
        {'tp': 1, 'dp': 2, 'pp': 6}
        """
        return {axis: prod(self.sizes[:i]) for i, axis in enumerate(self.axes)}

    @overload
    def coordinates(self, ranks: int) -> dict[str, int]: ...
    @overload
    def coordinates(self, ranks: Ranks) -> dict[str, Ranks]: ...
    def coordinates(self, ranks: int | Ranks) -> dict[str, int] | dict[str, Ranks]:
        """Return the digits of a rank, or of each rank of an array."""
        sizes = dict(zip(self.axes, self.sizes, strict=True))
        return {axis: ranks // step % sizes[axis] for axis, step in self.strides.items()}  # type: ignore[return-value]

    @overload
    def rank(self, coordinates: Mapping[str, int]) -> int: ...
    @overload
    def rank(self, coordinates: Mapping[str, Ranks]) -> Ranks: ...
    def rank(self, coordinates: Mapping[str, int] | Mapping[str, Ranks]) -> int | Ranks:
        """Return the rank at the given coordinates: the rank equation itself."""
        return sum(coordinates[axis] * step for axis, step in self.strides.items())

    def groups(self, axes: Sequence[str]) -> Ranks:
        """Return all groups along ``axes``, shape (number of groups, group size).

        Members and groups alike are enumerated with the first axis of the *grid* fastest,
        however ``axes`` is spelled. Source: Megatron-LM ``core/parallel_state.py``,
        ``generate_masked_orthogonal_rank_groups``, whose loops this replaces.
        """
        unknown = [axis for axis in axes if axis not in self.axes]
        if unknown:
            raise ValueError(f"no axis {', '.join(unknown)} in a grid of {', '.join(self.axes)}")
        # NumPy's last dimension varies fastest, so the grid is laid out back to front.
        slowest_first = self.axes[::-1]
        cube = np.arange(self.world_size, dtype=np.int64).reshape(self.sizes[::-1])
        fixed = [d for d, axis in enumerate(slowest_first) if axis not in axes]
        along = [d for d, axis in enumerate(slowest_first) if axis in axes]
        size = prod(cube.shape[d] for d in along)
        return cube.transpose(fixed + along).reshape(-1, size)
