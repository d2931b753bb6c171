"""A product cut over tensor-parallel ranks, each part in the colour of its rank."""

from collections.abc import Iterable, Mapping, Sequence

from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from ..._checks import listed
from ...shards import Block, Cut, Operator, Product, times
from ...shards import product as product_of
from ..canvas.glyphs import width_of
from ..canvas.limits import check_rows
from ..canvas.page import Panel, page
from ..canvas.picture import Picture
from ..canvas.scene import Label
from ..canvas.theme import MAX_WIDTH, NORMAL, QUIET, SMALL, SYMBOL, TITLE
from .block_steps import part_name, split
from .elements import Element, arrow, below, beside, captioned, panel
from .matrices import Scale, addend, drawn_ranks, fan_of, lies, matrix
from .numbers import cell_width, numbers
from .text import printed, product_lines

_PADDING = 7.0
_ROW_GAP = 22.0
_MOST_ADDENDS = 4
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
    if words:
        scales = [Scale({}, words, cell_width(words))]
    else:
        scales = [Scale.of([*around, *step.inputs, step.output], most) for most in _LONGEST]
    figure = _figure(before, step, after, scales)
    if words and figure.height > _TALLEST:
        raise ValueError(
            f"the numbers of {step!r} with {times(step.left.shape)} and {times(step.right.shape)} "
            f"on {step.output.parts} ranks take {figure.height:.0f} points of height, and at most "
            f"{_TALLEST:.0f} can be seen at once; leave values out, or show a smaller product"
        )
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
    before: Operator | None, step: Product, after: Operator | None, scales: Sequence[Scale]
) -> Panel:
    """Return the figure: in one row if it fits, else what results below what is multiplied.

    The first of ``scales`` that fits is taken. An operator that leaves a matrix as it lies is
    not drawn.
    """
    before, after = (op if op and op.input != op.output else None for op in (before, after))
    both = [(_factors(before, step, scale), _results(step, after, scale)) for scale in scales]
    for factors, results in both:
        if _width([*factors, *results]) <= MAX_WIDTH:
            return panel(beside([*factors, *results]))
    factors, results = next((two for two in both if max(map(_width, two)) <= MAX_WIDTH), both[-1])
    return below(map(panel, [*_rows(factors), *_rows(results)]), _ROW_GAP)


def _width(elements: Iterable[Element]) -> float:
    return sum(width for _, width in elements)


def _factors(before: Operator | None, step: Product, scale: Scale) -> list[Element]:
    """Return X · A, and the X before an operator."""
    left, right = (_matrix(cut, scale) for cut in step.inputs)
    factors = beside([left, _sign("·"), right])
    if before is None:
        return [factors]
    return [beside([_matrix(before.input, scale), _operation(before)]), factors]


def _results(step: Product, after: Operator | None, scale: Scale) -> list[Element]:
    """Return Y, or its addends, and the Y after an operator."""
    if step.output.partial and step.output.parts > 1:
        results = list(_addends(step, scale))
    else:
        results = [beside([_sign("="), _matrix(step.output, scale)])]
    if after is not None:
        results.append(beside([_operation(after), _matrix(after.output, scale)]))
    return results


def _rows(elements: Iterable[Element]) -> list[Element]:
    """Break elements into as many rows as they need."""
    rows: list[list[Element]] = []
    for element in elements:
        if rows and _width([*rows[-1], element]) <= MAX_WIDTH:
            rows[-1].append(element)
        else:
            rows.append([element])
    return [beside(row) for row in rows]


# ---- signs


def _sign(text: str) -> Element:
    width = width_of(text, SYMBOL, bold=True) + 2 * _PADDING
    return [Label(width / 2, 0, text, SYMBOL, align="center", bold=True)], width


def _operation(operator: Operator) -> Element:
    """Return the arrow of an operator: its name above, what it does below."""
    does = width_of(operator.forward, SMALL)
    width = max(does, width_of(operator.name, TITLE, bold=True)) + 2 * _PADDING
    return [
        *arrow(_PADDING, 0, width - _PADDING, 0),
        Label(width / 2, -12, operator.name, TITLE, align="center", bold=True),
        Label(width / 2, 11, operator.forward, SMALL, QUIET, "center"),
    ], width


# ---- matrices


def _matrix(cut: Cut, scale: Scale) -> Element:
    """Return a whole or cut matrix with its name, its sizes and how it lies on the ranks."""
    width, height = scale.size(cut)
    rows, columns = cut.shape
    # Where numbers stand in the cells, rows and columns can be counted.
    above = times(cut.shape) if scale.words else _counted(columns, "column")
    side = "" if scale.words else _counted(rows, "row")
    fan = fan_of(cut)
    items = matrix(cut, width, height, scale.words.get(cut))
    items.append(Label(-6, height / 2, side, SMALL, QUIET, "right"))
    captions = [
        Label(0, -25, cut.name, TITLE, align="center", bold=True),
        Label(0, -9, above, SMALL, QUIET, "center"),
        Label(0, height + fan + 10, lies(cut), SMALL, QUIET, "center"),
    ]
    left = width_of(side, SMALL) + 6 if side else 0.0
    return captioned(items, (width, height), captions, left=left, right=fan)


def _addends(step: Product, scale: Scale) -> Iterable[Element]:
    """Yield what each rank holds of a partial sum, after = or +."""
    cut = step.output
    _, height = scale.size(cut)
    for place, rank in enumerate(drawn_ranks(cut.parts, _MOST_ADDENDS)):
        sign = _sign("+" if place else "=")
        if rank is None:
            yield beside([sign, _sign("…")])
            continue
        name = "·".join(part_name(factor, rank) for factor in step.inputs)
        captions = [
            Label(0, -11, name, NORMAL, align="center", bold=True),
            Label(0, height + 10, f"addend of {cut.name}", SMALL, QUIET, "center"),
        ]
        yield beside([sign, captioned(addend(cut, rank, scale), scale.size(cut), captions)])


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count > 1 else ''}"
