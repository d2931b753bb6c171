"""A layer cut over the ranks of a tensor-parallel group, step by step, as data.

Matrices are used as X·A. Between the products stand the operators f and g, which alone
communicate. Sources: Shoeybi et al. 2019 (arXiv 1909.08053), section 3 and figure 3; with
sequence parallelism Korthikanti et al. 2022 (arXiv 2205.05198), section 4.2.2, where the pair is
called g and ḡ.
"""

from dataclasses import dataclass, replace
from math import prod

from .._checks import divisors, listed, whole_number
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


def _times(x: Cut, a: Cut, name: str) -> Product:
    return Product(x, a, product(x, a, name))


# ---- blocks


@dataclass(frozen=True, repr=False)
class Block:
    """Steps from a tensor before f to one after g.

    Attributes
    ----------
    name : str
        What it is.
    tp : int
        Ranks that share it.
    steps : tuple of Operator, Product and Local
        In order; each has ``inputs`` and an ``output``.
    """

    name: str
    tp: int
    steps: tuple[Step, ...]

    @property
    def forward(self) -> tuple[Collective, ...]:
        """The collectives of a forward pass, in order."""
        return tuple(call for step in self._operators for call in step.collectives)

    @property
    def backward(self) -> tuple[Collective, ...]:
        """The collectives of a backward pass, in order."""
        return tuple(
            call for step in reversed(self._operators) for call in step.backward_collectives
        )

    @property
    def _operators(self) -> list[Operator]:
        return [step for step in self.steps if isinstance(step, Operator)]

    def __repr__(self) -> str:
        rows = [("", repr(self.steps[0].inputs[0]))]
        for step in self.steps:
            what, told = repr(step), ""
            if isinstance(step, Operator):
                what, _, told = what.partition(": ")
            elif isinstance(step, Product):
                told = repr(step.right)
            rows.append((what, f"{told} → {step.output.name} {step.output.state}".lstrip()))
        width = max(len(what) for what, _ in rows)
        lines = [f"  {what:<{width}}  {told}" for what, told in rows]
        return "\n".join([f"{self.name}, tp={self.tp}", *lines])


def column_parallel(
    rows: int,
    inner: int,
    columns: int,
    tp: int,
    *,
    gather_output: bool = False,
    sequence_parallel: bool = False,
) -> Block:
    """X·A = Y with A cut by column: every rank computes some columns of Y.

    Parameters
    ----------
    rows, inner, columns : int
        X is rows × inner, A inner × columns.
    tp : int
        Parts of A.
    gather_output : bool
        Whether every rank gets all of Y in the end.
    sequence_parallel : bool
        Whether X comes cut by row (by token).

    Examples
    --------
    >>> column_parallel(4, 6, 8, tp=2)
    column-parallel product, tp=2
               X 4×6, whole on each of 2
      f        copy forward, all-reduce backward → X whole
      X·A = Y  A 6×8, cut by column into 2 parts of 6×4 → Y cut by column
    """
    x, a = Cut("X", (rows, inner), tp), Cut("A", (inner, columns), tp, dim=1)
    steps: list[Step] = [_f(x, sequence_parallel), _times(x, a, "Y")]
    y = steps[-1].output
    if gather_output:
        steps.append(Operator("gather", "all-gather", "split", y, replace(y, dim=None)))
    return Block("column-parallel product", tp, tuple(steps))


def row_parallel(
    rows: int,
    inner: int,
    columns: int,
    tp: int,
    *,
    input_is_parallel: bool = True,
    sequence_parallel: bool = False,
) -> Block:
    """X·A = Y with A cut by row: every rank computes an addend of Y.

    An embedding of ``inner`` words cut by vocabulary is this product, X one-hot.

    Parameters
    ----------
    rows, inner, columns : int
        X is rows × inner, A inner × columns.
    tp : int
        Parts of A.
    input_is_parallel : bool
        Whether X comes cut by column, as a column-parallel product leaves it.
    sequence_parallel : bool
        Whether every rank gets only some rows (tokens) of Y.

    Examples
    --------
    >>> row_parallel(4, 8, 6, tp=2).forward
    (all-reduce of Y 4×6,)
    """
    x, a = Cut("X", (rows, inner), tp, dim=1), Cut("A", (inner, columns), tp, dim=0)
    steps: list[Step] = []
    if not input_is_parallel:
        steps.append(Operator("split", "split", "all-gather", replace(x, dim=None), x))
    steps.append(_times(x, a, "Y"))
    steps.append(_g(steps[-1].output, sequence_parallel))
    return Block("row-parallel product", tp, tuple(steps))


