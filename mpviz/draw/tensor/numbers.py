"""The numbers of a product, part by part, short enough for the cells of a picture."""

from collections.abc import Iterable, Mapping, Sequence
from math import floor, log10

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..._checks import listed
from ...shards import Cut, Product, times
from ..canvas.glyphs import width_of
from ..canvas.theme import SMALL

Array = NDArray[np.float64]
Entries = tuple[tuple[str, ...], ...]
"""The numbers of one part, row by row, as they are written."""
Words = Mapping[Cut, Sequence[Entries]]
"""What each rank holds of each matrix, as it is written."""

MOST_PARTS = 8
"""Ranks drawn one by one; of more, the middle is left out."""

CELL_HEIGHT = 19.0
_PADDING = 12.0
_NARROWEST = 26.0
_WIDEST = 600.0
_MOST_ROWS = 16
_DIGITS = 3
_LARGEST_WHOLE, _LARGEST, _SMALLEST = 1e6, 1e5, 1e-3


def numbers(
    product: Product, around: Sequence[Cut], values: Mapping[str, ArrayLike] | None
) -> tuple[Words, bool]:
    """Compute a product rank by rank, and write what each rank holds.

    Parameters
    ----------
    product : Product
        X·A = Y.
    around : sequence of Cut
        How X or Y lies before or after, to be written too; the whole of Y always is.
    values : mapping from str to array, optional
        X and A by their names, whole.

    Returns
    -------
    words : mapping from Cut to a list of Entries
        For each rank its numbers; empty when there are no values. All that has one name is
        written with the same number of decimals.
    rounded : bool
        Whether what is written differs from the numbers.

    Raises
    ------
    ValueError
        When a matrix is missing, unknown, of another shape, not of real numbers, or has
        more of them than can be read.
    """
    if values is None:
        return {}, False
    check_readable([*around, *product.inputs, product.output])
    parts = _held(product, around, values)
    flat: dict[str, list[Array]] = {}
    for cut, arrays in parts.items():
        flat.setdefault(cut.name, []).extend(array.ravel() for array in arrays)
    specs = {name: _spec(np.concatenate(arrays)) for name, arrays in flat.items()}
    words = {
        cut: [written(array, specs[cut.name]) for array in arrays] for cut, arrays in parts.items()
    }
    exact = all(
        np.array_equal(array, np.array(entries, dtype=np.float64), equal_nan=True)
        for cut, arrays in parts.items()
        for array, entries in zip(arrays, words[cut], strict=True)
    )
    return words, not exact


def _held(
    product: Product, around: Sequence[Cut], values: Mapping[str, ArrayLike]
) -> dict[Cut, list[Array]]:
    """Return what each rank holds of X, of A and of what it computes from them."""
    left, right, output = product.left, product.right, product.output
    if not isinstance(values, Mapping) or set(values) != {left.name, right.name}:
        got = listed(values, " and ") if isinstance(values, Mapping) else type(values).__name__
        raise ValueError(
            f"values must give {left.name} and {right.name} by name, got {got or 'nothing'}; "
            f"{output.name} is computed"
        )
    x, a = (_real(cut.name, values[cut.name]) for cut in (left, right))
    parts = {left: _split(left, x), right: _split(right, a)}
    products = [mine @ its for mine, its in zip(parts[left], parts[right], strict=True)]
    parts[output] = products
    y = products[0] if output.state == "whole" else output.whole(products)
    for cut in (*around, whole(output)):
        parts.setdefault(cut, _split(cut, x if cut.name == left.name else y))
    return parts


def whole(cut: Cut) -> Cut:
    """Return the same matrix in one piece."""
    return Cut(cut.name, cut.shape, 1)


def _real(name: str, values: ArrayLike) -> Array:
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold real numbers, got {array.dtype}")
    return array.astype(np.float64)


def _split(cut: Cut, array: Array) -> list[Array]:
    return [cut.part(array, rank) for rank in range(cut.parts)]


def _spec(values: Array) -> str:
    """Return the format in which the largest number shows three digits."""
    most = float(np.abs(values[np.isfinite(values)]).max(initial=0.0))
    if most < _LARGEST_WHOLE and np.array_equal(values, np.rint(values)):
        return ".0f"
    if _SMALLEST <= most < _LARGEST:
        return f".{max(0, _DIGITS - 1 - floor(log10(most)))}f"
    return ".1e"


def written(array: Array, spec: str) -> Entries:
    """Write a matrix, without zeros that say nothing.

    >>> written(np.array([[0.5, -1.0, 2 / 3, -1e-17]]), ".2f")
    (('0.5', '-1', '0.67', '0'),)
    """
    return tuple(tuple(_short(value, spec) for value in row) for row in array.tolist())


def _short(value: float, spec: str) -> str:
    text = format(value, spec) if value else "0"
    if "." in text and "e" not in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def in_a_line(entries: Entries) -> str:
    """Write a small matrix in one line.

    >>> in_a_line((("1", "2"), ("3", "4")))
    '[1 2; 3 4]'
    """
    return f"[{'; '.join(' '.join(row) for row in entries)}]"


def check_readable(cuts: Iterable[Cut], cell: float = _NARROWEST, longest: str = "1") -> None:
    """Raise unless the cells of every matrix can be read in one picture."""
    columns = int(_WIDEST / cell)
    for cut in cuts:
        if cut.parts > MOST_PARTS:
            raise ValueError(
                f"the numbers of {cut.parts} ranks cannot be read in one picture: at most "
                f"{MOST_PARTS}; leave values out, or show a product on fewer ranks"
            )
        if cut.shape[0] > _MOST_ROWS or cut.shape[1] > columns:
            raise ValueError(
                f"the numbers of {cut.name} {times(cut.shape)} cannot be read in one picture: at "
                f"most {times((_MOST_ROWS, columns))} of numbers as long as {longest}; leave "
                f"values out, or show a smaller product"
            )


def cell_width(words: Words) -> float:
    """Return the width of a cell that every number fits."""
    every = (word for parts in words.values() for rows in parts for row in rows for word in row)
    longest = max(every, key=lambda word: width_of(word, SMALL))
    width = max(_NARROWEST, width_of(longest, SMALL) + _PADDING)
    check_readable(words, width, longest)
    return width
