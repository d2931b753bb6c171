"""How it is trained: what is recomputed, cut and interleaved; and a layout's sizes as numbers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._checks import divisors, listed, whole_number
from ..layout import ParallelLayout
from .architecture import Model
from .model_state import KINDS, PRECISIONS, Precision

RECOMPUTE = ("none", "selective", "full")
"""What is computed again in backward rather than kept: nothing, what attention has inside, all."""
SCHEDULES = ("gpipe", "1f1b", "zb-h1", "zb-v")
Number = Any
"""A number, or an array of one for each pipeline rank or layout."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a model is trained on a layout. By default as plainly as can be.

    Parameters
    ----------
    microbatch : int
        Sequences of a microbatch.
    batch : int, optional
        Sequences of a step, if not the model's own.
    schedule : {"1f1b", "gpipe", "zb-h1", "zb-v"}
        Of the pipeline; with ``chunks`` above 1, ``"1f1b"`` is interleaved.
    chunks : int
        Stages on each pipeline rank, v.
    recompute : {"none", "selective", "full"}
        What backward computes again: nothing; scores and softmax of attention; whole layers, of
        which each keeps its input.
    sequence_parallel : bool
        Whether norms and dropout, too, are cut over tp, along the sequence.
    zero : {0, 1, 2, 3}
        Stage of ZeRO over dp × cp. 1 is Megatron's distributed optimizer.
    precision : str
        One of `PRECISIONS`.
    fused : bool
        Whether attention keeps no scores (FlashAttention) and SwiGLU no intermediate.
    scatter_gather : bool
        Whether a message of the pipeline is cut over tp, and gathered where it arrives (Narayanan
        et al. 2021, arXiv 2104.04473, section 4.1); with sequence parallelism it is cut anyhow.
    overlap : bool
        Whether gradients are summed, and weights gathered, behind computing.

    Raises
    ------
    ValueError
        When a choice is none of these.
    """

    microbatch: int = 1
    batch: int | None = None
    schedule: str = "1f1b"
    chunks: int = 1
    recompute: str = "none"
    sequence_parallel: bool = False
    zero: int = 0
    precision: str = "bf16"
    fused: bool = True
    scatter_gather: bool = False
    overlap: bool = False

    def __post_init__(self) -> None:
        for name in ("microbatch", "chunks"):
            whole_number(name, getattr(self, name))
        if self.batch is not None:
            whole_number("batch", self.batch)
        known = {
            "schedule": SCHEDULES,
            "recompute": RECOMPUTE,
            "precision": tuple(PRECISIONS),
            "zero": tuple(range(len(KINDS) + 1)),
        }
        for name, values in known.items():
            if getattr(self, name) not in values:
                said = listed(map(repr, values), " or ")
                raise ValueError(f"{name} must be {said}, got {getattr(self, name)!r}")
        if self.chunks > 1 and self.schedule in ("gpipe", "zb-h1"):
            raise ValueError(f"{self.schedule} has one stage a rank, got chunks={self.chunks}")
        if self.schedule == "zb-v" and self.chunks != 2:
            raise ValueError(f"zb-v has two stages a rank: chunks=2, got chunks={self.chunks}")

    @property
    def each(self) -> Precision:
        """Bytes for each parameter."""
        return PRECISIONS[self.precision]


@dataclass(frozen=True)
class Split:
    """The sizes of a layout and of a step on it: numbers, or arrays of one for each layout.

    Attributes
    ----------
    tp, cp, pp, dp, ep, etp, edp : int or ndarray
        As in `ParallelLayout`.
    nodes : mapping of str to int or ndarray
        Over how many nodes a group of each kind is spread.
    microbatch, microbatches, chunks : int or ndarray
        Sequences of a microbatch, microbatches of a step, stages on a pipeline rank.
    recompute : int or ndarray
        The place of what is recomputed in `RECOMPUTE`.
    """

    tp: Number
    cp: Number
    pp: Number
    dp: Number
    ep: Number
    etp: Number
    edp: Number
    nodes: Mapping[str, Number]
    microbatch: Number
    microbatches: Number
    chunks: Number
    recompute: Number

    @classmethod
    def of(cls, model: Model, layout: ParallelLayout, training: Training) -> "Split":
        """Return the sizes of one layout."""
        batch = training.batch or model.batch
        return cls(
            *(layout.tp, layout.cp, layout.pp, layout.dp, layout.ep, layout.etp, layout.edp),
            nodes=_nodes(layout),
            microbatch=training.microbatch,
            microbatches=max(1, batch / layout.dp / training.microbatch),
            chunks=training.chunks,
            recompute=RECOMPUTE.index(training.recompute),
        )

    def whole(self, training: Training) -> Number:
        """Into how many parts what tp leaves whole is cut: with sequence parallelism tp."""
        return self.tp if training.sequence_parallel else 1

    @property
    def share(self) -> Number:
        """The ranks that share a piece's gradients, dp × cp."""
        return self.dp * self.cp


