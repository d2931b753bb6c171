"""The time of a training step: computing, exposed communication and bubble."""

from dataclasses import dataclass, replace

import numpy as np

from .._checks import listed
from ..layout import ParallelLayout
from .activations import flops, layer_activations, layer_flops
from .architecture import Model
from .cluster import HBM_REACHED, Cluster, Machine
from .memory import rank_parameters
from .options import RECOMPUTE, LayersHeld, Number, Split, Training, check_split, held_by_ranks
from .traffic import collectives, seconds_on

PARTS = ("products", "memory", "tp", "cp", "ep", "pp", "dp", "optimizer", "bubble")
"""Where a second goes: matrix products and what reads and writes memory, what waits for a kind of
group, the optimizer, and what the others wait for in the pipeline."""
_COMPUTED = PARTS[:2]
_HIDDEN = ("weights",)
"""What tp gathers once more in backward, while a product runs."""
_DAY, _HOUR = 86_400, 3600


@dataclass(frozen=True)
class StepTime:
    """The time of a training step, and where it goes.

    Attributes
    ----------
    parts : dict of str to float
        Seconds of the slowest pipeline rank, by `PARTS`.
    tokens, flops : float
        Of a step, without what is recomputed.
    cluster : Cluster
        On which.
    label : str
        How far it is to be trusted.
    """

    parts: dict[str, float]
    tokens: int
    flops: float
    cluster: Cluster
    label: str

    @property
    def seconds(self) -> float:
        """Of a step."""
        return sum(self.parts.values())

    @property
    def flops_per_second(self) -> float:
        """Of one GPU, without what is recomputed."""
        return self.flops / self.seconds / self.cluster.gpus

    @property
    def mfu(self) -> float:
        """Model FLOPs utilization: the share of the peak; recomputation does not count."""
        return self.flops_per_second / self.cluster.machine.peak

    @property
    def tokens_per_second(self) -> float:
        """Of one GPU."""
        return self.tokens / self.seconds / self.cluster.gpus

    def days(self, tokens: float) -> float:
        """Return how long a training of so many tokens takes."""
        return tokens / self.tokens * self.seconds / _DAY

    def gpu_hours(self, tokens: float) -> float:
        """Return the same in hours of a GPU."""
        return self.days(tokens) * _DAY / _HOUR * self.cluster.gpus

    def dollars(self, tokens: float) -> float:
        """Return what that costs.

        Raises
        ------
        ValueError
            When the cluster has no price.
        """
        if not self.cluster.price:
            raise ValueError("the cluster has no price; give Cluster(…, price=) dollars an hour")
        return self.gpu_hours(tokens) * self.cluster.price

    def __repr__(self) -> str:
        shares = [f"{part} {took / self.seconds:.0%}" for part, took in self.parts.items() if took]
        return (
            f"{self.seconds:.2f} s a step, {self.flops_per_second / 1e12:.0f} TFLOP/s, MFU "
            f"{self.mfu:.0%} ({self.label}): {listed(shares)}"
        )


def step(
    model: Model, layout: ParallelLayout, cluster: Cluster, training: Training | None = None
) -> StepTime:
    """Return the time of a training step, of a model rather than of a run.

    - Products take their FLOPs over peak × efficiency, the one number fitted for a machine; where
      attention is fused, scores of words that a token does not see are skipped.
    - What lies between them reads and writes what it keeps, at `HBM_REACHED` of the bandwidth.
    - Collectives of tp, cp and ep are waited for, but for what is gathered while a product runs;
      those of dp only beyond the last microbatch's backward and the first one's forward, with
      ``overlap``.
    - The bubble: p - 1 microbatches over v. Zero-bubble plans: what their simulation has.

    The slowest pipeline rank counts. See `Machine.error` for how far off it is.

    Parameters
    ----------
    model, layout, training
        As for `memory`.
    cluster : Cluster
        Of as many GPUs as the layout has ranks.

    Raises
    ------
    ValueError
        When the layout is not one of this cluster, or does not divide the model or batch.

    Examples
    --------
    >>> from mpviz import cost, presets
    >>> run = presets.LLAMA3_405B["8k"]
    >>> step(run.model, run.layout, cost.Cluster(16384), cost.Training(
    ...     sequence_parallel=True, zero=1, overlap=True)).label
    'estimated ± 10 %'
    """
    training = training or Training()
    check_split(model, layout, training)
    ours, theirs = (layout.nodes, layout.gpus_per_node), (cluster.nodes, cluster.gpus_per_node)
    if ours != theirs:
        raise ValueError(
            f"the layout is of {ours[0]:,} nodes of {ours[1]}, the cluster has {theirs[0]:,} of "
            f"{theirs[1]}; cluster.layout(tp=…) makes one that fits"
        )
    split, held = Split.of(model, layout, training), held_by_ranks(model, layout.pp, training)
    parts = times(model, split, training, held, cluster.machine)
    slowest = int(np.argmax(sum(parts.values()) + np.zeros(layout.pp)))
    seconds = {
        part: float(np.broadcast_to(took, layout.pp)[slowest]) for part, took in parts.items()
    }
    batch = training.batch or model.batch
    counted = Training(batch=batch)
    return StepTime(
        seconds,
        batch * model.sequence,
        flops(model, counted),
        cluster,
        cluster.machine.label,
    )


