"""Which layers a pipeline rank holds, and all that one rank holds."""

from dataclasses import dataclass

from .._checks import divisors, listed, whole_number
from ..layout import ParallelLayout
from .cuts import cut
from .symbols import label


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
        if first is not None and last is not None:
            raise ValueError(_both_fixed(num_layers, pp, first, last))
        dealt = f"{left} of the {num_layers} layers" if fixed else f"the {num_layers} layers"
        fits = [n for n in divisors(num_layers) if n > 1]
        hint = f"; pp may be {listed(fits, ' or ')}" if fits and not fixed else ""
        raise ValueError(
            f"{dealt} cannot be dealt evenly to {ranks_left} of the {pp} pipeline ranks{hint}; "
            f"or give first= and last= their own number of layers"
        )
    return [fixed.get(pp_rank, left // max(ranks_left, 1)) for pp_rank in range(pp)]


def _both_fixed(num_layers: int, pp: int, first: int, last: int) -> str:
    """Say why the layers cannot be dealt when both ends have a number of their own."""
    total, between = first + last, pp - 2
    if pp == 2:
        return f"with pp=2, first + last must be all {num_layers} layers, got {first} + {last}"
    fits = [n for n in range(2, num_layers - between + 1) if (num_layers - n) % between == 0]
    nearest = sorted(sorted(fits, key=lambda n: abs(n - total))[:2])
    hint = f"; first + last may be {listed(nearest, ' or ')}" if nearest else ""
    return (
        f"first={first} and last={last} leave {num_layers} - {total} = {num_layers - total} "
        f"layers, which cannot be dealt evenly to the {between} pipeline ranks between{hint}"
    )


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
