"""Which layout: all that fit a cluster, priced at once."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .._checks import divisors
from ..layout import ParallelLayout
from .architecture import Model
from .cluster import MACHINES, Cluster
from .in_flight import held_at_once
from .memory import RESERVE, parts_of_rank
from .options import RECOMPUTE, LayersHeld, Split, Training, can_be_dealt, dealt, nodes_spanned
from .step import times

Column = NDArray[np.int64]
_MICROBATCHES = (1, 2, 4, 8)
_LEAST_TOKENS = 1024
"""Of a sequence on a cp rank: shorter parts are not considered."""
_COLUMNS = ("tp", "cp", "pp", "dp", "ep", "etp", "microbatch", "chunks", "recompute")


@dataclass(frozen=True, eq=False, repr=False)
class Layouts:
    """All layouts that fit, the fastest first.

    Attributes
    ----------
    columns : dict of str to ndarray
        ``tp``, ``cp``, ``pp``, ``dp``, ``ep``, ``etp``, ``microbatch``, ``chunks``, and
        ``recompute`` as its place in `RECOMPUTE`; a row for each layout and way to train on it.
    memory, seconds : ndarray
        Bytes of the fullest rank, and seconds of a step.
    considered : int
        How many there were before those that do not fit were left out.
    model, cluster, training
        For which; the training without what the columns say.
    """

    columns: dict[str, Column]
    memory: NDArray[np.float64]
    seconds: NDArray[np.float64]
    considered: int
    model: Model
    cluster: Cluster
    training: Training

    def __len__(self) -> int:
        return len(self.seconds)

    @property
    def ties(self) -> int:
        """How many are as fast as the first, within the error of the model.

        Of a machine that nothing is held against, within 10 %.
        """
        error = (self.cluster.machine.error or 10.0) / 100
        return int(np.searchsorted(self.seconds, (1 + error) * self.seconds[0], side="right"))

    @property
    def front(self) -> NDArray[np.int64]:
        """Rows than which no other is both faster and smaller, from fast to small."""
        least = np.minimum.accumulate(self.memory)
        before = np.concatenate([[np.inf], least[:-1]])
        return np.flatnonzero(self.memory < before)

    def row(self, number: int) -> dict[str, int]:
        """Return the sizes of a row."""
        return {name: int(column[number]) for name, column in self.columns.items()}

    def layout(self, number: int) -> ParallelLayout:
        """Return the layout of a row."""
        row = self.row(number)
        sizes = {axis: row[axis] for axis in ("tp", "cp", "pp", "ep")}
        return self.cluster.layout(**sizes, expert_tp=row["etp"])

    def trained(self, number: int) -> Training:
        """Return how the model is trained in a row."""
        row = self.row(number)
        return replace(
            self.training,
            microbatch=row["microbatch"],
            chunks=row["chunks"],
            recompute=RECOMPUTE[row["recompute"]],
        )

    def where(self, **sizes: int) -> NDArray[np.int64]:
        """Return the rows of the given sizes, the fastest first: ``where(tp=8, pp=16)``."""
        unknown = sorted(set(sizes) - set(self.columns))
        if unknown:
            raise ValueError(f"a row has {', '.join(_COLUMNS)}; got {', '.join(unknown)}")
        same = np.ones(len(self), dtype=bool)
        for name, size in sizes.items():
            same &= self.columns[name] == size
        return np.flatnonzero(same)

    def among(self, **sizes: int) -> "Layouts":
        """Return only the rows of the given sizes: ``among(cp=1)``.

        Raises
        ------
        ValueError
            When there is none.
        """
        kept = self.where(**sizes)
        if not kept.size:
            raise ValueError(f"no layout that fits has {_said(sizes)}")
        columns = {name: column[kept] for name, column in self.columns.items()}
        return replace(self, columns=columns, memory=self.memory[kept], seconds=self.seconds[kept])

    def place(self, *axes: str, **sizes: int) -> tuple[int, int, float]:
        """Return which place a choice takes among all, and by how much the first is faster.

        Parameters
        ----------
        *axes : str
            What makes a choice: rows that differ in others alone count as one, the fastest.
        **sizes : int
            The choice, such as ``tp=8, pp=16``; axes if not given.

        Returns
        -------
        place, of, slower : int, int, float
            From 1; how many choices there are; the share by which it is slower than the best.

        Raises
        ------
        ValueError
            When no row has these sizes.
        """
        found = self.where(**sizes)
        if not found.size:
            raise ValueError(f"no layout that fits has {_said(sizes)}")
        kinds = np.stack([self.columns[axis] for axis in axes or tuple(sizes)])
        first = np.sort(np.unique(kinds, axis=1, return_index=True)[1])
        here = int((first <= found[0]).sum())
        return here, len(first), float(self.seconds[found[0]] / self.seconds[0] - 1)

    def __repr__(self) -> str:
        head = (
            f"{len(self):,} of {self.considered:,} layouts fit {self.cluster.gpus:,} "
            f"{self.cluster.machine.name}; {self.ties:,} are as fast as the first, within the "
            f"model's error"
        )
        shown = range(min(5, len(self)))
        return "\n".join([head, *(self._line(number) for number in shown)])

    def _line(self, number: int) -> str:
        row = self.row(number)
        recompute = RECOMPUTE[row.pop("recompute")]
        if not self.model.experts:
            row.pop("etp")
        sizes = " ".join(f"{name} {size}" for name, size in row.items() if size > 1)
        held = self.memory[number] / 1e9
        return f"{self.seconds[number]:8.2f} s  {held:5.1f} GB  {sizes}, recompute {recompute}"


def layouts(
    model: Model,
    cluster: Cluster,
    training: Training | None = None,
    *,
    reserve: float = RESERVE,
) -> Layouts:
    """Return every layout of a model on a cluster that fits, with the time of its step.

    Considered are all tp within a node, cp, pp, dp and, with experts, ep and etp (1 or tp), in
    Megatron's order, microbatches of 1, 2, 4 and 8 sequences, all numbers of chunks that the
    microbatches allow, and what may be recomputed.

    Parameters
    ----------
    model : Model
        What is trained.
    cluster : Cluster
        On what.
    training : Training, optional
        The rest: precision, stage of ZeRO … By default sequence parallelism, the distributed
        optimizer, and its communication behind computing.
    reserve : float
        The share of a GPU's memory to leave free.

    Raises
    ------
    ValueError
        When nothing fits: by how much not, and the cheapest change with which something does.

    Examples
    --------
    >>> from mpviz import cost
    >>> found = layouts(cost.MODELS["Llama 3 8B"], cost.Cluster(8))
    >>> found.layout(0).world_size, len(found.front) <= found.ties <= len(found)
    (8, True)
    >>> layouts(cost.MODELS["Llama 3 70B"], cost.Cluster(8))
    Traceback (most recent call last):
        ...
    ValueError: Llama 3 70B does not fit 8 H100 in any of 688 layouts: the smallest holds 161 GB a \
