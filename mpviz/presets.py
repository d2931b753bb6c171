"""Layouts that were really run, with the model each was run for."""

from dataclasses import dataclass

from .layout import ParallelLayout


@dataclass(frozen=True)
class Model:
    """A transformer and a training step of it: what the traffic of a layout follows from.

    Attributes
    ----------
    name : str
        What a menu shows.
    layers, hidden, heads : int
        Transformer layers, hidden size, attention heads.
    kv_heads : int
        Heads of keys and values: fewer than ``heads`` with grouped-query attention.
    kv_width : int
        Numbers in the keys and values of one token, of all heads and in one layer.
    layer_parameters : int
        Parameters of a layer, on average, without experts that are routed to.
    sequence, batch : int
        Tokens of a sequence, and sequences in a step.
    gpu : str
        What it was trained on (see `mpviz.cost.MACHINES`).
    source : str
        Where the numbers are printed.
    expert_layers, expert_parameters, top_k : int
        Layers with experts, parameters of all experts of such a layer, experts for each token;
        0 for a dense model.
    """

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    kv_width: int
    layer_parameters: int
    sequence: int
    batch: int
    gpu: str
    source: str
    expert_layers: int = 0
    expert_parameters: int = 0
    top_k: int = 0


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


def _llama(name: str, layers: int, hidden: int, ffn: int, heads: int, **step: int) -> Model:
    """Return a Llama 3: gated MLP, 8 heads of keys and values, no biases."""
    kv_width = 2 * 8 * hidden // heads
    parameters = hidden * (2 * hidden + kv_width + 3 * ffn + 2)
    source = "Llama team 2024 (arXiv 2407.21783), Tables 3 and 4"
    return Model(
        name, layers, hidden, heads, 8, kv_width, parameters, **step, gpu="H100", source=source
    )


EXAMPLE = _llama("Llama 3 8B", 32, 4096, 14_336, 32, sequence=8192, batch=512)
"""The model of a layout that names none; 512 sequences, 4 million tokens, are our choice."""

SLIDE = Preset(
    "The slide: 16 GPUs",
    ParallelLayout(nodes=2, gpus_per_node=8, tp=2, pp=4),
    model=None,
    source="the docstring of Megatron-LM's initialize_model_parallel",
)
"""Two nodes of eight, tp=2, pp=4: the case of lessons 01 and 02."""

# Billions of parameters, heads, hidden size, layers, t, p, GPUs, sequences in a batch.
_TABLE_1_ROWS = (
    ("1.7B", 24, 2304, 24, 1, 1, 32, 512),
    ("3.6B", 32, 3072, 30, 2, 1, 64, 512),
    ("7.5B", 32, 4096, 36, 4, 1, 128, 512),
    ("18.4B", 48, 6144, 40, 8, 1, 256, 1024),
    ("39.1B", 64, 8192, 48, 8, 2, 512, 1536),
    ("76.1B", 80, 10240, 60, 8, 4, 1024, 1792),
    ("145.6B", 96, 12288, 80, 8, 8, 1536, 2304),
    ("310.1B", 128, 16384, 96, 8, 16, 1920, 2160),
    ("529.6B", 128, 20480, 105, 8, 35, 2520, 2520),
    ("1008.0B", 160, 25600, 128, 8, 64, 3072, 3072),
)


def _gpt(size: str, layers: int, hidden: int, heads: int, batch: int) -> Model:
    """Return a GPT of the Megatron paper: each head has keys and values of its own."""
    parameters = 12 * hidden**2 + 13 * hidden  # with biases and LayerNorms
    source = "Narayanan et al. 2021 (arXiv 2104.04473), Table 1 and equation 2"
    return Model(
        *(f"Megatron {size}", layers, hidden, heads, heads, 2 * hidden, parameters, 2048, batch),
        gpu="A100",
        source=source,
    )


MEGATRON_TABLE_1: dict[str, Preset] = {
    size: Preset(
        f"Megatron {size}: {gpus:,} GPUs",
        ParallelLayout(nodes=gpus // 8, gpus_per_node=8, tp=t, pp=p),
        _gpt(size, layers, hidden, heads, batch),
        source="Narayanan et al. 2021 (arXiv 2104.04473), Table 1",
    )
    for size, heads, hidden, layers, t, p, gpus, batch in _TABLE_1_ROWS
}
"""The weak-scaling runs of the Megatron paper, by model size: ``"1.7B"`` … ``"1008.0B"``."""


def _llama3_405b(name: str, nodes: int, cp: int, sequence: int = 8192) -> Preset:
    # The paper's order, inner to outer, is TP, CP, PP, DP: not Megatron's.
    layout = ParallelLayout(nodes=nodes, tp=8, cp=cp, pp=16, order="tp-cp-ep-pp-dp")
    source = "Llama team 2024 (arXiv 2407.21783), Table 4 and section 3.3.2"
    step = {"sequence": sequence, "batch": 2**24 // sequence}  # 16 million tokens
    tokens = f"{sequence // 1024}k tokens"
    model = _llama(f"Llama 3 405B at {tokens}", 126, 16384, 53_248, 128, **step)
    return Preset(f"Llama 3 405B: {name}", layout, model, source)


LLAMA3_405B: dict[str, Preset] = {
    "8k, 8192 GPUs": _llama3_405b("8k tokens, 8,192 GPUs", nodes=1024, cp=1),
    "8k": _llama3_405b("8k tokens, 16,384 GPUs", nodes=2048, cp=1),
    "128k": _llama3_405b("128k tokens, 16,384 GPUs", nodes=2048, cp=16, sequence=131_072),
}
"""Llama 3 405B. For 128k tokens some published tables print dp=4; the product needs 8."""

_DEEPSEEK_ATTENTION = (
    7168 * 1536 + 1536 * 128 * 192  # queries, through a latent of 1536
    + 7168 * (512 + 64) + 512 * 128 * 256  # keys and values, through one of 512
    + 128 * 128 * 7168  # output
)  # fmt: skip
_DEEPSEEK_EXPERT = 3 * 7168 * 2048

DEEPSEEK_V3 = Preset(
    "DeepSeek-V3: experts on 2,048 GPUs",
    ParallelLayout(nodes=256, gpus_per_node=8, pp=16, ep=64),
    Model(
        "DeepSeek-V3",
        layers=61,
        hidden=7168,
        heads=128,
        kv_heads=128,
        kv_width=128 * (192 + 128),
        # Three layers have a dense MLP, 58 one shared expert and a router.
        layer_parameters=_DEEPSEEK_ATTENTION
        + (3 * 3 * 7168 * 18_432 + 58 * (_DEEPSEEK_EXPERT + 7168 * 256)) // 61,
        sequence=4096,
        batch=15_360,
        gpu="H800",
        source="DeepSeek-AI 2024 (arXiv 2412.19437), section 4.2",
        expert_layers=58,
        expert_parameters=256 * _DEEPSEEK_EXPERT,
        top_k=8,
    ),
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
