"""What each rank holds: the slide's symbol, the layers of its stage, its slice of a matrix."""

from dataclasses import dataclass

import numpy as np

from ._checks import divisors, listed, whole_number
from .layout import ParallelLayout
from .rankgrid import Ranks

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
    """Return which copy of the model each rank belongs to, 0 … dp·cp - 1.

    Copy *i* is row *i* of ``layout.groups("model")``. Context parallelism copies the weights
    too, so it counts here.

    Examples
    --------
    >>> layout = ParallelLayout(nodes=2, tp=2, pp=4)
    >>> copy_of(layout, np.array([0, 2, 5]))
    array([0, 1, 0])
    """
    at = layout.coordinates(rank)
    cp_first = layout.dense.strides["cp"] < layout.dense.strides["dp"]
    return at["cp"] + at["dp"] * layout.cp if cp_first else at["dp"] + at["cp"] * layout.dp


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

    Examples
    --------
    >>> layout = ParallelLayout(nodes=2, tp=2, pp=4)
    >>> " ".join(label(layout, rank) for rank in (0, 2, 5))
    '★₁ ★₂ ⋈₁'
    """
    ranks = np.array([layout.check_rank(rank)])
    piece, copy = int(piece_of(layout, ranks)[0]), int(copy_of(layout, ranks)[0])
    return symbol(layout, piece) + subscript(copy + 1)


# ---- layers and matrices


def layers_of(
    num_layers: int,
    pp: int,
    *,
    chunks: int = 1,
    first: int | None = None,
    last: int | None = None,
) -> list[list[range]]:
    """Deal the layers to the pipeline ranks. Layers are counted from 1, as Megatron does.

    Parameters
    ----------
    num_layers : int
        Transformer layers of the whole model.
    pp : int
        Pipeline-parallel size.
    chunks : int
        ``virtual_pipeline_model_parallel_size``: stages on each pipeline rank. With more than
        one, a rank's layers are not contiguous: stage and pipeline rank are two things.
    first, last : int, optional
        Layers on the first and on the last pipeline rank, where they differ from the others
        (``num_layers_in_first_pipeline_stage``, ``…_last_…``).

    Returns
    -------
    list of list of range
        ``[pipeline rank][chunk]``.

    Raises
    ------
    ValueError
        When the layers cannot be dealt evenly.

    Examples
    --------
    >>> layers_of(16, pp=4)[1]
    [range(5, 9)]
    >>> layers_of(16, pp=4, chunks=2)[0]
    [range(1, 3), range(9, 11)]
    """
    num_layers, pp = whole_number("num_layers", num_layers), whole_number("pp", pp)
    chunks = whole_number("chunks", chunks)
    if chunks > 1 and pp == 1:
        raise ValueError(f"chunks={chunks} interleaves the stages of a pipeline; pp=1 has none")
    counts = _layer_counts(num_layers, pp, first, last)
    for pp_rank, count in enumerate(counts):
        if count % chunks:
            raise ValueError(
                f"the {count} layers of pipeline rank {pp_rank} cannot be dealt to "
                f"chunks={chunks}; chunks may be {listed(divisors(count), ' or ')}"
            )
    dealt: list[list[range]] = [[] for _ in range(pp)]
    start = 1
    for _ in range(chunks):
        for mine, count in zip(dealt, counts, strict=True):
            mine.append(range(start, start + count // chunks))
            start += count // chunks
    return dealt


def _layer_counts(num_layers: int, pp: int, first: int | None, last: int | None) -> list[int]:
    """How many layers each pipeline rank holds."""
    first = None if first is None else whole_number("first", first)
    last = None if last is None else whole_number("last", last)
    if pp == 1:
        if {first, last} - {None, num_layers}:
            raise ValueError(f"with pp=1 the only rank holds all {num_layers} layers")
        return [num_layers]
    fixed = {rank: count for rank, count in ((0, first), (pp - 1, last)) if count is not None}
    left, ranks_left = num_layers - sum(fixed.values()), pp - len(fixed)
    if left < ranks_left or left % max(ranks_left, 1) or (not ranks_left and left):
        dealt = f"{left} of the {num_layers} layers" if fixed else f"the {num_layers} layers"
        fits = [n for n in divisors(num_layers) if n > 1]
        hint = f"; pp may be {listed(fits, ' or ')}" if fits and not fixed else ""
        raise ValueError(
            f"{dealt} cannot be dealt evenly to {ranks_left} of the {pp} pipeline ranks{hint}; "
            f"or give first= and last= their own number of layers"
        )
    return [fixed.get(pp_rank, left // max(ranks_left, 1)) for pp_rank in range(pp)]


def cut(shape: tuple[int, ...], parts: int, dim: int) -> list[tuple[slice, ...]]:
    """Cut an array into equal parts along one dimension; index the array with the result.

    Parameters
    ----------
    shape : tuple of int
        Of the array, for example (rows, columns).
    parts : int
        Usually tp.
    dim : int
        0 cuts the rows apart (``RowParallelLinear``, for a weight used as X·A), 1 the columns
        (``ColumnParallelLinear``).

    Raises
    ------
    ValueError
        When ``parts`` does not divide that dimension.

    Examples
    --------
    >>> matrix = np.arange(8).reshape(2, 4)
    >>> [matrix[part].tolist() for part in cut(matrix.shape, parts=2, dim=1)]
    [[[0, 1], [4, 5]], [[2, 3], [6, 7]]]
    """
    parts = whole_number("parts", parts)
    if not -len(shape) <= dim < len(shape):
        raise ValueError(f"dim={dim} is out of range for shape {shape}")
    dim %= len(shape)
    if shape[dim] % parts:
        raise ValueError(
            f"{shape[dim]} (dimension {dim} of shape {shape}) cannot be cut into {parts} equal "
            f"parts; parts may be {listed(divisors(shape[dim]), ' or ')}"
        )
    step = shape[dim] // parts
    whole = [slice(None)] * len(shape)
    return [
        (*whole[:dim], slice(part * step, (part + 1) * step), *whole[dim + 1 :])
        for part in range(parts)
    ]


# ---- all of it, for one rank


@dataclass(frozen=True, repr=False)
class Shard:
    """What one rank holds.

    Attributes
    ----------
    rank : int
        Global rank.
    label : str
        As on the slide: symbol of the piece, subscript of the model copy.
    tp_rank, tp : int
        It holds part ``tp_rank`` of ``tp`` of every matrix …
    chunks : tuple of range
        … of these layers, counted from 1; one range for each stage on this rank.
    """

    rank: int
    label: str
    tp_rank: int
    tp: int
    chunks: tuple[range, ...]

    @property
    def layers(self) -> tuple[int, ...]:
        """All layers on this rank."""
        return tuple(layer for chunk in self.chunks for layer in chunk)

    def slice_of(self, shape: tuple[int, ...], dim: int) -> tuple[slice, ...]:
        """Return this rank's part of a matrix that tp cuts along ``dim`` (see `cut`)."""
        return cut(shape, self.tp, dim)[self.tp_rank]

    def __repr__(self) -> str:
        runs = [
            f"{chunk[0]}–{chunk[-1]}" if len(chunk) > 1 else f"{chunk[0]}" for chunk in self.chunks
        ]
        plural = "" if len(self.layers) == 1 else "s"
        return (
            f"rank {self.rank} holds {self.label}: layer{plural} {listed(runs, ' and ')}, "
            f"part {self.tp_rank + 1} of {self.tp} of each matrix"
        )


def held_by(
    layout: ParallelLayout,
    rank: int,
    num_layers: int,
    *,
    chunks: int = 1,
    first: int | None = None,
    last: int | None = None,
) -> Shard:
    """Return what one rank holds of a model with ``num_layers`` layers.

    Parameters as for `layers_of`.

    Examples
    --------
    >>> held_by(ParallelLayout(nodes=2, tp=2, pp=4), rank=5, num_layers=16)
    rank 5 holds ⋈₁: layers 5–8, part 2 of 2 of each matrix
    """
    at = layout.coordinates(rank)
    stages = layers_of(num_layers, layout.pp, chunks=chunks, first=first, last=last)
    return Shard(rank, label(layout, rank), at["tp"], layout.tp, tuple(stages[at["pp"]]))
