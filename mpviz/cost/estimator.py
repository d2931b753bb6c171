"""Megatron's own estimator of memory, as it is: to be held beside `memory`, not believed.

What it leaves out: activations are not divided by cp; the optimizer is sharded over dp alone, where
Megatron shards it over dp × cp; neither top-k nor latent attention counts in activations; layers
are dealt in fractions; position embeddings and biases are missing; without sequence parallelism
and selective recomputation, no scores. Source: Megatron-LM (d98e8a6)
``megatron/training/theoretical_memory_usage.py``.
"""

from ..layout import ParallelLayout
from .architecture import Model
from .options import Split, Training


def estimated(model: Model, layout: ParallelLayout, training: Training) -> dict[str, int]:
    """Return the bytes of the fullest rank: of weights and optimizer, and of activations."""
    dense, experts = _parameters(model, layout)
    state = dense * _each(training, layout.dp) + experts * _each(training, layout.edp)
    return {
        "weights and optimizer": round(state),
        "activations": round(_activations(model, layout, training)),
    }


def _each(training: Training, copies: int) -> float:
    return 6 + 12 / copies if training.zero else 18


def _parameters(model: Model, layout: ParallelLayout) -> tuple[float, float]:
    """Return the parameters of the first stage: without experts, and of them."""
    words, mlp = model.vocabulary * model.hidden, (model.inner + 1) * model.hidden
    layers = model.layers / layout.pp
    attention = model.hidden * (model.queries + model.kv_width + model.found)
    inner = model.shared_experts * model.expert_ffn if model.experts else model.ffn
    ends = words * (2 if layout.pp == 1 and not model.tied else 1)
    dense = (layers * (attention + mlp * inner) + ends) / layout.tp
    dense += layers * (2 * model.norm_size + model.router) + model.norm_size / layout.pp
    experts = layers * model.experts * mlp * model.expert_ffn
    return dense, experts / (layout.ep * layout.etp)


def _activations(model: Model, layout: ParallelLayout, training: Training) -> float:
    """Return what the first stage holds of as many microbatches as there are pipeline ranks."""
    pp, h = layout.pp, model.hidden
    tokens = model.sequence * training.microbatch
    layers = tokens * h * (18 + 4 * model.ffn / h) * model.layers
    total = layers + tokens * pp * (8 + h)  # words, and a mask behind the embedding
    if training.chunks > 1:
        total *= 1 + (pp - 1) / (pp * training.chunks)
    elif pp > 1:
        total *= min(1, Split.of(model, layout, training).microbatches / pp)
    else:
        total += tokens * h * 4 * (1 + model.vocabulary / h)
    return total / layout.tp
