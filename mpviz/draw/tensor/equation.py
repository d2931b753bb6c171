"""X · A = Y as matrices with signs between them, and what f and g make of X and Y."""

from collections.abc import Iterable, Sequence

from ...shards import Cut, Operator, Product, times
from ..canvas.glyphs import width_of
from ..canvas.page import Panel
from ..canvas.scene import Label
from ..canvas.theme import MAX_WIDTH, NORMAL, QUIET, SMALL, SYMBOL, TITLE
from .block_steps import part_name
from .elements import Element, arrow, below, beside, captioned, panel
from .matrices import Scale, addend, drawn_ranks, fan_of, lies, matrix
from .numbers import Words

_PADDING = 7.0
_ROW_GAP = 22.0
_MOST_ADDENDS = 4


def equation(
    before: Operator | None,
    product: Product,
    after: Operator | None,
    scales: Sequence[Scale],
    words: Words,
) -> Panel:
    """Return the figure: in one row if it fits, else what results below what is multiplied.

    Parameters
    ----------
    before, after : Operator, optional
        Drawn as an arrow from one matrix to the next.
    product : Product
        X·A = Y.
    scales : sequence of Scale
        Sizes to try, the preferred first.
    words : mapping from Cut to the Entries of each rank
        The numbers to write, if any.
    """
    both = [
        (_factors(before, product, scale, words), _results(product, after, scale, words))
        for scale in scales
    ]
    for factors, results in both:
        if _width([*factors, *results]) <= MAX_WIDTH:
            return panel(beside([*factors, *results]))
    factors, results = next((two for two in both if max(map(_width, two)) <= MAX_WIDTH), both[-1])
    return below(map(panel, [*_rows(factors), *_rows(results)]), _ROW_GAP)


def _width(elements: Iterable[Element]) -> float:
    return sum(width for _, width in elements)


def _factors(
    before: Operator | None, product: Product, scale: Scale, words: Words
) -> list[Element]:
    """Return X · A, and the X before an operator."""
    left, right = (_matrix(cut, scale, words) for cut in product.inputs)
    factors = beside([left, _sign("·"), right])
    if before is None:
        return [factors]
    return [beside([_matrix(before.input, scale, words), _operation(before)]), factors]


def _results(product: Product, after: Operator | None, scale: Scale, words: Words) -> list[Element]:
    """Return Y, or its addends, and the Y after an operator."""
    if product.output.partial and product.output.parts > 1:
        results = list(_addends(product, scale, words))
    else:
        results = [beside([_sign("="), _matrix(product.output, scale, words)])]
    if after is not None:
        results.append(beside([_operation(after), _matrix(after.output, scale, words)]))
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


def _matrix(cut: Cut, scale: Scale, words: Words) -> Element:
    """Return a whole or cut matrix with its name, its sizes and how it lies on the ranks."""
    width, height = scale.size(cut)
    rows, columns = cut.shape
    # Where numbers stand in the cells, rows and columns can be counted.
    above = times(cut.shape) if words else _counted(columns, "column")
    side = "" if words else _counted(rows, "row")
    fan = fan_of(cut)
    items = matrix(cut, width, height, words.get(cut))
    items.append(Label(-6, height / 2, side, SMALL, QUIET, "right"))
    captions = [
        Label(0, -25, cut.name, TITLE, align="center", bold=True),
        Label(0, -9, above, SMALL, QUIET, "center"),
        Label(0, height + fan + 10, lies(cut), SMALL, QUIET, "center"),
    ]
    left = width_of(side, SMALL) + 6 if side else 0.0
    return captioned(items, (width, height), captions, left=left, right=fan)


def _addends(product: Product, scale: Scale, words: Words) -> Iterable[Element]:
    """Yield what each rank holds of a partial sum, after = or +."""
    cut = product.output
    width, height = scale.size(cut)
    for place, rank in enumerate(drawn_ranks(cut.parts, _MOST_ADDENDS)):
        sign = _sign("+" if place else "=")
        if rank is None:
            yield beside([sign, _sign("…")])
            continue
        name = "·".join(part_name(factor, rank) for factor in product.inputs)
        captions = [
            Label(0, -11, name, NORMAL, align="center", bold=True),
            Label(0, height + 10, f"addend of {cut.name}", SMALL, QUIET, "center"),
        ]
        items = addend(cut, rank, width, height, words.get(cut))
        yield beside([sign, captioned(items, (width, height), captions)])


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count > 1 else ''}"
