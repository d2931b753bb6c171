"""What a layer keeps for backward, and what it computes: by part, for each token."""

import numpy as np

from .architecture import Model
from .options import RECOMPUTE, Number, Split, Training

_SELECTIVE, _FULL = RECOMPUTE.index("selective"), RECOMPUTE.index("full")
STATISTIC = 4
"""Bytes of a mean or a deviation that a norm keeps: fp32 on a GPU."""


def layer_activations(
    model: Model, split: Split, training: Training, *, experts: bool, statistic: int = STATISTIC
) -> dict[str, Number]:
    """Return the bytes that a layer keeps of each token of a microbatch, by part, on each rank.

    With h, heads a, tokens s and tensor-parallel size t, of a GPT with dropout in bf16, a layer
    keeps 10 h of what tp leaves whole, 24 h / t, and 5 a s / t of scores: Korthikanti et al. 2022
    (arXiv 2205.05198), section 4. To these the statistics of the norms are added.

    Parameters
    ----------
    model, split, training
        What is trained, and how.
    experts : bool
        Whether the layer has experts; tokens are taken to be dealt evenly to them.
    statistic : int
        Bytes of a number that a norm keeps.

    Returns
    -------
    dict
        Of ``"norms"``, ``"attention"``, ``"scores"`` and ``"mlp"`` or ``"experts"``.
    """
    e, t, whole = training.each.weights, split.tp, split.whole(training)
    mask = 1 if model.dropout else 0
    counted = 2 if model.norm == "layer" else 1  # mean and deviation
    kept = {"norms": (2 * e * model.hidden + 2 * counted * statistic) / whole}
    # The input of the first matrix, and a mask behind the last, are whole.
    around = (e + mask) * model.hidden / whole
    kept["attention"] = around + e * _heads(model) / t + _latent(model, e) / whole
    kept["scores"] = np.where(split.recompute == 0, _scores(model, training) / t, 0)
    if not experts:
        kept["mlp"] = around + _mlp(model, training, model.ffn) / t
        return kept
    shared = model.shared_experts * _mlp(model, training, model.expert_ffn) / t
    # Each visit keeps the token as it arrives and as it leaves: of the tokens of this rank as
    # many as of any other. With etp a rank has the tokens of etp ranks, and a part of each.
    routed = model.top_k * (2 * e * model.hidden * split.etp
                            + _mlp(model, training, model.expert_ffn)) / t  # fmt: skip
    kept["experts"] = around + 8 * model.experts / whole + shared + routed
    return kept


def kept_of_layers(
    model: Model, split: Split, training: Training, *, experts: bool
) -> dict[str, Number]:
    """Return the bytes of a token that a layer keeps from forward to backward, by part.

    With full recomputation it is the layer's input alone.
    """
    kept = layer_activations(model, split, training, experts=experts)
    full = split.recompute == _FULL
    once = training.each.weights * model.hidden / split.whole(training)
    return {
        **{part: np.where(full, 0, size) for part, size in kept.items()},
        "inputs": np.where(full, once, 0),
    }


def _heads(model: Model) -> int:
    """Return the numbers of queries, keys and values, and of what the heads find."""
    return model.queries + model.kv_width + model.found


def _latent(model: Model, e: int) -> int:
    """Return the bytes of a token's latents, before and behind their norms."""
    if not model.latent:
        return 0
    return e * (2 * model.latent.queries + 2 * model.latent.keys + model.latent.rotary)


def _scores(model: Model, training: Training) -> int:
    """Return the bytes inside of attention: a number a head where it is fused, else each score.

    Softmax, and with dropout a mask of a byte and what is left.
    """
    if training.fused:
        return 4 * model.heads
    e = training.each.weights
    return (e + (1 + e if model.dropout else 0)) * model.heads * model.sequence


def _mlp(model: Model, training: Training, ffn: int) -> int:
    """Return the bytes between the two matrices of an MLP, for a token."""
    kept = model.inner + 1
    if model.inner == 2 and not training.fused:
        kept += 1  # the activation of one half, before it is multiplied by the other
    return training.each.weights * kept * ffn


# ---- FLOPs


def layer_flops(model: Model, *, experts: bool) -> tuple[int, int]:
    """Return what forward computes of a token in a layer: in matrices, and in scores.

    Two FLOPs for each weight that a token meets, and for each score and each number found by it.
    Scores of words that a token does not see are counted too, as papers do.
    """
    mlp = model.inner + 1
    matrices = _attention_weights(model)
    if experts:
        matrices += model.router
        visited = model.top_k + model.shared_experts
        matrices += visited * mlp * model.hidden * model.expert_ffn
    else:
        matrices += mlp * model.hidden * model.ffn
    return 2 * matrices, 2 * model.sequence * (model.queries + model.found)


def _attention_weights(model: Model) -> int:
    h, latent = model.hidden, model.latent
    if not latent:
        return h * (model.queries + model.kv_width + model.found)
    down = h * (latent.queries + latent.keys + latent.rotary)
    up = latent.queries * model.queries + latent.keys * model.heads * (latent.head + latent.value)
    return down + up + model.found * h


def flops(model: Model, training: Training | None = None, *, causal: bool = False) -> int:
    """Return the FLOPs of a step on all GPUs.

    A backward computes twice what its forward does, and once more what is recomputed. For a GPT
    of B sequences that is 72 B L s h² (1 + s/6h + V/12Lh), and with full recomputation 96 B L s
    h² (1 + s/6h + V/16Lh): Narayanan et al. 2021 (arXiv 2104.04473), equation 3.

    Parameters
    ----------
    model : Model
        What is trained.
    training : Training, optional
        How; by default nothing is recomputed, which is what MFU counts.
    causal : bool
        Whether to count half of the scores: a token sees only those before it. Most papers count
        all; for sequences of 131,072 tokens that is 1.4 times as much.

    Examples
    --------
    >>> from mpviz.cost import MODELS
    >>> f"{flops(MODELS['GPT-3 175B']) / 1536:.3g} FLOPs for a sequence"
    '2.2e+15 FLOPs for a sequence'
    """
    training = training or Training()
    level = RECOMPUTE.index(training.recompute)
    batch = training.batch or model.batch
    total = 3 * 2 * model.vocabulary * model.hidden
    for count, experts in (
        (model.layers - model.expert_layers, False),
        (model.expert_layers, True),
    ):
        matrices, scores = layer_flops(model, experts=experts)
        total += count * (3 + (level == _FULL)) * matrices
        total += count * (3 + (level >= _SELECTIVE)) * (scores // 2 if causal else scores)
    return batch * model.sequence * total
