"""The slide's symbols: one for each piece of the model, with the copy as subscript."""

import numpy as np

from ..layout import ParallelLayout
from ..rankgrid import Ranks

SYMBOLS = "★⊕□⊠△⋈#○◆●■▲⊗◇☆▽"
"""One for each piece of the model, the lecture's eight first. Layouts with more pieces than
symbols are labelled by letter (tp rank) and number (pipeline rank): ``B3``."""

_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def subscript(number: int) -> str:
    """Write a number small, below the line.

    >>> subscript(12)
    '₁₂'
    """
    return str(number).translate(_SUBSCRIPTS)


def letters(number: int) -> str:
    """Count in letters, as the columns of a spreadsheet do.

    >>> [letters(n) for n in (0, 25, 26)]
    ['A', 'Z', 'AA']
    """
    word = ""
    number += 1
    while number:
        number, letter = divmod(number - 1, 26)
        word = chr(ord("A") + letter) + word
    return word


# ---- pieces and copies of the model


def piece_of(layout: ParallelLayout, rank: Ranks) -> Ranks:
    """Return which piece of the model each rank holds, 0 … tp·pp - 1, row by row of the slide.

    Ranks with the same piece hold the same parameters.

    Examples
    --------
    >>> layout = ParallelLayout(nodes=2, tp=2, pp=4)
    >>> piece_of(layout, np.array([0, 2, 5]))
    array([0, 0, 5])
    """
    at = layout.coordinates(rank)
    return at["tp"] * layout.pp + at["pp"]


def copy_of(layout: ParallelLayout, rank: Ranks) -> Ranks:
    """Return which copy of the model each rank belongs to: its dp coordinate, 0 … dp - 1.

    The ranks of one cp group share the work of one copy: each has the same parameters, and
    another part of every sequence.

    Examples
    --------
    >>> layout = ParallelLayout(nodes=2, tp=2, pp=4)
    >>> copy_of(layout, np.array([0, 2, 5]))
    array([0, 1, 0])
    """
    return layout.coordinates(rank)["dp"]


def symbol(layout: ParallelLayout, piece: int) -> str:
    """Return the mark of a piece: a symbol while there are enough of them, else letter + number.

    Examples
    --------
    >>> symbol(ParallelLayout(nodes=2, tp=2, pp=4), 5)
    '⋈'
    >>> symbol(ParallelLayout(nodes=16, tp=8, pp=16), 17)
    'B1'
    """
    pieces = layout.tp * layout.pp
    if not 0 <= piece < pieces:
        raise ValueError(f"piece {piece} is out of range: 0 … {pieces - 1}")
    if pieces <= len(SYMBOLS):
        return SYMBOLS[piece]
    tp_rank, pp_rank = divmod(piece, layout.pp)
    return f"{letters(tp_rank)}{pp_rank}"


def label(layout: ParallelLayout, rank: int) -> str:
    """Return the slide's label of a rank: its piece, with the model copy as subscript.

    Ranks that differ in cp alone share a label: they hold the same, and work on one copy.

    Examples
    --------
    >>> layout = ParallelLayout(nodes=2, tp=2, pp=4)
    >>> " ".join(label(layout, rank) for rank in (0, 2, 5))
    '★₁ ★₂ ⋈₁'
    """
    ranks = np.array([layout.check_rank(rank)])
    piece, copy = int(piece_of(layout, ranks)[0]), int(copy_of(layout, ranks)[0])
    return symbol(layout, piece) + subscript(copy + 1)
