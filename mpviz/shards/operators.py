"""The steps of a layer that is cut over the ranks of a tensor-parallel group, as data.

Matrices are used as X·A. Between the products stand the operators f and g, which alone
communicate. Source: Shoeybi et al. 2019 (arXiv 1909.08053), section 3.
"""

from dataclasses import dataclass, replace
from math import prod

from .cuts import Cut, Shape, times


@dataclass(frozen=True, repr=False)
class Collective:
    """One call of a collective, as every rank of the group makes it.

    Attributes
    ----------
    name : str
        ``"all-reduce"``, ``"all-gather"`` or ``"reduce-scatter"``.
    tensor : str
        What results: ``"Z"``, or its gradient, ``"dX"``.
    shape : tuple of int
        Of what each rank puts in.
    ranks : int
        Size of the group.

    Examples
    --------
    >>> z = Collective("all-reduce", "Z", (4, 6), ranks=2)
    >>> z, z.bytes(itemsize=4), z.sent
    (all-reduce of Z 4×6, 96, 24.0)
    """

    name: str
    tensor: str
    shape: Shape
    ranks: int

    @property
    def elements(self) -> int:
        """Numbers that each rank puts in."""
        return prod(self.shape)

    @property
    def sent(self) -> float:
        """Numbers that each rank sends when they travel in a ring.

        An all-reduce is a reduce-scatter and an all-gather, so it sends as much as both.
        """
        around = self.ranks - 1
        if self.name == "all-gather":
            return float(around * self.elements)
        return (2 if self.name == "all-reduce" else 1) * around / self.ranks * self.elements

    def bytes(self, itemsize: int) -> int:
        """Bytes that each rank puts in: what a recorded `Event` counts."""
        return self.elements * itemsize

    def __repr__(self) -> str:
        return f"{self.name} of {self.tensor} {times(self.shape)}"


# ---- steps


@dataclass(frozen=True, repr=False)
class Operator:
    """f or g: the same numbers, laid out otherwise; its backward is its conjugate.

    Attributes
    ----------
    name : str
        ``"f"`` stands before the products that are cut by column, ``"g"`` after those by row.
    forward, backward : str
        What it does to the tensor, and to its gradient on the way back: ``"copy"`` and
        ``"split"`` need no word from another rank, the others are collectives.
    input, output : Cut
        Before and after.
    regathers : bool
        Whether backward gathers the input once more, rather than keep it whole since forward.
    """

    name: str
    forward: str
    backward: str
    input: Cut
    output: Cut
    regathers: bool = False

    @property
    def inputs(self) -> tuple[Cut, ...]:
        """What it takes, as for every step."""
        return (self.input,)

    @property
    def collectives(self) -> tuple[Collective, ...]:
        """What it calls on the way forward."""
        return _calls(self.forward, self.output.name, self.input)

    @property
    def backward_collectives(self) -> tuple[Collective, ...]:
        """What it calls on the way back, where the gradient has the layout of the output."""
        again = _calls(self.forward, self.output.name, self.input) if self.regathers else ()
        return again + _calls(self.backward, f"d{self.input.name}", self.output)

    def __repr__(self) -> str:
        return f"{self.name}: {self.forward} forward, {self.backward} backward"


def _calls(name: str, tensor: str, source: Cut) -> tuple[Collective, ...]:
    if name in ("copy", "split") or source.parts == 1:
        return ()
    return (Collective(name, tensor, source.local_shape, source.parts),)


@dataclass(frozen=True, repr=False)
class Product:
    """A product X·A of what each rank holds.

    Attributes
    ----------
    left, right, output : Cut
        The activations, the weight, and what results (see `product`).
    """

    left: Cut
    right: Cut
    output: Cut

    @property
    def inputs(self) -> tuple[Cut, ...]:
        """What it takes, as for every step."""
        return self.left, self.right

    def __repr__(self) -> str:
        return f"{self.left.name}·{self.right.name} = {self.output.name}"


@dataclass(frozen=True, repr=False)
class Local:
    """What each rank computes from its own parts: GeLU, or attention of its own heads.

    Attributes
    ----------
    name : str
        As a formula.
    inputs : tuple of Cut
        None of them a partial sum: no such function of addends adds up to that of the sum.
    output : Cut
        The result.
    heads : int
        Attention heads on all ranks together; 0 where there are none.
    """

    name: str
    inputs: tuple[Cut, ...]
    output: Cut
    heads: int = 0

    def __post_init__(self) -> None:
        for cut in self.inputs:
            if cut.partial and cut.parts > 1:
                raise ValueError(
                    f"{self.name} needs {cut.name} itself, but each of {cut.parts} ranks holds "
                    f"a partial sum of it: reduce first, or cut the weight before by column"
                )

    def __repr__(self) -> str:
        return f"{self.name} = {self.output.name}"


Step = Operator | Product | Local


def product(x: Cut, a: Cut, name: str) -> Cut:
    """Return how X·A lies when every rank multiplies its own parts.

    Raises
    ------
    ValueError
        When the sizes do not fit, or the parts of one rank do not belong together.

    Examples
    --------
    Whole times cut by column is cut by column; cut by column times cut by row, a partial sum:

    >>> product(Cut("X", (4, 6), 2), Cut("A", (6, 8), 2, dim=1), "Y")
    Y 4×8, cut by column into 2 parts of 4×4
    >>> product(Cut("Y", (4, 8), 2, dim=1), Cut("B", (8, 6), 2, dim=0), "Z")
    Z 4×6, a partial sum on each of 2
    """
    if len(x.shape) != 2 or len(a.shape) != 2 or x.shape[1] != a.shape[0] or x.parts != a.parts:
        raise ValueError(f"{x.name}·{a.name} does not exist: {x}; {a}")
    y = Cut(name, (x.shape[0], a.shape[1]), x.parts)
    match (x.partial or a.partial, x.dim, a.dim):
        case False, None, None:
            return y
        case False, None, 1:
            return replace(y, dim=1)
        case False, 0, None:
            return replace(y, dim=0)
        case False, 1, 0:
            return replace(y, partial=True)
    raise ValueError(
        f"{x.name} is {x.state} and {a.name} is {a.state}, so no rank has what it needs for "
        f"{x.name}·{a.name}; {a.name} cut by column fits {x.name} whole, {a.name} cut by row "
        f"fits {x.name} cut by column"
    )


def multiply(x: Cut, a: Cut, name: str) -> Product:
    """Return the step X·A, with its result (see `product`)."""
    return Product(x, a, product(x, a, name))
