"""The blocks of a transformer layer, cut over the ranks of a tensor-parallel group, as data.

Sources: Shoeybi et al. 2019 (arXiv 1909.08053), figure 3; with sequence parallelism Korthikanti
et al. 2022 (arXiv 2205.05198), section 4.2.2, where the pair f, g is called g and ḡ.
"""

from dataclasses import dataclass, replace

from .._checks import divisors, listed, whole_number
from .cuts import Cut
from .operators import Collective, Local, Operator, Product, Step, multiply


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
        rows = [("", repr(step.inputs[0])) for step in self.steps[:1]]
        for step in self.steps:
            what, told = repr(step), ""
            if isinstance(step, Operator):
                what, _, told = what.partition(": ")
            elif isinstance(step, Product):
                told = repr(step.right)
            rows.append((what, f"{told} → {step.output.name} {step.output.state}".lstrip()))
        width = max((len(what) for what, _ in rows), default=0)
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
    steps: list[Step] = [_f(x, sequence_parallel), multiply(x, a, "Y")]
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
    steps.append(multiply(x, a, "Y"))
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
    first = multiply(x, a, "XA")
    gelu = Local("GeLU(XA)", (first.output,), replace(first.output, name="Y"))
    last = multiply(gelu.output, Cut("B", (ffn, hidden), tp, dim=0), "Z")
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
    check_heads(hidden, heads, tp)
    x = Cut("X", (tokens, hidden), tp)
    qkv = [multiply(x, Cut(f"W{n}", (hidden, hidden), tp, dim=1), n) for n in ("Q", "K", "V")]
    q, k, v = (step.output for step in qkv)
    heads_ = Local("softmax(QKᵀ)V", (q, k, v), replace(q, name="Y"), heads)
    last = multiply(heads_.output, Cut("B", (hidden, hidden), tp, dim=0), "Z")
    f, g = _f(x, sequence_parallel), _g(last.output, sequence_parallel)
    return Block(f"self-attention with {heads} heads", tp, (f, *qkv, heads_, last, g))


def check_heads(hidden: int, heads: int, tp: int) -> None:
    """Raise unless heads divide the hidden size, and tp the heads."""
    for name, size in (("hidden", hidden), ("heads", heads), ("tp", tp)):
        whole_number(name, size)
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
