"""Models that were really trained, by name."""

from typing import Any

from .architecture import Latent, Model

_NARAYANAN = "Narayanan et al. 2021 (arXiv 2104.04473), Table 1 and equation 2"
_LLAMA = "Llama team 2024 (arXiv 2407.21783), Table 3 and section 3.2"
_LLAMA_TOKENS = 15.6e12

# Billions of parameters, heads, hidden size, layers, sequences in a batch.
_TABLE_1 = (
    ("1.7B", 24, 2304, 24, 512),
    ("3.6B", 32, 3072, 30, 512),
    ("7.5B", 32, 4096, 36, 512),
    ("18.4B", 48, 6144, 40, 1024),
    ("39.1B", 64, 8192, 48, 1536),
    ("76.1B", 80, 10240, 60, 1792),
    ("145.6B", 96, 12288, 80, 2304),
    ("310.1B", 128, 16384, 96, 2160),
    ("529.6B", 128, 20480, 105, 2520),
    ("1008.0B", 160, 25600, 128, 3072),
)


def gpt(
    name: str,
    layers: int,
    hidden: int,
    heads: int,
    batch: int,
    *,
    tokens: float = 0,
    source: str = _NARAYANAN,
) -> Model:
    """Return a GPT as the Megatron papers have it: 51,200 words, 2,048 tokens, dropout.

    >>> f"{gpt('', 24, 2304, 24, 512).parameters / 1e9:.1f}"
    '1.7'
    """
    return Model(
        name=name,
        layers=layers,
        hidden=hidden,
        heads=heads,
        vocabulary=51_200,
        sequence=2048,
        batch=batch,
        dropout=True,
        gpu="A100",
        tokens=tokens,
        source=source,
    )


def _gated(name: str, layers: int, hidden: int, ffn: int, heads: int, **sizes: Any) -> Model:
    """Return a model with what Llama, Mixtral and DeepSeek share."""
    kinds = {"norm": "rms", "positions": "rotary", "activation": "swiglu"}
    shape = {"layers": layers, "hidden": hidden, "ffn": ffn, "heads": heads, "name": name}
    return Model(**shape, **kinds, bias=False, tied=False, **sizes)  # type: ignore[arg-type]


def _llama(name: str, layers: int, hidden: int, ffn: int, heads: int, batch: int) -> Model:
    sizes = {"kv_heads": 8, "vocabulary": 128_256, "sequence": 8192, "batch": batch}
    return _gated(name, layers, hidden, ffn, heads, **sizes, tokens=_LLAMA_TOKENS, source=_LLAMA)


MODELS: dict[str, Model] = {
    model.name: model
    for model in (
        *(gpt(f"Megatron {size}", layers, h, a, b) for size, a, h, layers, b in _TABLE_1),
        gpt(
            "GPT-3 175B",
            *(96, 12_288, 96, 1536),
            tokens=300e9,
            source="Brown et al. 2020 (arXiv 2005.14165), Table 2.1; words, batch and tokens: "
            "Narayanan et al. 2021 (arXiv 2104.04473), section 5.1",
        ),
        _llama("Llama 3 8B", 32, 4096, 14_336, 32, batch=512),
        _llama("Llama 3 70B", 80, 8192, 28_672, 64, batch=2048),
        _llama("Llama 3 405B", 126, 16_384, 53_248, 128, batch=2048),
        _gated(
            "Mixtral 8x7B",
            *(32, 4096, 14_336, 32),
            kv_heads=8,
            vocabulary=32_000,
            sequence=4096,
            batch=1024,
            experts=8,
            top_k=2,
            source="Jiang et al. 2024 (arXiv 2401.04088), Table 1; sequence and batch: our choice",
        ),
        _gated(
            "DeepSeek-V3",
            *(61, 7168, 18_432, 128),
            vocabulary=129_280,
            sequence=4096,
            batch=15_360,
            experts=256,
            top_k=8,
            expert_ffn=2048,
            shared_experts=1,
            dense_layers=3,
            latent=Latent(queries=1536, keys=512, rotary=64, head=128, value=128),
            gpu="H800",
            tokens=14.8e12,
            source="DeepSeek-AI 2024 (arXiv 2412.19437), section 4.2",
        ),
    )
}
"""The ten of Megatron's Table 1, GPT-3, Llama 3, Mixtral and DeepSeek-V3."""
