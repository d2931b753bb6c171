"""What each kind of group carries in one training step, and how long that takes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from ..layout import ParallelLayout
from .alpha_beta import seconds_of
from .architecture import Model
from .cluster import Machine, machine_for
from .memory import rank_parameters
from .options import RECOMPUTE, LayersHeld, Number, Split, Training, held_by_ranks, spread


class Exchange(NamedTuple):
    """Collectives of one size, or messages, that a rank takes part in, in one step.

    Attributes
    ----------
    kind : str
        Of the groups, as in `ParallelLayout.groups`.
    what : str
        What for: ``"layers"``, ``"embedding"``, ``"loss"``, ``"gradients"`` …
    operation : str
        ``"all_reduce"``, ``"all_gather"``, ``"reduce_scatter"``, ``"all_to_all"``, ``"message"``.
    count : float
        How many; an average where layers or sequences do not divide evenly.
    size : float
        Bytes of the whole tensor: what each rank holds before it is scattered, or once gathered.
    ranks : int
        Of the group.
    """

    kind: str
    what: str
    operation: str
    count: Number
    size: Number
    ranks: Number

    @property
    def put(self) -> Number:
        """Bytes that a rank hands to all of them: to an all-gather its part."""
        return self.count * self.size / (self.ranks if self.operation == "all_gather" else 1)


@dataclass(frozen=True)
class Traffic:
    """What one rank takes part in along one kind of group, in one step.

    Attributes
    ----------
    kind : str
        Of the groups, as in `ParallelLayout.groups`.
    parts : tuple of Exchange
        In which collectives.
    seconds : float
        For all, one after the other, in the group that is spread over most nodes.
    crosses : bool
        Whether any such group leaves its node.
    """

    kind: str
    parts: tuple[Exchange, ...]
    seconds: float
    crosses: bool

    @property
    def count(self) -> float:
        """Collectives, or messages sent, in a step."""
        return float(sum(part.count for part in self.parts))

    @property
    def size(self) -> float:
        """Bytes of each; the mean, where they differ."""
        return self.bytes / self.count if self.count else 0.0

    @property
    def bytes(self) -> float:
        """Bytes of all their tensors."""
        return float(sum(part.count * part.size for part in self.parts))

    @property
    def put(self) -> float:
        """Bytes that a rank hands to them; less than `bytes` where it has a part of a tensor."""
        return float(sum(part.put for part in self.parts))


def traffic(
    model: Model,
    layout: ParallelLayout,
    training: Training | None = None,
    *,
    machine: Machine | None = None,
    stage: int | None = None,
) -> dict[str, Traffic]:
    """Return what a rank communicates in one step, by kind of group.

    - tp: 4 all-reduces a layer and microbatch, of sequence × hidden size numbers (Shoeybi et al.
      2019, arXiv 1909.08053, section 3); with sequence parallelism 6 all-gathers and 4
      reduce-scatters, since what was gathered in forward is gathered once more in backward. At
      the ends the words, and the loss: three numbers a token;
    - cp: an all-gather of keys and values, and a reduce-scatter of their gradients, as in
      Llama 3 (arXiv 2407.21783, section 3.3.2);
    - dp, or dp-cp: one all-reduce of the gradients, and edp: one of the experts'; with ZeRO a
      reduce-scatter of gradients and an all-gather of weights, with stage 3 two;
    - pp: a message forward and one backward for each microbatch and stage;
    - embedding: the gradients of tied words, once;
    - ep: 4 all-to-alls a layer and microbatch: tokens to their experts and back, and again in
      backward.

    The norm of the gradient, a number, is not counted, nor what a message says of its shape, nor
    the all-gather within the node that follows a message that was scattered.

    Parameters
    ----------
    model : Model
        What is trained. A model without experts sends nothing along ep and edp.
    layout : ParallelLayout
        Who is who.
    training : Training, optional
        How; by default microbatches of one sequence, without sequence parallelism and ZeRO.
    machine : Machine, optional
        What connects the GPUs; that of ``model.gpu`` if not given (see `machine_for`).
    stage : int, optional
        Of which pipeline rank; if not given, of one in the middle, with an average of layers.

    Examples
    --------
    A middle rank of Megatron's 145.6 billion parameters:

    >>> from mpviz import presets
    >>> run = presets.MEGATRON_TABLE_1["145.6B"]
    >>> for kind, part in traffic(run.model, run.layout).items():
    ...     print(f"{kind}: {part.count:,.0f} × {part.size / 1e6:,.0f} MB")
    tp: 3,840 × 50 MB
    dp: 1 × 9,063 MB
    pp: 192 × 50 MB
    """
    training = training or Training()
    machine = machine or machine_for(model.gpu, layout.gpus_per_node)
    split = Split.of(model, layout, training)
    parts: dict[str, list[Exchange]] = {}
    for part in collectives(model, split, training, *_rank(model, layout, training, stage)):
        if part.count and part.ranks > 1:
            parts.setdefault(part.kind, []).append(part)
    shown = {kind: kind for kind in _kinds(layout) if kind in parts or kind in _ALWAYS}
    shown = {"dp" if kind == "dp-cp" and layout.cp == 1 else kind: kind for kind in shown}
    return {
        name: _timed(layout, machine, name, tuple(parts.get(kind, ())))
        for name, kind in shown.items()
    }


_ALWAYS = ("tp", "dp-cp", "pp", "ep", "edp")


def _kinds(layout: ParallelLayout) -> list[str]:
    kinds = ["tp", "cp", "dp-cp", "pp", "embedding"]
    return [*kinds, "ep", "edp"] if layout.has_experts else kinds


def _timed(
    layout: ParallelLayout, machine: Machine, kind: str, parts: tuple[Exchange, ...]
) -> Traffic:
    if not parts:
        return Traffic(kind, (), 0.0, False)
    nodes = spread(layout, kind)
    seconds = sum(part.count * seconds_on(machine, part, nodes) for part in parts)
    named = tuple(part._replace(kind=kind) for part in parts)
    return Traffic(kind, named, float(seconds), nodes > 1)


def seconds_on(machine: Machine, part: Exchange, nodes: Number) -> Number:
    """Return the time of one of the collectives."""
    links = machine.inside, machine.between
    return seconds_of(part.operation, part.size, part.ranks, nodes, *links)


def _rank(
    model: Model, layout: ParallelLayout, training: Training, stage: int | None
) -> tuple[LayersHeld, Number]:
    """Return what a pipeline rank holds, and how many messages it sends for a microbatch."""
    pp, v = layout.pp, training.chunks
    if stage is None:
        dense = (model.layers - model.expert_layers) / pp
        sent = 2 if pp > 2 or v > 1 else 1
        return LayersHeld(dense, model.expert_layers / pp, 0, 0), sent * v * (pp > 1)
    every = held_by_ranks(model, pp, training)
    if not 0 <= stage < pp:
        raise ValueError(f"stage must be a pipeline rank 0 … {pp - 1}, got {stage}")
    columns = (every.dense, every.experts, every.first, every.last)
    held = LayersHeld(*(int(column[stage]) for column in columns))
    if training.schedule == "zb-v":
        return held, (2 * v - 2 * (stage == 0) - (stage == pp - 1) * 2) * (pp > 1)
    return held, (2 * v - held.first - held.last) * (pp > 1)


def collectives(
    model: Model, split: Split, training: Training, held: LayersHeld, sent: Number
) -> Iterator[Exchange]:
    """Yield all that a rank takes part in, where each number may be an array.

    Parameters
    ----------
    model, split, training
        What is trained, and how.
    held : LayersHeld
        What the rank holds.
    sent : int
        Messages for a microbatch.
    """
    e, many = training.each.weights, split.microbatches
    tokens = split.microbatch * model.sequence / split.cp
    whole = e * tokens * model.hidden
    yield from _of_tp(model, split, training, held)
    # Of the whole sequence; a head of keys and values is never cut.
    heads = model.kv_width / (split.tp if model.latent else _least(split.tp, model.kv_heads))
    gathered = e * tokens * split.cp * heads
    times = held.layers * many
    yield Exchange("cp", "layers", "all_gather", times, gathered, split.cp)
    yield Exchange("cp", "layers", "reduce_scatter", times, gathered, split.cp)
    dense, experts = rank_parameters(model, split, held)
    one_grid = 1 * ((split.ep == 1) & (split.etp == split.tp))  # experts' copies are those of dp
    dense, experts = dense + one_grid * experts, (1 - one_grid) * experts
    yield from _of_gradients("dp-cp", dense, split.share, training, many)
    cut = training.sequence_parallel or training.scatter_gather
    boundary = whole / (split.tp if cut else 1)
    yield Exchange("pp", "stages", "message", sent * many, boundary, split.pp)
    if model.tied and training.schedule != "zb-v":
        words = training.each.gradients * model.vocabulary * model.hidden / split.tp
        at = (held.first | held.last) * (split.pp > 1)
        yield Exchange("embedding", "words", "all_reduce", at, words, _least(split.pp, 2))
    routed = 4 * held.experts * many
    visits = model.top_k * whole / split.tp
    yield Exchange("ep", "tokens", "all_to_all", routed, visits, split.ep)
    yield from _of_gradients("edp", experts, split.edp, training, many)


def _of_tp(model: Model, split: Split, training: Training, held: LayersHeld) -> Iterator[Exchange]:
    """Yield what tensor parallelism sends for activations, and once for gradients."""
    e, t, many = training.each.weights, split.tp, split.microbatches
    tokens = split.microbatch * model.sequence / split.cp
    whole = e * tokens * model.hidden
    again = 1 + (split.recompute == RECOMPUTE.index("full"))  # forwards
    layers, ends = held.layers * many, (held.first + held.last) * many
    if training.sequence_parallel:
        yield Exchange("tp", "layers", "all_gather", layers * 2 * again, whole, t)
        yield Exchange("tp", "layers", "all_gather", layers * 2, whole, t)
        yield Exchange("tp", "weights", "all_gather", layers * 2, whole, t)
        yield Exchange("tp", "layers", "reduce_scatter", layers * 2 * again, whole, t)
        yield Exchange("tp", "layers", "reduce_scatter", layers * 2, whole, t)
        yield Exchange("tp", "ends", "all_gather", ends + held.last * many, whole, t)
        yield Exchange("tp", "ends", "reduce_scatter", ends, whole, t)
        once = training.each.gradients * _seen_in_part(model, held)
        yield Exchange("tp", "norms", "all_reduce", 1, once, t)
    else:
        yield Exchange("tp", "layers", "all_reduce", layers * 2 * (1 + again), whole, t)
        yield Exchange("tp", "ends", "all_reduce", ends, whole, t)
    numbers = max(4, e) * tokens
    yield Exchange("tp", "loss", "all_reduce", held.last * many, numbers, t)
    yield Exchange("tp", "loss", "all_reduce", held.last * many, 2 * numbers, t)


def _seen_in_part(model: Model, held: LayersHeld) -> Number:
    """Return the parameters that are whole on each rank of tp, but see its tokens alone."""
    places = model.ends[0] - model.vocabulary * model.hidden
    routers = held.experts * model.router
    return (
        held.layers * model.layer_whole
        + routers
        + held.first * places
        + (held.last * model.norm_size)
    )


def _of_gradients(
    kind: str, parameters: Number, ranks: Number, training: Training, many: Number
) -> Iterator[Exchange]:
    """Yield how gradients are summed, and weights gathered: once a step; see `zero`."""
    each = training.each
    some = 1 * (parameters > 0)
    if not training.zero:
        size = each.gradients * parameters
        yield Exchange(kind, "gradients", "all_reduce", some, size, ranks)
        return
    scattered = many if training.zero == 3 else 1
    gathered = 2 * many if training.zero == 3 else 1
    size = each.gradients * parameters
    yield Exchange(kind, "gradients", "reduce_scatter", some * scattered, size, ranks)
    size = each.weights * parameters
    yield Exchange(kind, "weights", "all_gather", some * gathered, size, ranks)


def _least(one: Number, other: Number) -> Number:
    return one * (one < other) + other * (one >= other)