def _nodes(layout: ParallelLayout) -> dict[str, int]:
    """Return over how many nodes a group of each kind is spread."""
    nodes = {kind: spread(layout, kind) for kind in ("tp", "cp", "dp-cp", "pp", "embedding")}
    if layout.has_experts:
        return nodes | {kind: spread(layout, kind) for kind in ("ep", "edp")}
    return nodes | {"ep": 1, "edp": nodes["dp-cp"]}


def spread(layout: ParallelLayout, kind: str) -> int:
    """Return over how many nodes the group of a kind is spread that is on most.

    >>> [spread(ParallelLayout(nodes=4, tp=4), kind) for kind in ("tp", "dp")]
    [1, 4]
    """
    grid = layout.expert if kind in ("ep", "etp", "edp") else layout.dense
    axes = kind.split("-")
    size = {axis: n for axis, n in zip(grid.axes, grid.sizes, strict=True) if n > 1}
    real = [axis for axis in size if axis in axes]
    if kind != "embedding" and not real:
        return 1
    places = [list(size).index(axis) for axis in real]
    together = kind != "embedding" and places == list(range(places[0], places[0] + len(real)))
    if together:
        before = list(size)[: places[0]]
        stride = int(np.prod([size[axis] for axis in before], dtype=np.int64))
        members = int(np.prod([size[axis] for axis in real], dtype=np.int64))
        each = layout.gpus_per_node
        if aligned(members, stride, each):
            return int(nodes_spanned(members, stride, each))
    nodes = np.sort(layout.node(layout.groups(kind).ranks), axis=1)
    return 1 + int((np.diff(nodes, axis=1) > 0).sum(axis=1).max(initial=0))


def aligned(members: Number, stride: Number, each: int) -> Number:
    """Return whether groups of so many members, so far apart, begin where nodes do."""
    block = members * stride
    far = stride % each == 0
    near = (each % block == 0) | ((block % each == 0) & (each % stride == 0))
    return far | near


