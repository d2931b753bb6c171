"""What each kind of group carries in one training step, and how long that takes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ..layout import ParallelLayout
from ..presets import Model
from .alpha_beta import all_gather_seconds, all_reduce_seconds, all_to_all_seconds, message_seconds
from .links import Link, Machine, machine_for

_ACTIVATION, _GRADIENT = 2, 4
"""Bytes of a number: bf16, and fp32, in which Megatron sums gradients."""


@dataclass(frozen=True)
class Traffic:
    """What one rank takes part in along one kind of group, in one step.

    Attributes
    ----------
    kind : str
        Of the groups, as in `ParallelLayout.groups`.
    count : float
        Collectives, or messages sent, in a step; an average where layers or sequences do not
        divide evenly.
    size : float
        Bytes of each.
    seconds : float
        For all, one after the other, in the group that is spread over most nodes.
    """

    kind: str
    count: float
    size: float
    seconds: float

    @property
    def bytes(self) -> float:
        """Bytes of all."""
        return self.count * self.size


def traffic(
    layout: ParallelLayout, model: Model, machine: Machine | None = None
) -> dict[str, Traffic]:
    """Return what a rank of a middle stage communicates in one step, by kind of group.

    Microbatches of one sequence; activations in bf16, gradients summed in fp32. Without sequence
    parallelism and distributed optimizer, which send the same in other collectives, and without
    Megatron's scatter/gather, which divides messages of pp by tp.

    - tp: 4 all-reduces a layer and microbatch, of sequence × hidden size numbers (Shoeybi et al.
      2019, arXiv 1909.08053, section 3);
    - cp: an all-gather of keys and values, and a reduce-scatter of their gradients, as in
      Llama 3 (arXiv 2407.21783, section 3.3.2);
    - dp, or dp-cp: one all-reduce of the gradients, and edp: one of the experts';
    - pp: a message forward and one backward for each microbatch;
    - ep: 4 all-to-alls a layer and microbatch: tokens to their experts and back, and again in
      backward.

    Parameters
    ----------
    layout : ParallelLayout
        Who is who.
    model : Model
        What is trained. A model without experts sends nothing along ep and edp.
    machine : Machine, optional
        What connects the GPUs; that of ``model.gpu`` if not given (see `machine_for`).

    Examples
    --------
    A middle rank of Megatron's 145.6 billion parameters:

    >>> from mpviz import presets
    >>> run = presets.MEGATRON_TABLE_1["145.6B"]
    >>> for kind, part in traffic(run.layout, run.model).items():
    ...     print(f"{kind}: {part.count:,.0f} × {part.size / 1e6:,.0f} MB")
    tp: 3,840 × 50 MB
    dp: 1 × 9,060 MB
    pp: 192 × 50 MB
    """
    machine = machine or machine_for(model.gpu, layout.gpus_per_node)
    return {
        kind: _timed(layout, machine, kind, count, size, seconds)
        for kind, count, size, seconds in _parts(layout, model)
    }


Seconds = Callable[..., float]


def _parts(layout: ParallelLayout, model: Model) -> Iterator[tuple[str, float, float, Seconds]]:
    """Yield each kind of group with how many collectives, of how many bytes, and their time."""
    tp, cp, pp = layout.tp, layout.cp, layout.pp
    layers, sequences = model.layers / pp, max(1, model.batch / layout.dp)
    tokens = model.sequence / cp
    activations = _ACTIVATION * tokens * model.hidden
    yield "tp", 4 * layers * sequences, activations, all_reduce_seconds
    if cp > 1:
        # Of the whole sequence; a head of keys and values is never cut.
        gathered = _ACTIVATION * model.sequence * model.kv_width / min(tp, model.kv_heads)
        yield "cp", 2 * layers * sequences, gathered, all_gather_seconds
    dense, experts = _gradients(layout, model)
    yield "dp-cp" if cp > 1 else "dp", 1, dense, all_reduce_seconds
    yield "pp", (2 if pp > 2 else 1) * sequences, activations, _message
    if layout.has_experts:
        routed = 4 * model.expert_layers / pp * sequences
        yield (
            "ep",
            routed,
            _ACTIVATION * tokens / tp * model.top_k * model.hidden,
            all_to_all_seconds,
        )
        yield "edp", min(1, model.expert_layers), experts, all_reduce_seconds


def _gradients(layout: ParallelLayout, model: Model) -> tuple[float, float]:
    """Return the bytes of a rank's gradients: of all that dp sums, and of what edp sums."""
    dense = model.layers * model.layer_parameters / (layout.tp * layout.pp)
    experts = model.expert_layers * model.expert_parameters / layout.pp
    if not layout.has_experts:
        return _GRADIENT * (dense + experts / layout.tp), 0
    return _GRADIENT * dense, _GRADIENT * experts / (layout.etp * layout.ep)


def _timed(
    layout: ParallelLayout, machine: Machine, kind: str, count: float, size: float, seconds: Seconds
) -> Traffic:
    groups = layout.groups(kind)
    if groups.size == 1 or not count:
        return Traffic(kind, 0, 0, 0)
    nodes = np.sort(layout.node(groups.ranks), axis=1)
    most = 1 + int((np.diff(nodes, axis=1) > 0).sum(axis=1).max(initial=0))
    links = {"inside": machine.inside, "between": machine.between}
    return Traffic(kind, count, size, count * seconds(size, groups.size, most, **links))


def _message(size: float, ranks: int, nodes: int, *, inside: Link, between: Link) -> float:
    """Return the time of a message to the next stage: over the network, if any pair needs it."""
    return message_seconds(size, between if nodes > 1 else inside)
