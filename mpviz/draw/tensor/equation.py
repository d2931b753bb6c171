"""X · A = Y as matrices with signs between them, and what f and g make of X and Y."""

from collections.abc import Iterable, Mapping, Sequence

from ...shards import Cut, Operator, Product, times
from ..canvas.glyphs import width_of
from ..canvas.page import Panel
from ..canvas.scene import Item, Label, shifted
from ..canvas.theme import MAX_WIDTH, NORMAL, QUIET, SMALL, SYMBOL, TITLE
from .matrices import Scale, addend, drawn_ranks, fan_of, lies, matrix
from .numbers import Rows
from .pieces import Piece, arrow, below, beside, panel
from .steps import named

Words = Mapping[Cut, Sequence[Rows]]

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
    words : mapping from Cut to the rows of each rank
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


def _width(pieces: Iterable[Piece]) -> float:
    return sum(width for _, width in pieces)


def _factors(before: Operator | None, product: Product, scale: Scale, words: Words) -> list[Piece]:
    """Return X · A, and the X before an operator."""
    left, right = (_matrix(cut, scale, words) for cut in product.inputs)
    factors = beside([left, _sign("·"), right])
    if before is None:
        return [factors]
    return [beside([_matrix(before.input, scale, words), _operation(before)]), factors]


def _results(product: Product, after: Operator | None, scale: Scale, words: Words) -> list[Piece]:
    """Return Y, or its addends, and the Y after an operator."""
    if product.output.partial and product.output.parts > 1:
        results = list(_addends(product, scale, words))
    else:
        results = [beside([_sign("="), _matrix(product.output, scale, words)])]
    if after is not None:
        results.append(beside([_operation(after), _matrix(after.output, scale, words)]))
    return results


def _rows(pieces: Iterable[Piece]) -> list[Piece]:
    """Break pieces into as many rows as they need."""
    rows: list[list[Piece]] = []
    for piece in pieces:
        if rows and _width([*rows[-1], piece]) <= MAX_WIDTH:
            rows[-1].append(piece)
        else:
            rows.append([piece])
    return [beside(row) for row in rows]


# ---- signs


def _sign(text: str) -> Piece:
    width = width_of(text, SYMBOL, bold=True) + 2 * _PADDING
    return [Label(width / 2, 0, text, SYMBOL, align="center", bold=True)], width


def _operation(operator: Operator) -> Piece:
    """Return the arrow of an operator: its name above, what it does below."""
    does = width_of(operator.forward, SMALL)
    width = max(does, width_of(operator.name, TITLE, bold=True)) + 2 * _PADDING
    return [
        *arrow(_PADDING, 0, width - _PADDING, 0),
        Label(width / 2, -12, operator.name, TITLE, align="center", bold=True),
        Label(width / 2, 11, operator.forward, SMALL, QUIET, "center"),
    ], width


# ---- matrices


def _matrix(cut: Cut, scale: Scale, words: Words) -> Piece:
    """Return a whole or cut matrix with its name, its sizes and how it lies on the ranks."""
    width, height = scale.size(cut)
    rows, columns = cut.shape
    # Where numbers stand in the cells, rows and columns can be counted.
    above = times(cut.shape) if words else _counted(columns, "column")
    side = "" if words else _counted(rows, "row")
    half = max(
        width_of(cut.name, TITLE, bold=True), width_of(above, SMALL), width_of(lies(cut), SMALL)
    )
    fan, reach = fan_of(cut), (half - width) / 2
    left = max(width_of(side, SMALL) + 6 if side else 0.0, reach)
    items: list[Item] = [
        *matrix(cut, width, height, words.get(cut)),
        Label(width / 2, -25, cut.name, TITLE, align="center", bold=True),
        Label(width / 2, -9, above, SMALL, QUIET, "center"),
        Label(-6, height / 2, side, SMALL, QUIET, "right"),
        Label(width / 2, height + fan + 10, lies(cut), SMALL, QUIET, "center"),
    ]
    return shifted(items, left, -height / 2), left + width + max(fan, reach)


def _addends(product: Product, scale: Scale, words: Words) -> Iterable[Piece]:
    """Yield what each rank holds of a partial sum, after = or +."""
    cut = product.output
    width, height = scale.size(cut)
    for place, rank in enumerate(drawn_ranks(cut.parts, _MOST_ADDENDS)):
        sign = _sign("+" if place else "=")
        if rank is None:
            yield beside([sign, _sign("…")])
            continue
        name, below = _multiplied(product, rank), f"addend of {cut.name}"
        reach = max(0.0, max(width_of(name, NORMAL, bold=True), width_of(below, SMALL)) - width) / 2
        items: list[Item] = [
            *addend(cut, rank, width, height, words.get(cut)),
            Label(width / 2, -11, name, NORMAL, align="center", bold=True),
            Label(width / 2, height + 10, below, SMALL, QUIET, "center"),
        ]
        yield beside([sign, (shifted(items, reach, -height / 2), width + 2 * reach)])


def _multiplied(product: Product, rank: int) -> str:
    return f"{named(product.left, rank)}·{named(product.right, rank)}"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count > 1 else ''}"