def nodes_spanned(members: Number, stride: Number, each: int) -> Number:
    """Return over how many nodes of a size such a group is spread.

    >>> nodes_spanned(np.array([2, 8, 16]), 4, each=8)
    array([1, 4, 8])
    """
    return np.minimum(members, -(-members * np.minimum(stride, each) // each))


# ---- layers


@dataclass(frozen=True)
class LayersHeld:
    """What a pipeline rank holds of the layers: numbers, or arrays.

    Attributes
    ----------
    dense, experts : int or ndarray
        Layers with a dense MLP, and with experts.
    first, last : int or ndarray
        1 if it has the embedding, and the output layer; else 0.
    """

    dense: Number
    experts: Number
    first: Number
    last: Number

    @property
    def layers(self) -> Number:
        """All its layers."""
        return self.dense + self.experts


MOST_SHORT = 3
"""By how many layers the first and the last stage together may be shorter than the others."""


def dealt(layers: int, stages: Number) -> tuple[Number, Number, Number]:
    """Return the layers of a stage, and by how many the first and the last one are shorter.

    Where stages do not divide the layers, the ends have fewer, since they also have the embedding
    and the output layer: Llama 3 405B has 126 layers on 16 ranks (arXiv 2407.21783, section
    3.3.2).

    >>> dealt(126, 16), dealt(61, 16), dealt(96, 8)
    ((8, 1, 1), (4, 1, 2), (12, 0, 0))
    """
    each = -(-layers // stages)
    short = each * stages - layers
    return each, short // 2, short - short // 2


def can_be_dealt(layers: int, stages: Number) -> Number:
    """Return whether the layers can be dealt to so many stages, with at most `MOST_SHORT` short.

    >>> can_be_dealt(126, np.array([9, 16, 32, 50]))
    array([ True,  True,  True, False])
    """
    each, at_first, at_last = dealt(layers, stages)
    short = at_first + at_last
    return (short == 0) | ((short <= MOST_SHORT) & (at_last <= each) & (stages > 1))


def stages_of(layers: int, pp: int, chunks: int) -> list[range]:
    """Return the layers of each stage, from 0; raise ``ValueError`` where they cannot be dealt.

    >>> [len(stage) for stage in stages_of(14, pp=4, chunks=1)]
    [3, 4, 4, 3]
    >>> stages_of(80, pp=3, chunks=7)
    Traceback (most recent call last):
        ...
    ValueError: 80 layers cannot be dealt to pp=3 × chunks=7 = 21 stages: 84 would be 4 too many, \
and the ends can have 3 fewer; 20 or 27 stages can
    """
    stages = pp * chunks
    if not can_be_dealt(layers, stages):
        each, *short = dealt(layers, stages)
        counts = np.arange(1, layers + 1)
        fit = counts[can_be_dealt(layers, counts)]
        near = [*fit[fit < stages][-1:], *fit[fit > stages][:1]]
        said = f"pp={pp} × chunks={chunks} = {stages} stages" if chunks > 1 else f"pp={pp} stages"
        raise ValueError(
            f"{layers} layers cannot be dealt to {said}: {each * stages} would be {sum(short)} "
            f"too many, and the ends can have {MOST_SHORT} fewer; {listed(near, ' or ')} stages can"
        )
    each, at_first, at_last = dealt(layers, stages)
    counts = np.full(stages, each)
    counts[0] -= at_first
    counts[-1] -= at_last
    ends = np.cumsum(counts).tolist()
    return [range(end - count, end) for end, count in zip(ends, counts.tolist(), strict=True)]


def held_by_ranks(model: Model, pp: int, training: Training) -> LayersHeld:
    """Return what each pipeline rank holds, in arrays of shape (pp,)."""
    stages = stages_of(model.layers, pp, training.chunks)
    holder = np.tile(np.arange(pp), training.chunks)
    if training.schedule == "zb-v":
        holder[pp:] = holder[pp:][::-1]
    dense_of = model.dense_layers if model.experts else model.layers
    dense = [sum(layer < dense_of for layer in stage) for stage in stages]
    total = [len(stage) for stage in stages]
    of_rank = np.zeros((2, pp), dtype=np.int64)
    for row, counts in enumerate((dense, np.subtract(total, dense))):
        np.add.at(of_rank[row], holder, counts)
    ranks = np.arange(pp)
    return LayersHeld(of_rank[0], of_rank[1], 1 * (ranks == 0), 1 * (ranks == holder[-1]))


def check_split(model: Model, layout: ParallelLayout, training: Training) -> None:
    """Raise unless the layout divides heads, KV heads, the MLP, words, experts and the batch."""
    batch = training.batch or model.batch
    divided = {
        "tp": (("heads", model.heads), ("KV heads", model.kv_heads), ("features", model.ffn)),
        "ep": (("experts", model.experts),) if model.experts else (),
        "etp": (("features of an expert", model.expert_ffn),) if model.experts else (),
    }
    for axis, whole in divided.items():
        for what, count in whole:
            if count % getattr(layout, axis):
                raise ValueError(
                    f"{count} {what} cannot be dealt evenly to {axis}={getattr(layout, axis)}; "
                    f"{axis} may be {listed(divisors(count), ' or ')}"
                )
    if layout.ep > 1 and not model.experts:
        raise ValueError(
            f"ep={layout.ep} spreads experts, and {model.name or 'the model'} has none"
        )
    tokens = layout.cp * (layout.tp if training.sequence_parallel else 1)
    if model.sequence % tokens:
        raise ValueError(
            f"{model.sequence} tokens cannot be dealt evenly to {tokens} ranks of cp and, with "
            f"sequence parallelism, tp; they may be {listed(divisors(model.sequence), ' or ')}"
        )
    each = layout.dp * training.microbatch
    if batch % each:
        fits = [dp for dp in divisors(batch) if batch % (dp * training.microbatch) == 0]
        raise ValueError(
            f"a batch of {batch} cannot be dealt to dp={layout.dp} × microbatches of "
            f"{training.microbatch}; dp may be {listed(fits[-6:], ' or ')}"
        )
