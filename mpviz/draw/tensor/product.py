"""Products and blocks cut over tensor-parallel ranks, each part in the colour of its rank."""

from collections.abc import Mapping

from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from ..._checks import listed
from ...shards import Block, Cut, Operator, Product, times
from ...shards import product as product_of
from ..canvas.limits import check_rows
from ..canvas.page import Panel, page
from ..canvas.picture import Picture
from ..canvas.scene import Label
from .equation import Words, equation
from .flow import flow
from .matrices import Scale
from .numbers import Written, cell_width
from .steps import parted
from .text import lanes, printed, products

_LONGEST = (140.0, 120.0, 100.0, 80.0)
_TALLEST = 1200.0


def product(
    layer: Block | Product,
    values: Mapping[str, ArrayLike] | None = None,
    *,
    ax: Axes | None = None,
) -> Picture:
    """Draw X · A = Y as matrices, each part in the colour of the rank that holds it.

    A matrix that is whole on each rank is a stack of copies; of a partial sum every rank's
    addend is drawn, with + between. An operator that changes the layout is an arrow.

    Parameters
    ----------
    layer : Block or Product
        `shards.column_parallel`, `shards.row_parallel`, or one step of another block.
    values : mapping from str to array of numbers, optional
        X and A by their names, uncut: then numbers stand in the cells, and what each rank
        computes from its own parts. At most 16 rows, 23 columns and 8 ranks, fewer columns
        where numbers are long.
    ax : matplotlib Axes, optional
        Draw there.

    Raises
    ------
    ValueError
        When the block has other than one product; when values do not fit, or cannot be read in
        one picture.

    Examples
    --------
    >>> from mpviz import shards
    >>> product(shards.row_parallel(1, 2, 2, tp=2), {"X": [[1, 2]], "A": [[1, 0], [3, 4]]})
    row-parallel product, tp=2
               X 1×2, cut by column into 2 parts of 1×1
      X·A = Y  A 2×2, cut by row into 2 parts of 1×2 → Y a partial sum
      g        all-reduce forward, copy backward → Y whole
    rank 0  X 1×1 (column 0) · A 1×2 (row 0) = addend of Y 1×2
            [1] · [1 0] = [1 0]
    rank 1  X 1×1 (column 1) · A 1×2 (row 1) = addend of Y 1×2
            [2] · [3 4] = [6 8]
    together Y = [7 8]
    """
    before, step, after = _one_product(layer)
    check_rows(max(step.left.parts, step.right.parts, step.output.parts))
    written = Written.of(step, _around(before, after), values)
    figure = _figure(before, step, after, written.words)
    notes = [repr(operator) for operator in (before, after) if operator]
    notes.append("colour: the rank that holds the part")
    if not written.words and any(label.text.isdigit() for label in _labels(figure)):
        notes[-1] += ", which is the number in it"
    if written.rounded:
        notes.append("numbers are rounded")
    title, *lines = printed(layer)
    return page(title, [figure], notes, "\n".join([*lines, *products(step, written.words)]), ax)


def block(layer: Block, *, ax: Axes | None = None) -> Picture:
    """Draw what each rank computes alone, between f and g: figure 3 of Megatron's paper.

    Each rank has a lane, with the weights that it holds in its colour. Beyond 8 ranks, lanes in
    the middle are left out.

    Parameters
    ----------
    layer : Block
        `shards.mlp`, `shards.attention`, `shards.column_parallel` or `shards.row_parallel`.
    ax : matplotlib Axes, optional
        Draw there.

    Examples
    --------
    >>> from mpviz import shards
    >>> block(shards.mlp(4, 6, 24, tp=2))
    MLP, tp=2
                    X 4×6, whole on each of 2
      f             copy forward, all-reduce backward → X whole
      X·A = XA      A 6×24, cut by column into 2 parts of 6×12 → XA cut by column
      GeLU(XA) = Y  → Y cut by column
      Y·B = Z       B 24×6, cut by row into 2 parts of 12×6 → Z a partial sum
      g             all-reduce forward, copy backward → Z whole
    rank 0  X → A₁ 6×12 → XA₁ → GeLU(XA₁) → Y₁ → B₁ 12×6 → Z₁
    rank 1  X → A₂ 6×12 → XA₂ → GeLU(XA₂) → Y₂ → B₂ 12×6 → Z₂
    communication forward: all-reduce of Z 4×6
    communication backward: all-reduce of dX 4×6
    """
    if not isinstance(layer, Block):
        raise ValueError(f"draw.block draws a block such as shards.mlp(…), got {layer!r}")
    check_rows(layer.tp)
    figure = flow(layer)
    calls = [
        f"communication {way}: {listed(collectives, ' and ') or 'none'}"
        for way, collectives in (("forward", layer.forward), ("backward", layer.backward))
    ]
    title, *lines = printed(layer)
    text = "\n".join([*lines, *lanes(layer), *calls])
    return page(title, [figure], calls, text, ax)


# ---- what is drawn


def _one_product(layer: Block | Product) -> tuple[Operator | None, Product, Operator | None]:
    """Return the product with the operators before and after it."""
    if isinstance(layer, Product):
        return None, _checked(layer), None
    if not isinstance(layer, Block):
        raise ValueError(
            f"draw.product draws a block such as shards.column_parallel(…), or a Product, got "
            f"{layer!r}"
        )
    before, inner, after = parted(layer)
    if len(inner) != 1 or not isinstance(inner[0], Product):
        raise ValueError(
            f"draw.product draws one product, and {layer.name} has {listed(inner, ' and ')}; "
            f"draw.block draws them all, draw.product one of its steps"
        )
    return before, _checked(inner[0]), after


def _checked(step: Product) -> Product:
    """Return the product if its output lies as its factors make it lie."""
    output = product_of(step.left, step.right, step.output.name)
    if output != step.output:
        raise ValueError(f"{step!r} gives {output}; the product says {step.output}")
    return step


def _figure(before: Operator | None, step: Product, after: Operator | None, words: Words) -> Panel:
    """Return the matrices of a product, and of operators that change how a matrix lies."""
    moving = [each if each and each.input != each.output else None for each in (before, after)]
    if words:
        scales = [Scale({}, cell_width(words))]
    else:
        cuts = [*_around(before, after), *step.inputs, step.output]
        scales = [Scale.of(cuts, longest) for longest in _LONGEST]
    figure = equation(moving[0], step, moving[1], scales, words)
    if words and figure[2] > _TALLEST:
        raise ValueError(
            f"the numbers of {step!r} with {times(step.left.shape)} and {times(step.right.shape)} "
            f"on {step.output.parts} ranks take {figure[2]:.0f} points of height, and at most "
            f"{_TALLEST:.0f} can be seen at once; leave values out, or show a smaller product"
        )
    return figure


def _around(before: Operator | None, after: Operator | None) -> list[Cut]:
    """Return how X lies before, and Y after."""
    return [*([before.input] if before else []), *([after.output] if after else [])]


def _labels(figure: Panel) -> list[Label]:
    return [item for item in figure[0] if isinstance(item, Label)]