def times(
    model: Model, split: Split, training: Training, held: LayersHeld, machine: Machine
) -> dict[str, Number]:
    """Return the seconds of a pipeline rank's step by `PARTS`, each number maybe an array."""
    many = split.microbatches
    products, between = _computing(model, split, training, held, machine)
    parts: dict[str, Number] = {"products": many * products, "memory": many * between}
    waited = _waited(model, split, training, held, machine)
    gradients = waited.pop("dp")
    parts.update(waited)
    one = (sum(parts.values())) / many  # a microbatch
    if training.overlap:
        gradients = np.maximum(0, gradients - one)
    parts["dp"] = gradients
    parts["optimizer"] = _optimizer(model, split, training, held, machine)
    parts["bubble"] = _bubble(split, training) * one
    return {part: parts[part] for part in PARTS}


def _computing(
    model: Model, split: Split, training: Training, held: LayersHeld, machine: Machine
) -> tuple[Number, Number]:
    """Return the seconds of a microbatch: of products, and of what lies between them."""
    tokens = model.sequence * split.microbatch / split.cp
    whole_again = split.recompute == RECOMPUTE.index("full")
    scores_again = split.recompute > 0
    nothing = replace(split, recompute=0)
    counted, moved = 0.0, 0.0
    for count, experts in ((held.dense, False), (held.experts, True)):
        matrices, scores = layer_flops(model, experts=experts)
        seen = 0.5 if training.fused else 1.0
        work = (3 + whole_again) * matrices + (3 + scores_again) * seen * scores
        counted = counted + count * work / split.tp
        kept = layer_activations(model, nothing, training, experts=experts)
        inside = kept.pop("scores") if not training.fused else kept.pop("scores") * 0
        moved = moved + count * (
            (_FORWARD + _BACKWARD + whole_again * _FORWARD) * sum(kept.values())
            + (_FORWARD + _BACKWARD + scores_again * _FORWARD) * inside
        )
    logits = model.vocabulary / split.tp * held.last
    counted = counted + 3 * 2 * model.hidden * logits
    moved = moved + (_FORWARD + _BACKWARD) * (training.each.weights + 4) * logits
    products = tokens * counted / (machine.peak * machine.efficiency)
    return products, tokens * moved / (machine.bandwidth * HBM_REACHED)


_FORWARD, _BACKWARD = 2, 3
"""How often what a layer keeps is moved: written and read, and in backward read again, while its
gradient is written and read."""


def _waited(
    model: Model, split: Split, training: Training, held: LayersHeld, machine: Machine
) -> dict[str, Number]:
    """Return the seconds of each kind of group in a step, nothing of dp hidden."""
    waited: dict[str, Number] = dict.fromkeys(("tp", "cp", "ep", "pp", "dp"), 0.0)
    sent = 2 * split.chunks * (split.pp > 1)
    for part in collectives(model, split, training, held, sent):
        if part.kind == "tp" and part.what in _HIDDEN:
            continue
        took = part.count * seconds_on(machine, part, split.nodes[part.kind])
        kind = part.kind if part.kind in waited else "dp"
        waited[kind] = waited[kind] + took
    return waited


def _optimizer(
    model: Model, split: Split, training: Training, held: LayersHeld, machine: Machine
) -> Number:
    """Return the seconds of the update: it reads and writes all state, and reads gradients."""
    dense, experts = rank_parameters(model, split, held)
    cut = training.zero > 0
    mine = dense / split.share + experts / split.edp if cut else dense + experts
    each = training.each
    moved = 2 * each.optimizer + each.gradients + each.weights
    return moved * mine / (machine.bandwidth * HBM_REACHED)


def _bubble(split: Split, training: Training) -> Number:
    """Return for how many microbatches a rank waits in all."""
    if training.schedule == "zb-v":
        return 0 * split.pp
    if training.schedule == "zb-h1":
        return (split.pp - 1) / 3  # F + B - W of equal parts
    return (split.pp - 1) / split.chunks
