"""A product cut over tensor-parallel ranks, each part in the colour of its rank."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from ..._checks import listed
from ...shards import Block, Cut, Operator, Product, times
from ...shards import product as product_of
from ..canvas.page import Panel, page
from ..canvas.picture import Picture
from ..canvas.scene import Label
from ..grids.board import check_rows
from .block_steps import split
from .equation import equation
from .matrices import Scale
from .numbers import Words, cell_width, numbers
from .text import printed, product_lines

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
        X and A by their names, whole: then numbers stand in the cells, and what each rank
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
    around = [each for each in (before and before.input, after and after.output) if each]
    words, rounded = numbers(step, around, values)
    figure = _figure(before, step, after, around, words)
    notes = [repr(operator) for operator in (before, after) if operator]
    notes.append("colour: the rank that holds the part")
    if not words and any(isinstance(i, Label) and i.text.isdigit() for i in figure.items):
        notes[-1] += ", which is the number in it"
    if rounded:
        notes.append("numbers are rounded")
    title, *lines = printed(layer)
    return page(title, [figure], notes, "\n".join([*lines, *product_lines(step, words)]), ax)


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
    before, inner, after = split(layer)
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


def _figure(
    before: Operator | None,
    step: Product,
    after: Operator | None,
    around: Sequence[Cut],
    words: Words,
) -> Panel:
    """Return the matrices of a product, and of operators that change how a matrix lies."""
    moving = [each if each and each.input != each.output else None for each in (before, after)]
    cuts = [*around, *step.inputs, step.output]
    if words:
        scales = [Scale({}, cell_width(words))]
    else:
        scales = [Scale.of(cuts, longest) for longest in _LONGEST]
    figure = equation(moving[0], step, moving[1], scales, words)
    if words and figure.height > _TALLEST:
        raise ValueError(
            f"the numbers of {step!r} with {times(step.left.shape)} and {times(step.right.shape)} "
            f"on {step.output.parts} ranks take {figure.height:.0f} points of height, and at most "
            f"{_TALLEST:.0f} can be seen at once; leave values out, or show a smaller product"
        )
    return figure
