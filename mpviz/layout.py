"""Who is who: how Megatron-LM places tensor, pipeline and data parallelism on the GPUs.

Source of every rule here: Megatron-LM ``megatron/core/parallel_state.py``
(``initialize_model_parallel`` and ``RankGenerator``), against which the tests compare it.
"""

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, NoReturn, overload

import numpy as np

from ._checks import check_divides, listed, show_in_brief, whole_number
from .names import (
    EXPERT_NAME,
    MEGATRON_ORDER,
    ORDER_AXES,
    checked_order,
    is_expert,
    parsed_kind,
)
from .rankgrid import Groups, RankGrid, Ranks


@dataclass(frozen=True, kw_only=True, repr=False)
class ParallelLayout:
    """A cluster and the way one model is cut over it. Frozen, and valid once it exists.

    Parameters
    ----------
    nodes, gpus_per_node : int
        The cluster: ``world_size = nodes × gpus_per_node`` ranks, node after node.
    tp : int
        ``tensor_model_parallel_size``: into how many parts each matrix is cut.
    pp : int
        ``pipeline_model_parallel_size``: into how many stages the layers are cut.
    cp : int
        ``context_parallel_size``: into how many parts each sequence is cut. Weights are
        *copied* along cp, so gradients are reduced over dp × cp.
    ep : int
        ``expert_model_parallel_size``: over how many ranks the experts of a layer are spread.
        Not a factor of the world size: experts regroup the same ranks.
    expert_tp : int, optional
        ``expert_tensor_parallel_size``: into how many parts each expert's matrices are cut.
        None means as many as ``tp``. Read it back as ``etp``.
    order : str
        Axes from fastest to slowest varying in rank.

    Raises
    ------
    ValueError
        When the sizes do not fit the world, or the order misses, repeats or does not know an
        axis. The message says what would fit.

    Examples
    --------
    >>> layout = ParallelLayout(nodes=2, gpus_per_node=8, tp=2, pp=4)
    >>> print(layout)
    16 GPUs = tp 2 × dp 2 × pp 4
    >>> layout.groups("dp")
    8 dp groups of 2
    0 2 | 1 3 | 4 6 | 5 7 | 8 10 | 9 11 | 12 14 | 13 15
    >>> layout.coordinates(6)
    {'tp': 0, 'cp': 0, 'dp': 1, 'pp': 1}
    >>> ParallelLayout(nodes=2, gpus_per_node=8, tp=3, pp=4)
    Traceback (most recent call last):
        ...
    ValueError: 16 ranks cannot be split into tp=3 × pp=4 (12 does not divide 16); tp × pp may \
be 1, 2, 4, 8 or 16; with pp=4, tp may be 1, 2 or 4
    """

    nodes: int = 1
    gpus_per_node: int = 8
    tp: int = 1
    pp: int = 1
    cp: int = 1
    ep: int = 1
    expert_tp: int | None = None
    order: str = MEGATRON_ORDER

    def __post_init__(self) -> None:
        try:
            self._validate()
        except ValueError as error:
            show_in_brief(error)
            raise

    def _validate(self) -> None:
        """Make every field what it is documented to be, or raise ``ValueError``."""
        for name in ("nodes", "gpus_per_node", "tp", "pp", "cp", "ep"):
            object.__setattr__(self, name, whole_number(name, getattr(self, name)))
        if self.expert_tp is not None:
            etp = whole_number("expert_tp", self.expert_tp)
            object.__setattr__(self, "expert_tp", None if etp == self.tp else etp)
        check_divides(self.world_size, tp=self.tp, cp=self.cp, pp=self.pp)
        check_divides(self.world_size, etp=self.etp, ep=self.ep, pp=self.pp)
        object.__setattr__(self, "order", checked_order(self.order, self._largest_sizes))
        if self.has_experts:
            self._check_expert_grid()

    # ---- sizes

    @property
    def world_size(self) -> int:
        """All GPUs; one rank each."""
        return self.nodes * self.gpus_per_node

    @property
    def dp(self) -> int:
        """Data-parallel size: what is left of the world after tp, cp and pp."""
        return self.world_size // (self.tp * self.cp * self.pp)

    @property
    def etp(self) -> int:
        """Expert tensor-parallel size: ``expert_tp``, or ``tp`` when that is None."""
        return self.tp if self.expert_tp is None else self.expert_tp

    @property
    def edp(self) -> int:
        """Expert data-parallel size: what is left of the world after etp, ep and pp."""
        return self.world_size // (self.etp * self.ep * self.pp)

    @property
    def has_experts(self) -> bool:
        """Whether the expert grid differs from what a dense model would use."""
        return self.ep > 1 or self.etp != self.tp

    # ---- ranks and coordinates

    @cached_property
    def dense(self) -> RankGrid:
        """The grid of attention and dense layers: tp, cp, dp, pp in ``order``."""
        axes = tuple(axis for axis in self._full_order if axis != "ep")
        return RankGrid(axes, tuple(getattr(self, axis) for axis in axes))

    @cached_property
    def expert(self) -> RankGrid:
        """The grid of expert layers: etp, ep, edp, pp, each where ``order`` has its namesake.

        Raises
        ------
        ValueError
            When Megatron would refuse to build it beside the dense grid.
        """
        grid = self._unchecked_expert_grid()
        self._check_expert_grid()
        return grid

    @overload
    def coordinates(self, rank: int, grid: str = "dense") -> dict[str, int]: ...
    @overload
    def coordinates(self, rank: Ranks, grid: str = "dense") -> dict[str, Ranks]: ...
    def coordinates(
        self, rank: int | Ranks, grid: str = "dense"
    ) -> dict[str, int] | dict[str, Ranks]:
        """Return where a rank (or each rank of an array) sits on every axis.

        Parameters
        ----------
        rank : int or ndarray of int
            Global rank, 0 … world_size - 1.
        grid : {"dense", "expert"}
            Which of the two grids over the same ranks.

        Examples
        --------
        >>> ParallelLayout(nodes=2, tp=2, pp=4).coordinates(np.arange(3))["dp"]
        array([0, 0, 1])
        """
        if grid not in ("dense", "expert"):
            raise ValueError(f"grid must be 'dense' or 'expert', got {grid!r}")
        chosen = self.dense if grid == "dense" else self.expert
        if isinstance(rank, np.ndarray):
            for extreme in (rank.min(), rank.max()) if rank.size else ():
                self.check_rank(extreme.item())
            return chosen.coordinates(rank)
        return chosen.coordinates(self.check_rank(rank))

    @overload
    def rank(self, **coordinates: int) -> int: ...
    @overload
    def rank(self, **coordinates: Ranks) -> Ranks: ...
    def rank(self, **coordinates: int | Ranks) -> int | Ranks:
        """Return the rank at the given coordinates; the inverse of ``coordinates``.

        Axes of size 1 may be left out. Expert coordinates (``etp, ep, edp, pp``) work too.

        Examples
        --------
        >>> ParallelLayout(nodes=2, tp=2, pp=4).rank(tp=0, dp=1, pp=1)
        6
        """
        grid = self.expert if is_expert(coordinates) else self.dense
        sizes = dict(zip(grid.axes, grid.sizes, strict=True))
        for axis, value in coordinates.items():
            if axis not in sizes:
                raise ValueError(f"{axis!r} is not an axis here; axes: {listed(sizes)}")
            _check_coordinate(axis, value, sizes[axis])
        missing = [axis for axis in grid.axes if sizes[axis] > 1 and axis not in coordinates]
        if missing:
            raise ValueError(f"which {listed(missing, ' and ')}? {self} needs it to name one rank")
        digits: dict[str, Any] = {axis: coordinates.get(axis, 0) for axis in grid.axes}
        located: int | Ranks = grid.rank(digits)
        return located

    def check_rank(self, rank: object) -> int:
        """Return ``rank`` as an int, or raise ``ValueError`` if this world does not hold it."""
        number = whole_number("rank", rank, least=0)
        if number >= self.world_size:
            raise ValueError(f"rank {number} is out of range: 0 … {self.world_size - 1}")
        return number

    # ---- groups

    def groups(self, kind: str) -> Groups:
        """Return all groups of one kind, in Megatron's order.

        Parameters
        ----------
        kind : str
            A name of `GROUP_KINDS`, or any axes of one grid joined by hyphens, in any order.
            Megatron's own names work: ``"model"`` is tp-pp, ``"expert-dp"`` is edp, and beside
            ``ep`` a ``tp`` means etp.

        Examples
        --------
        >>> ParallelLayout(nodes=2, tp=2, pp=4).groups("embedding")
        4 embedding groups of 2
        0 12 | 1 13 | 2 14 | 3 15
        """
        name, axes = parsed_kind(kind)
        grid = self.expert if is_expert(axes) else self.dense
        ranks = grid.groups(axes)
        if name == "embedding":
            ranks = ranks[:, [0, -1]] if self.pp > 1 else ranks
        elif name == "position_embedding":
            ranks = ranks[:, :1]
        return Groups(name, ranks)

    def node(self, rank: Ranks | int) -> Ranks:
        """Return the node that holds a rank, or each rank of an array."""
        return np.asarray(rank) // self.gpus_per_node

    def crossings(self, kind: str) -> Groups:
        """Return only the groups of a kind whose members sit on more than one node.

        Examples
        --------
        >>> layout = ParallelLayout(nodes=2, tp=2, pp=4)
        >>> [len(layout.crossings(kind)) for kind in ("tp", "dp", "pp")]
        [0, 0, 4]
        """
        groups = self.groups(kind)
        return Groups(groups.kind, groups.ranks[self.crosses(groups)])

    def crosses(self, groups: Groups) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Return, for each group, whether its members sit on more than one node."""
        nodes = self.node(groups.ranks)
        crossing: np.ndarray[tuple[int], np.dtype[np.bool_]] = nodes.min(axis=1) != nodes.max(
            axis=1
        )
        return crossing

    def nodes_of(self, kind: str) -> list[tuple[int, ...]]:
        """Return, for each group of a kind, the nodes it touches.

        Examples
        --------
        Both model copies of the slide span both nodes:

        >>> ParallelLayout(nodes=2, tp=2, pp=4).nodes_of("model")
        [(0, 1), (0, 1)]
        """
        return [tuple(np.unique(row).tolist()) for row in self.node(self.groups(kind).ranks)]

    # ---- how it reads

    def __str__(self) -> str:
        factors = [(axis, getattr(self, axis)) for axis in ("tp", "cp", "dp", "pp")]
        shown = [f"{axis} {size}" for axis, size in factors if axis != "cp" or size > 1]
        experts = f"; experts: etp {self.etp} × ep {self.ep} × edp {self.edp} × pp {self.pp}"
        plural = "" if self.world_size == 1 else "s"
        return (
            f"{self.world_size:,} GPU{plural} = {' × '.join(shown)}"
            f"{experts if self.has_experts else ''}"
        )

    def __repr__(self) -> str:
        required = ("nodes", "gpus_per_node", "tp", "pp")
        said = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in fields(self)
            if field.name in required or getattr(self, field.name) != field.default
        ]
        return f"ParallelLayout({', '.join(said)})"

    # ---- validity

    @property
    def _largest_sizes(self) -> dict[str, int]:
        """Each axis of ``order`` with the larger of its sizes in the two grids."""
        edp = self.edp if self.has_experts else 1
        return {
            "tp": max(self.tp, self.etp),
            "cp": self.cp,
            "ep": self.ep,
            "dp": max(self.dp, edp),
            "pp": self.pp,
        }

    @property
    def _full_order(self) -> tuple[str, ...]:
        """All five axes; one left out has size 1, so where it stands moves no rank."""
        axes = self.order.split("-")
        return (*axes, *(axis for axis in ORDER_AXES if axis not in axes))

    def _unchecked_expert_grid(self) -> RankGrid:
        axes = tuple(EXPERT_NAME.get(axis, axis) for axis in self._full_order if axis != "cp")
        return RankGrid(axes, tuple(getattr(self, axis) for axis in axes))

    def _check_expert_grid(self) -> None:
        """Raise where ``initialize_model_parallel`` refuses the pair of grids."""
        if "dp" not in self.order and self.edp > 1:
            self._refuse_experts(f"it misses dp, and expert-dp={self.edp}")
        if not self.order.endswith("pp") and self.pp > 1 and self.edp != self.dp:
            self._refuse_experts(
                f"dp={self.dp} but expert-dp={self.edp}: unless pp comes last, Megatron needs "
                f"them equal"
            )
        dense, expert = self.dense.groups(["pp"]), self._unchecked_expert_grid().groups(["pp"])
        if not np.array_equal(dense, expert):
            self._refuse_experts(
                f"pipeline group {Groups('pp', dense)[0]} of the dense layers would be "
                f"{Groups('pp', expert)[0]} for the experts, and both must be the same"
            )

    def _refuse_experts(self, reason: str) -> NoReturn:
        raise ValueError(
            f"order {self.order!r} cannot hold the experts of {self!s} "
            f"(etp={self.etp}, ep={self.ep}): {reason}; an order that ends in pp, such as "
            f"{MEGATRON_ORDER!r}, fits"
        )


def _check_coordinate(axis: str, value: object, size: int) -> None:
    """Raise unless a coordinate, or each of an array, is a whole number below ``size``."""
    values = np.asarray(value)
    if not (np.issubdtype(values.dtype, np.integer) and values.size):
        raise ValueError(f"{axis} must be a whole number or an array of them, got {value!r}")
    wrong = values[(values < 0) | (values >= size)]
    if wrong.size:
        raise ValueError(f"{axis}={wrong.flat[0]} is out of range: 0 … {size - 1}")