GPU, 89 GB more than 72 GB (80 GB less the reserve); with 8 B200 it fits: 161 GB a GPU
    """
    training = training or Training(sequence_parallel=True, zero=1, overlap=True)
    if training.schedule not in ("1f1b", "gpipe"):
        raise ValueError(f"layouts are of 1f1b or gpipe, got {training.schedule}; step takes it")
    table = _candidates(model, cluster, training)
    memory = _peak(model, cluster, training, table)
    room = (1 - reserve) * cluster.machine.memory
    fits = memory <= room
    if not fits.any():
        raise ValueError(_too_large(model, cluster, training, memory, room))
    table = {name: column[fits] for name, column in table.items()}
    seconds = _seconds(model, cluster, training, table)
    order = np.lexsort((memory[fits], seconds))
    return Layouts(
        {name: table[name][order] for name in _COLUMNS},
        memory[fits][order],
        seconds[order],
        len(memory),
        model,
        cluster,
        training,
    )


def _said(sizes: Mapping[str, int]) -> str:
    return " ".join(f"{name}={size}" for name, size in sizes.items())


# ---- which there are

Table = dict[str, Column]


def _candidates(model: Model, cluster: Cluster, training: Training) -> Table:
    """Return the sizes of every layout, and every way to train on it, in columns."""
    gpus, heads = cluster.gpus, np.gcd(model.heads, model.kv_heads)
    whole = np.gcd.reduce([heads, model.ffn, cluster.gpus_per_node, gpus])
    table: Table = {"tp": np.array(divisors(int(whole)))}
    table = _crossed(table, "cp", divisors(int(np.gcd(gpus, model.sequence))))
    tp, cp = table["tp"], table["cp"]
    least = (model.sequence // cp >= _LEAST_TOKENS) | (cp == 1)
    table = _kept(table, (gpus % (tp * cp) == 0) & (model.sequence % (tp * cp) == 0) & least)
    pipelines = [pp for pp in divisors(gpus) if pp <= model.layers]
    table = _crossed(table, "pp", pipelines)
    table = _kept(table, gpus % (table["tp"] * table["cp"] * table["pp"]) == 0)
    table["dp"] = gpus // (table["tp"] * table["cp"] * table["pp"])
    table = _crossed(table, "microbatch", _MICROBATCHES)
    batch = training.batch or model.batch
    table = _kept(table, batch % (table["dp"] * table["microbatch"]) == 0)
    many = batch // (table["dp"] * table["microbatch"])
    table = _with_chunks(model, training, {**table, "microbatches": many})
    table = _with_experts(model, cluster, table)
    levels = [0, 2] if training.fused else [0, 1, 2]  # fused attention keeps no scores
    return _crossed(table, "recompute", levels)


def _with_chunks(model: Model, training: Training, table: Table) -> Table:
    """Cross with the chunks on each rank: more than one where pp divides the microbatches."""
    most = model.layers if training.schedule == "1f1b" else 1
    table = _crossed(table, "chunks", range(1, most + 1))
    chunks, pp = table["chunks"], table["pp"]
    interleaved = (pp > 1) & (table["microbatches"] % pp == 0)
    table = _kept(table, (chunks == 1) | (interleaved & (pp * chunks <= model.layers + 2)))
    return _kept(table, can_be_dealt(model.layers, table["pp"] * table["chunks"]))


def _with_experts(model: Model, cluster: Cluster, table: Table) -> Table:
    """Cross with the sizes of the expert grid."""
    if not model.experts:
        return {**table, "ep": np.ones_like(table["tp"]), "etp": table["tp"]}
    table = _crossed(table, "ep", divisors(int(np.gcd(model.experts, cluster.gpus))))
    table = _crossed(table, "cut", [0, 1])
    table["etp"] = np.where(table.pop("cut") == 1, table["tp"], 1)
    same = np.stack([table[name] for name in table])
    table = dict(zip(table, np.unique(same, axis=1), strict=True))
    return _kept(table, cluster.gpus % (table["ep"] * table["etp"] * table["pp"]) == 0)


def _crossed(table: Table, name: str, values: Iterable[int]) -> Table:
    """Return each row with each of the values."""
    column = np.array(list(values), dtype=np.int64)
    rows = len(next(iter(table.values())))
    crossed = {each: np.repeat(old, len(column)) for each, old in table.items()}
    return {**crossed, name: np.tile(column, rows)}


def _kept(table: Table, good: NDArray[np.bool_]) -> Table:
    return {name: column[good] for name, column in table.items()}


# ---- what they cost


def _split(model: Model, cluster: Cluster, table: Table) -> Split:
    """Return the sizes of all rows."""
    tp, cp, pp, dp, ep, etp = (table[name] for name in ("tp", "cp", "pp", "dp", "ep", "etp"))
    edp = cluster.gpus // (ep * etp * pp)
    each = cluster.gpus_per_node
    nodes = {
        "tp": nodes_spanned(tp, 1, each),
        "cp": nodes_spanned(cp, tp, each),
        "dp-cp": nodes_spanned(dp * cp, tp, each),
        "pp": nodes_spanned(pp, tp * cp * dp, each),
        "embedding": nodes_spanned(np.minimum(pp, 2), (pp - 1) * tp * cp * dp + (pp == 1), each),
        "ep": nodes_spanned(ep, etp, each),
        "edp": nodes_spanned(edp, etp * ep, each),
    }
    sizes = (tp, cp, pp, dp, ep, etp, edp)
    ways = (table[name] for name in ("microbatch", "microbatches", "chunks", "recompute"))
    return Split(*sizes, nodes, *ways)


def _some_ranks(model: Model, split: Split) -> Iterator[tuple[LayersHeld, Column]]:
    """Yield what some pipeline ranks hold, and which they are: no other holds more.

    These are the first, the last, and of those between the first that has no dense layer.
    """
    for number in range(2 + (model.dense_layers if model.experts else 0)):
        rank = np.minimum(number, split.pp - 1)
        yield _held(model, split, rank), rank
    yield _held(model, split, split.pp - 1), split.pp - 1


def _held(model: Model, split: Split, rank: Column) -> LayersHeld:
    """Return what a pipeline rank of each row holds."""
    each, at_first, at_last = dealt(model.layers, split.pp * split.chunks)
    first, last = 1 * (rank == 0), 1 * (rank == split.pp - 1)
    layers = each * split.chunks - first * at_first - last * at_last
    if not model.experts:
        return LayersHeld(layers, 0 * layers, first, last)
    dense = 0 * layers
    for chunk in range(model.dense_layers):  # a stage has a layer, or more
        stage = chunk * split.pp + rank
        start = stage * each - at_first * (stage > 0)
        size = each - at_first * (stage == 0)
        dense = dense + np.clip(model.dense_layers - start, 0, size) * (chunk < split.chunks)
    return LayersHeld(dense, layers - dense, first, last)


def _peak(model: Model, cluster: Cluster, training: Training, table: Table) -> NDArray[np.float64]:
    """Return the bytes of the fullest rank of each row."""
    split, peaks = _split(model, cluster, table), np.zeros(len(table["tp"]))
    for held, rank in _some_ranks(model, split):
        many = split.microbatches
        held_in = held_at_once(training.schedule, split.chunks, split.pp, rank, many)
        parts = parts_of_rank(model, split, training, held, held_in)
        peaks = np.maximum(peaks, sum(parts.values()))
    return peaks


def _seconds(
    model: Model, cluster: Cluster, training: Training, table: Table
) -> NDArray[np.float64]:
    """Return the seconds of a step of each row."""
    split, longest = _split(model, cluster, table), np.zeros(len(table["tp"]))
    for held, _ in _some_ranks(model, split):
        parts = times(model, split, training, held, cluster.machine)
        longest = np.maximum(longest, sum(parts.values()))
    return longest


# ---- where nothing fits


def _too_large(
    model: Model, cluster: Cluster, training: Training, memory: NDArray[np.float64], room: float
) -> str:
    """Say by how much the smallest layout is too large, and what would fit."""
    name = model.name or "the model"
    if not memory.size:
        return (
            f"{name} cannot be cut for {cluster.gpus:,} GPUs: no layout divides its "
            f"{model.layers} layers, {model.heads} heads and batch of "
            f"{training.batch or model.batch}"
        )
    least = float(memory.min())
    said = (
        f"{name} does not fit {cluster.gpus:,} {cluster.machine.name} in any of {len(memory):,} "
        f"layouts: the smallest holds {least / 1e9:.0f} GB a GPU, {(least - room) / 1e9:.0f} GB "
        f"more than {room / 1e9:.0f} GB ({cluster.machine.memory / 1e9:.0f} GB less the reserve)"
    )
    share = room / cluster.machine.memory
    for change, other, way in _changes(cluster, training):
        table = _candidates(model, other, way)
        peak = _peak(model, other, way, table)
        if peak.size and peak.min() <= share * other.machine.memory:
            return f"{said}; with {change} it fits: {peak.min() / 1e9:.0f} GB a GPU"
    return f"{said}; nor would more GPUs, or others"


def _changes(cluster: Cluster, training: Training) -> Iterable[tuple[str, Cluster, Training]]:
    """Yield what may be changed, what costs nothing first."""
    for stage in range(training.zero + 1, 4):
        yield f"zero={stage}", cluster, replace(training, zero=stage)
    larger = [m for m in MACHINES.values() if m.memory > cluster.machine.memory]
    for machine in sorted(larger, key=lambda machine: machine.memory):
        yield f"{cluster.gpus:,} {machine.name}", replace(cluster, machine=machine), training
    for times_more in (2, 4, 8, 16, 32, 64):
        more = times_more * cluster.gpus
        whole = -(-more // 8) * 8 if cluster.gpus < cluster.gpus_per_node else more
        yield f"{whole:,} GPUs", replace(cluster, gpus=whole), training
