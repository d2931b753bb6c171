"""Layouts that were really run, with the model each was run for."""

from dataclasses import dataclass

from .layout import ParallelLayout


@dataclass(frozen=True)
class Preset:
    """One published training run: the cluster, the cut, and the size of the model.

    Attributes
    ----------
    name : str
        What a menu shows.
    layout : ParallelLayout
        The cluster and the cut.
    layers, hidden, heads : int
        Transformer layers, hidden size, attention heads. 0 where the source names no model.
    source : str
        Where the numbers are printed.
    """

    name: str
    layout: ParallelLayout
    layers: int
    hidden: int
    heads: int
    source: str


SLIDE = Preset(
    "The slide: 16 GPUs",
    ParallelLayout(nodes=2, gpus_per_node=8, tp=2, pp=4),
    layers=0,
    hidden=0,
    heads=0,
    source="the docstring of Megatron-LM's initialize_model_parallel",
)
"""Two nodes of eight, tp=2, pp=4: the case of lessons 01 and 02."""

# Billions of parameters, heads, hidden size, layers, t, p, GPUs.
_TABLE_1_ROWS = (
    ("1.7B", 24, 2304, 24, 1, 1, 32),
    ("3.6B", 32, 3072, 30, 2, 1, 64),
    ("7.5B", 32, 4096, 36, 4, 1, 128),
    ("18.4B", 48, 6144, 40, 8, 1, 256),
    ("39.1B", 64, 8192, 48, 8, 2, 512),
    ("76.1B", 80, 10240, 60, 8, 4, 1024),
    ("145.6B", 96, 12288, 80, 8, 8, 1536),
    ("310.1B", 128, 16384, 96, 8, 16, 1920),
    ("529.6B", 128, 20480, 105, 8, 35, 2520),
    ("1008.0B", 160, 25600, 128, 8, 64, 3072),
)

MEGATRON_TABLE_1: dict[str, Preset] = {
    size: Preset(
        f"Megatron {size}: {gpus:,} GPUs",
        ParallelLayout(nodes=gpus // 8, gpus_per_node=8, tp=t, pp=p),
        layers,
        hidden,
        heads,
        source="Narayanan et al. 2021 (arXiv 2104.04473), Table 1",
    )
    for size, heads, hidden, layers, t, p, gpus in _TABLE_1_ROWS
}
"""The weak-scaling runs of the Megatron paper, by model size: ``"1.7B"`` … ``"1008.0B"``."""


def _llama3_405b(name: str, nodes: int, cp: int) -> Preset:
    # The paper's order, inner to outer, is TP, CP, PP, DP: not Megatron's.
    layout = ParallelLayout(nodes=nodes, tp=8, cp=cp, pp=16, order="tp-cp-ep-pp-dp")
    source = "Llama team 2024 (arXiv 2407.21783), Table 4 and section 3.3.2"
    return Preset(f"Llama 3 405B: {name}", layout, 126, 16384, 128, source)


LLAMA3_405B: dict[str, Preset] = {
    "8k, 8192 GPUs": _llama3_405b("8k tokens, 8,192 GPUs", nodes=1024, cp=1),
    "8k": _llama3_405b("8k tokens, 16,384 GPUs", nodes=2048, cp=1),
    "128k": _llama3_405b("128k tokens, 16,384 GPUs", nodes=2048, cp=16),
}
"""Llama 3 405B. For 128k tokens some published tables print dp=4; the product needs 8."""

DEEPSEEK_V3 = Preset(
    "DeepSeek-V3: experts on 2,048 GPUs",
    ParallelLayout(nodes=256, gpus_per_node=8, pp=16, ep=64),
    layers=61,
    hidden=7168,
    heads=128,
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
