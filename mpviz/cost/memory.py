"""What each pipeline rank holds in training, by kind."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..layout import ParallelLayout
from .activations import kept_of_layers, layer_activations
from .architecture import Model
from .estimator import estimated
from .in_flight import in_flight
from .model_state import KINDS
from .options import RECOMPUTE, LayersHeld, Number, Split, Training, check_split, held_by_ranks

RESERVE = 0.1
"""The share of a GPU's memory to leave free: measured peaks are 1.5 to 9.3 % above what is counted
here, in 8 of 8 cases (SimuMax, B200 summary v1.2, ``max_memory_allocated``)."""

_STATE = tuple(reversed(KINDS))
LABELS = {
    **dict.fromkeys(_STATE, "asserted"),
    **dict.fromkeys(("norms", "attention", "scores", "mlp", "inputs"), "asserted"),
    "experts": "estimated: tokens dealt evenly",
    "recomputed": "estimated: one layer at a time",
    "embedding": "estimated",
    "logits": "estimated",
}
"""How each kind is known. *Asserted*: a test holds it, byte for byte, against real modules."""


@dataclass(frozen=True, repr=False)
class Memory:
    """What each pipeline rank holds at its peak.

    Attributes
    ----------
    ranks : tuple of mapping of str to int
        Bytes by kind, of a GPU of each pipeline rank.
    label : str
        How far the sum is to be trusted; `labels` says it of each kind.

    Examples
    --------
    >>> from mpviz import cost
    >>> cluster = cost.Cluster(64)
    >>> memory(cost.MODELS["Llama 3 70B"], cluster.layout(tp=8, pp=2),
    ...        cost.Training(sequence_parallel=True, zero=1, microbatch=1))
    fullest pipeline rank 0 of 2: 62.2 GB (gradients 17.6, mlp 15.4, optimizer 13.2, weights 8.8, \
attention 4.4, norms 2.7)
    """

    ranks: tuple[Mapping[str, int], ...]
    label: str = "estimated, 1.5 to 9.3 % below what 8 runs measured"

    @property
    def totals(self) -> tuple[int, ...]:
        """Bytes of each pipeline rank."""
        return tuple(sum(held.values()) for held in self.ranks)

    @property
    def fullest(self) -> int:
        """The pipeline rank that holds most."""
        return int(np.argmax(self.totals))

    @property
    def peak(self) -> int:
        """Bytes of the fullest."""
        return max(self.totals)

    @property
    def labels(self) -> dict[str, str]:
        """How each kind is known: *asserted* by a test against real modules, or *estimated*."""
        return {kind: LABELS[kind] for kind in self.ranks[0] if kind in LABELS}

    def missing(self, capacity: float, reserve: float = RESERVE) -> float:
        """Return by how many bytes the fullest exceeds a GPU's memory less the reserve; 0 if not.

        >>> Memory(({"weights": 80},)).missing(80)
        8.0
        """
        return max(0.0, self.peak - (1 - reserve) * capacity)

    def __repr__(self) -> str:
        n, of = self.fullest, len(self.ranks)
        parts = sorted(self.ranks[n].items(), key=lambda part: -part[1])
        said = ", ".join(f"{kind} {size / 1e9:.1f}" for kind, size in parts if size >= 5e7)
        return f"fullest pipeline rank {n} of {of}: {self.peak / 1e9:.1f} GB ({said})"


def memory(
    model: Model,
    layout: ParallelLayout,
    training: Training | None = None,
    *,
    like: str | None = None,
) -> Memory:
    """Return what a GPU of each pipeline rank holds at its peak.

    - weights, gradients, optimizer: as many bytes for each parameter as `PRECISIONS` says, cut
      over dp × cp as ZeRO does it (experts: over their own copies);
    - activations by part of a layer, for each microbatch in flight (see `in_flight`), of the
      tokens of this cp rank; with full recomputation the layers' inputs, and one layer's
      activations once more;
    - logits, on the last: in bf16 and in fp32.

    The reserve for what is not counted, buffers and fragments: `RESERVE`.

    Parameters
    ----------
    model : Model
        What is trained.
    layout : ParallelLayout
        Who is who.
    training : Training, optional
        How.
    like : {None, "megatron-estimator"}
        Count as Megatron's ``theoretical_memory_usage.py`` does, with its faults, the fullest
        rank alone.

    Raises
    ------
    ValueError
        When the layout does not divide the model or the batch.
    """
    training = training or Training()
    if like == "megatron-estimator":
        return Memory((estimated(model, layout, training),), "what Megatron's estimator says")
    if like is not None:
        raise ValueError(f"like must be None or 'megatron-estimator', got {like!r}")
    check_split(model, layout, training)
    split, held = Split.of(model, layout, training), held_by_ranks(model, layout.pp, training)
    held_in = in_flight(training, layout.pp, np.arange(layout.pp), int(split.microbatches))
    parts = parts_of_rank(model, split, training, held, held_in)
    parts = {kind: np.broadcast_to(size, layout.pp) for kind, size in parts.items()}
    return Memory(
        tuple(
            {kind: round(float(size[rank])) for kind, size in parts.items() if size.any()}
            for rank in range(layout.pp)
        )
    )


def parts_of_rank(
    model: Model, split: Split, training: Training, held: LayersHeld, held_in: Number
) -> dict[str, Number]:
    """Return the bytes of a rank, or of an array of them, by kind."""
    return {
        **state_of(model, split, training, held),
        **activations_of(model, split, training, held, held_in),
    }


def rank_parameters(model: Model, split: Split, held: LayersHeld) -> tuple[Number, Number]:
    """Return the parameters of a rank: those that dp × cp shares, and its experts.

    Tied words are held twice where the first and the last stage are two.
    """
    words = model.vocabulary * model.hidden
    places = model.ends[0] - words
    ends = held.first * (words / split.tp + places)
    untied = held.last * (0 if model.tied else words / split.tp)
    stages = split.pp * split.chunks
    copy = held.last * (stages > 1) * (words / split.tp if model.tied else 0)
    norm = held.last * model.norm_size
    layer = model.attention_cut / split.tp + model.layer_whole
    dense = held.layers * layer + held.dense * model.mlp_cut(model.ffn) / split.tp
    dense = dense + held.experts * (model.router + model.shared_cut / split.tp)
    experts = held.experts * model.expert_parameters / (split.ep * split.etp)
    return dense + ends + untied + copy + norm, experts


def state_of(model: Model, split: Split, training: Training, held: LayersHeld) -> dict[str, Number]:
    """Return the bytes of weights, gradients and optimizer; a shard is rounded up."""
    dense, experts = rank_parameters(model, split, held)
    cut = {kind: place < training.zero for place, kind in enumerate(KINDS)}
    shards = np.ceil(dense / split.share) + np.ceil(experts / split.edp)
    return {
        kind: getattr(training.each, kind) * (shards if cut[kind] else dense + experts)
        for kind in _STATE
    }


def activations_of(
    model: Model, split: Split, training: Training, held: LayersHeld, held_in: Number
) -> dict[str, Number]:
    """Return the bytes of activations at the peak, by part."""
    tokens = model.sequence * split.microbatch / split.cp
    parts: dict[str, Number] = {}
    for count, experts in ((held.dense, False), (held.experts, True)):
        if not np.any(count):
            continue
        for part, size in kept_of_layers(model, split, training, experts=experts).items():
            parts[part] = parts.get(part, 0) + count * held_in * tokens * size
    full = split.recompute == RECOMPUTE.index("full")
    again = replace(split, recompute=0)  # in backward a layer is whole for a moment
    of_layer = layer_activations(model, again, training, experts=model.expert_layers > 0)
    parts["recomputed"] = np.where(full, tokens * sum(of_layer.values()), 0)
    whole, e = split.whole(training), training.each.weights
    mask = model.hidden / whole if model.dropout else 0
    parts["embedding"] = held.first * held_in * tokens * (8 + mask)
    # The last norm's input and its output; the logits, and as fp32 their softmax.
    output = 2 * e * model.hidden / whole + (e + 4) * model.vocabulary / split.tp
    parts["logits"] = held.last * tokens * output
    return parts