def mlp(tokens: int, hidden: int, ffn: int, tp: int, *, sequence_parallel: bool = False) -> Block:
    """Return the MLP: by column, GeLU, by row (figure 3a).

    Parameters
    ----------
    tokens : int
        Rows of X: sequence × batch.
    hidden, ffn : int
        X is tokens × hidden; inside, tokens × ffn.
    tp : int
        Parts of each weight.
    sequence_parallel : bool
        Whether X and Z are cut by token outside.

    Examples
    --------
    >>> block = mlp(4, 6, 24, tp=2)
    >>> block.forward, block.backward
    ((all-reduce of Z 4×6,), (all-reduce of dX 4×6,))
    """
    x, a = Cut("X", (tokens, hidden), tp), Cut("A", (hidden, ffn), tp, dim=1)
    first = _times(x, a, "XA")
    gelu = Local("GeLU(XA)", (first.output,), replace(first.output, name="Y"))
    last = _times(gelu.output, Cut("B", (ffn, hidden), tp, dim=0), "Z")
    f, g = _f(x, sequence_parallel), _g(last.output, sequence_parallel)
    return Block("MLP", tp, (f, first, gelu, last, g))


def attention(
    tokens: int, hidden: int, heads: int, tp: int, *, sequence_parallel: bool = False
) -> Block:
    """Return self-attention, its heads dealt to the ranks (figure 3b).

    Parameters
    ----------
    tokens, hidden : int
        X is tokens × hidden (tokens: sequence × batch).
    heads : int
        Each is hidden / heads columns of Q, of K and of V.
    tp : int
        Ranks; each computes heads / tp heads.
    sequence_parallel : bool
        Whether X and Z are cut by token outside.

    Examples
    --------
    >>> attention(4, 6, heads=3, tp=2)
    Traceback (most recent call last):
        ...
    ValueError: 3 heads cannot be dealt evenly to tp=2; tp may be 1 or 3
    """
    heads, tp = whole_number("heads", heads), whole_number("tp", tp)
    check_heads(hidden, heads, tp)
    x = Cut("X", (tokens, hidden), tp)
    qkv = [_times(x, Cut(f"W{n}", (hidden, hidden), tp, dim=1), n) for n in ("Q", "K", "V")]
    q, k, v = (step.output for step in qkv)
    heads_ = Local("softmax(QKᵀ)V", (q, k, v), replace(q, name="Y"), heads)
    last = _times(heads_.output, Cut("B", (hidden, hidden), tp, dim=0), "Z")
    f, g = _f(x, sequence_parallel), _g(last.output, sequence_parallel)
    return Block(f"self-attention with {heads} heads", tp, (f, *qkv, heads_, last, g))


def check_heads(hidden: int, heads: int, tp: int) -> None:
    """Raise unless heads divide the hidden size, and tp the heads."""
    if hidden % heads:
        fits = listed(divisors(hidden), " or ")
        raise ValueError(f"hidden={hidden} cannot be cut into {heads} heads; heads may be {fits}")
    if heads % tp:
        fits = listed(divisors(heads), " or ")
        raise ValueError(f"{heads} heads cannot be dealt evenly to tp={tp}; tp may be {fits}")


def _f(x: Cut, sequence_parallel: bool) -> Operator:
    if sequence_parallel:
        tokens = replace(x, dim=0)
        return Operator("f", "all-gather", "reduce-scatter", tokens, x, regathers=True)
    return Operator("f", "copy", "all-reduce", x, x)


def _g(z: Cut, sequence_parallel: bool) -> Operator:
    if sequence_parallel:
        tokens = replace(z, partial=False, dim=0)
        return Operator("g", "reduce-scatter", "all-gather", z, tokens)
    return Operator("g", "all-reduce", "copy", z, replace(z, partial=False))
