"""Layouts that were really run, with the model each was run for."""

from dataclasses import dataclass, replace

from . import cost
from .cost import Model
from .layout import ParallelLayout


@dataclass(frozen=True)
class Preset:
    """One published training run: the cluster, the cut, and the model.

    Attributes
    ----------
    name : str
        What a menu shows.
    layout : ParallelLayout
        The cluster and the cut.
    model : Model or None
        None where the source names no model.
    source : str
        Where the layout is printed.
    """

    name: str
    layout: ParallelLayout
    model: Model | None
    source: str


EXAMPLE = cost.MODELS["Llama 3 8B"]
"""The model of a layout that names none; 512 sequences, 4 million tokens, are our choice."""

SLIDE = Preset(
    "The slide: 16 GPUs",
    ParallelLayout(nodes=2, gpus_per_node=8, tp=2, pp=4),
    model=None,
    source="the docstring of Megatron-LM's initialize_model_parallel",
)
"""Two nodes of eight, tp=2, pp=4: the case of lessons 01 and 02."""

# Billions of parameters, t, p, GPUs.
_TABLE_1_ROWS = (
    ("1.7B", 1, 1, 32),
    ("3.6B", 2, 1, 64),
    ("7.5B", 4, 1, 128),
    ("18.4B", 8, 1, 256),
    ("39.1B", 8, 2, 512),
    ("76.1B", 8, 4, 1024),
    ("145.6B", 8, 8, 1536),
    ("310.1B", 8, 16, 1920),
    ("529.6B", 8, 35, 2520),
    ("1008.0B", 8, 64, 3072),
)

MEGATRON_TABLE_1: dict[str, Preset] = {
    size: Preset(
        f"Megatron {size}: {gpus:,} GPUs",
        ParallelLayout(nodes=gpus // 8, gpus_per_node=8, tp=t, pp=p),
        cost.MODELS[f"Megatron {size}"],
        source="Narayanan et al. 2021 (arXiv 2104.04473), Table 1",
    )
    for size, t, p, gpus in _TABLE_1_ROWS
}
"""The weak-scaling runs of the Megatron paper, by model size: ``"1.7B"`` … ``"1008.0B"``."""


def _llama3_405b(name: str, nodes: int, cp: int, sequence: int = 8192) -> Preset:
    # The paper's order, inner to outer, is TP, CP, PP, DP: not Megatron's.
    layout = ParallelLayout(nodes=nodes, tp=8, cp=cp, pp=16, order="tp-cp-ep-pp-dp")
    source = "Llama team 2024 (arXiv 2407.21783), Table 4 and section 3.3.2"
    model = replace(
        cost.MODELS["Llama 3 405B"],
        name=f"Llama 3 405B at {sequence // 1024}k tokens",
        sequence=sequence,
        batch=2**24 // sequence,  # 16 million tokens
        source=source,
    )
    return Preset(f"Llama 3 405B: {name}", layout, model, source)


LLAMA3_405B: dict[str, Preset] = {
    "8k, 8192 GPUs": _llama3_405b("8k tokens, 8,192 GPUs", nodes=1024, cp=1),
    "8k": _llama3_405b("8k tokens, 16,384 GPUs", nodes=2048, cp=1),
    "128k": _llama3_405b("128k tokens, 16,384 GPUs", nodes=2048, cp=16, sequence=131_072),
}
"""Llama 3 405B. For 128k tokens some published tables print dp=4; the product needs 8."""

DEEPSEEK_V3 = Preset(
    "DeepSeek-V3: experts on 2,048 GPUs",
    ParallelLayout(nodes=256, gpus_per_node=8, pp=16, ep=64),
    cost.MODELS["DeepSeek-V3"],
    source="DeepSeek-AI 2024 (arXiv 2412.19437), sections 3.2 and 4.2",
)
"""A mixture of experts: no tensor parallelism, each layer's experts spread over 64 GPUs."""

ALL: tuple[Preset, ...] = (
    SLIDE,
    *MEGATRON_TABLE_1.values(),
    *LLAMA3_405B.values(),
    DEEPSEEK_V3,
)
"""Every preset, in the order of a menu."""

MODELS: dict[str, Model] = {
    model.name: model
    for model in (EXAMPLE, *(preset.model for preset in ALL if preset.model is not None))
}
"""Every model by its name: the example, then those of the presets."""
