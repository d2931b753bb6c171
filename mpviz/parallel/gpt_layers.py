"""The layers of a GPT: attention, MLP, embedding and output, whole or cut over a group.

What a layer computes is written once, in ``forward``; ``cut`` puts layers that hold a part in the
place of whole ones. Sizes are called s (sequence), b (microbatch), h (hidden), f (ffn), n (heads),
g (KV heads), d (size of a head), V (vocabulary) and t (tensor-parallel size). The names of modules
are those of Megatron-LM, ``megatron/core/transformer/transformer_layer.py``.
"""

from contextlib import nullcontext
from math import sqrt
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from ..shards import times
from .agreement import agreed
from .gpt_config import GPTConfig
from .random import RNGStatesTracker
from .tensor import ColumnParallelLinear, RowParallelLinear
from .vocab import VocabParallelEmbedding, check_words

_NORMS = {"layer": nn.LayerNorm, "rms": nn.RMSNorm}


class CausalSelfAttention(nn.Module):
    """Grouped-query attention: n heads of Q, and g of K and V that n/g of them share.

    The rows of ``linear_qkv`` are those of the first KV head: its n/g heads of Q, K, V; then those
    of the next. So each equal part of it, whatever tp is, holds whole groups.
    """

    def __init__(self, config: GPTConfig, rng: RNGStatesTracker) -> None:
        super().__init__()
        self.config, self.rng = config, rng
        h, heads = config.hidden_size, config.num_heads + 2 * config.kv_heads
        self.linear_qkv: Any = nn.Linear(h, heads * config.head_size, config.bias)
        self.linear_proj: Any = nn.Linear(h, h, config.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Take and return (s, b, h); under sequence parallelism (s/t, b, h)."""
        config = self.config
        shared = config.num_heads // config.kv_heads  # heads of Q for one of K and V
        qkv = self.linear_qkv(x)  # (s, b, (n + 2g) d / t)
        groups = qkv.unflatten(2, (-1, shared + 2, config.head_size))  # (s, b, g/t, n/g + 2, d)
        by_head = [part.flatten(2, 3) for part in groups.split([shared, 1, 1], dim=3)]
        q, k, v = (part.permute(1, 2, 0, 3) for part in by_head)  # (b, n/t or g/t, s, d)
        if config.positions == "rotary":
            q, k = rotated(q), rotated(k)
        dropout = config.attention_dropout if self.training else 0.0
        with self.rng.fork("cut"):  # each rank has other heads
            found = F.scaled_dot_product_attention(
                q, k, v, dropout_p=dropout, is_causal=True, enable_gqa=shared > 1
            )  # (b, n/t, s, d)
        found = found.permute(2, 0, 1, 3).flatten(2)  # (s, b, h/t)
        y: Tensor = self.linear_proj(found)  # (s, b, h) or (s/t, b, h)
        return y

    def cut(self, group: dist.ProcessGroup, **options: Any) -> None:
        """Keep this rank's heads."""
        self.linear_qkv = ColumnParallelLinear.from_reference(self.linear_qkv, group, **options)
        self.linear_proj = RowParallelLinear.from_reference(self.linear_proj, group, **options)


def rotated(x: Tensor, base: float = 10000.0) -> Tensor:
    """Turn the pair (i, i + d/2) of the token at place p by the angle p · base^(−2i/d).

    >>> x = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    >>> rotated(x)[1].allclose(torch.tensor([1.0, 0.0]) * torch.tensor(1.0).cos() +
    ...                        torch.tensor([0.0, 1.0]) * torch.tensor(1.0).sin())
    True
    """
    s, d = x.shape[-2:]
    frequencies = base ** (-torch.arange(0, d, 2, dtype=torch.float64) / d)  # (d/2,)
    angles = torch.outer(torch.arange(s, dtype=torch.float64), frequencies)  # (s, d/2)
    cos, sin = angles.cos().to(x), angles.sin().to(x)
    one, two = x.chunk(2, -1)  # (…, s, d/2)
    return torch.cat([one * cos - two * sin, two * cos + one * sin], -1)


class FeedForward(nn.Module):
    """The MLP of a layer. With SwiGLU ``linear_fc1`` is two matrices, one upon the other."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.stacked = 2 if config.activation == "swiglu" else 1
        self.linear_fc1: Any = nn.Linear(config.hidden_size, self.stacked * config.ffn, config.bias)
        self.linear_fc2: Any = nn.Linear(config.ffn, config.hidden_size, config.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Take and return (s, b, h); under sequence parallelism (s/t, b, h)."""
        y, *up = self.linear_fc1(x).chunk(self.stacked, -1)  # (s, b, f/t), with SwiGLU two
        y = F.silu(y) * up[0] if up else F.gelu(y)
        z: Tensor = self.linear_fc2(y)  # (s, b, h) or (s/t, b, h)
        return z

    def cut(self, group: dist.ProcessGroup, **options: Any) -> None:
        """Keep this rank's part of the f features inside, of each of the stacked matrices."""
        fc1, stacked = self.linear_fc1, self.stacked
        self.linear_fc1 = ColumnParallelLinear.from_reference(
            fc1, group, stacked=stacked, **options
        )
        self.linear_fc2 = RowParallelLinear.from_reference(self.linear_fc2, group, **options)


class TransformerLayer(nn.Module):
    """Attention and MLP, each added to what it was given: the "pre-norm" layer of GPT-2."""

    def __init__(self, config: GPTConfig, number: int) -> None:
        super().__init__()
        self.number = number
        # A seed for each layer, not for each stage: the same masks whatever pp is.
        self.rng = RNGStatesTracker(_seed(config, number))
        norm = _NORMS[config.norm]
        self.input_layernorm = norm(config.hidden_size, eps=1e-5)
        self.self_attention = CausalSelfAttention(config, self.rng)
        self.pre_mlp_layernorm = norm(config.hidden_size, eps=1e-5)
        self.mlp = FeedForward(config)
        self.dropout = Dropout(config.hidden_dropout, self.rng)

    def forward(self, x: Tensor) -> Tensor:
        """Take and return (s, b, h); under sequence parallelism (s/t, b, h)."""
        x = x + self.dropout(self.self_attention(self.input_layernorm(x)))
        y: Tensor = x + self.dropout(self.mlp(self.pre_mlp_layernorm(x)))
        return y

    def draw(self, config: GPTConfig) -> None:
        """Draw new weights, from the seed of this layer."""
        _draw(config, self.number, self)

    def cut(self, group: dist.ProcessGroup, sequence_parallel: bool) -> None:
        """Keep this rank's part of each matrix."""
        # Once the words are looked up, what the ranks exchange has shapes that follow from theirs.
        for block in (self.self_attention, self.mlp):
            block.cut(group, sequence_parallel=sequence_parallel, check=False)
        self.rng.be_rank(group.rank())
        self.dropout.stream = "cut" if sequence_parallel else "replicated"


class Dropout(nn.Module):
    """Dropout whose mask comes from a stream of its own: see `RNGStatesTracker`."""

    def __init__(self, share: float, rng: RNGStatesTracker) -> None:
        super().__init__()
        self.share, self.rng, self.stream = share, rng, "replicated"

    def forward(self, x: Tensor) -> Tensor:
        """Take and return any shape."""
        if not self.share or not self.training:
            return x
        with self.rng.fork(self.stream):
            return F.dropout(x, self.share)


class GPTEmbedding(nn.Module):
    """Words, and their places."""

    def __init__(self, config: GPTConfig, words: int) -> None:
        super().__init__()
        self.word_embeddings: Any = nn.Embedding(words, config.hidden_size)
        self.position_embeddings = (
            nn.Embedding(config.sequence, config.hidden_size)
            if config.positions == "learned"
            else None
        )
        self.vocab_size, self.sequence = config.vocab_size, config.sequence
        self.group: dist.ProcessGroup | None = None
        self.part = 0  # of the sequence, if each rank has a part
        self.dropout = Dropout(config.hidden_dropout, RNGStatesTracker(_seed(config, _PLACES)))

    def forward(self, tokens: Tensor) -> Tensor:
        """Take (s, b), return (s, b, h); under sequence parallelism (s/t, b, h).

        Raises
        ------
        ValueError
            On every rank of the group, when tokens are no words of the vocabulary (those that pad
            it are none), more than the model sees, or not the same in shape.
        """
        with agreed(self.group, tokens) if self.group else nullcontext():
            self._check(tokens)
        x: Tensor = self.word_embeddings(tokens)  # (s, b, h) or (s/t, b, h)
        if self.position_embeddings is not None:
            here = self.position_embeddings.weight.narrow(0, self.part * len(x), len(x))
            x = x + here.unsqueeze(1)  # (s, 1, h) or (s/t, 1, h), for each of the batch
        y: Tensor = self.dropout(x)
        return y

    def _check(self, tokens: Tensor) -> None:
        check_words(tokens, self.vocab_size)
        if tokens.ndim != 2:
            raise ValueError(f"tokens are (sequence, batch), got {times(tokens.shape)}")
        if len(tokens) > self.sequence:
            raise ValueError(
                f"the model sees {self.sequence} tokens at most, got a sequence of {len(tokens)}"
            )

    def draw(self, config: GPTConfig) -> None:
        """Draw new vectors."""
        _draw_words(config, _WORDS, self.word_embeddings)
        if self.position_embeddings is not None:
            _draw(config, _PLACES, self.position_embeddings)

    def cut(self, group: dist.ProcessGroup, sequence_parallel: bool) -> None:
        """Keep this rank's words, and under sequence parallelism its part of what they give."""
        self.word_embeddings = VocabParallelEmbedding.from_reference(
            self.word_embeddings, group, reduce_scatter_embeddings=sequence_parallel, check=False
        )
        self.group = group
        self.dropout.rng.be_rank(group.rank())
        if sequence_parallel:
            self.part, self.dropout.stream = group.rank(), "cut"


class GPTOutput(nn.Module):
    """The last norm, and the logits. Words of padding have a probability of 0.

    Megatron leaves it to training to make them unlikely; then the loss would depend on tp.
    """

    def __init__(self, config: GPTConfig, words: int) -> None:
        super().__init__()
        self.vocab_size, self.first = config.vocab_size, 0
        self.final_layernorm = _NORMS[config.norm](config.hidden_size, eps=1e-5)
        self.output_layer: Any = nn.Linear(config.hidden_size, words, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Take (s, b, h), or (s/t, b, h) under sequence parallelism; return (s, b, V/t)."""
        logits: Tensor = self.output_layer(self.final_layernorm(x))  # (s, b, V/t)
        words = logits.shape[-1]
        word = torch.arange(self.first, self.first + words, device=logits.device)  # (V/t,)
        return logits.masked_fill(word >= self.vocab_size, -torch.inf)

    def draw(self, config: GPTConfig) -> None:
        """Draw new weights; tied ones are those of the word embedding."""
        _draw(config, _OUTPUT, self.final_layernorm)
        _draw_words(config, _WORDS if config.tied else _OUTPUT, self.output_layer)

    def cut(self, group: dist.ProcessGroup, sequence_parallel: bool) -> None:
        """Keep this rank's words."""
        self.output_layer = ColumnParallelLinear.from_reference(
            self.output_layer, group, sequence_parallel=sequence_parallel, check=False
        )
        self.first = group.rank() * self.output_layer.weight.shape[0]


# ---- what a layer begins with


_WORDS, _PLACES, _OUTPUT = -1, -2, -3
"""Numbers for what is no layer, each with a seed of its own."""


def _seed(config: GPTConfig, number: int) -> int:
    # A hundred apart, as Megatron's for pipeline ranks: tp ranks have seeds between.
    return 1_000_000 * (config.seed + 1) + 100 * number


def _draw(config: GPTConfig, number: int, module: nn.Module) -> None:
    """Draw a module's matrices from the seed of a layer; norms begin as 1, biases as 0."""
    generator = torch.Generator().manual_seed(_seed(config, number))
    for name, parameter in module.named_parameters():
        if parameter.ndim == 1:
            nn.init.constant_(parameter, 0.0 if name.endswith("bias") else 1.0)
            continue
        before_sum = name.endswith(("linear_proj.weight", "linear_fc2.weight"))
        std = config.init_std / sqrt(2 * config.num_layers if before_sum else 1)
        nn.init.normal_(parameter, std=std, generator=generator)


def _draw_words(config: GPTConfig, number: int, module: Any) -> None:
    """Draw the same words whatever pads them; padding is zero."""
    generator = torch.Generator().manual_seed(_seed(config, number))
    nn.init.zeros_(module.weight)
    nn.init.normal_(module.weight[: config.vocab_size], std=config.init_std, generator=generator)
