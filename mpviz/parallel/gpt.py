"""A GPT: whole in one process, and cut over tensor- and pipeline-parallel ranks.

`GPT` is plain PyTorch. `gpt_stage` keeps the layers of one pipeline stage of it and cuts their
matrices over a tensor-parallel group; what the layers compute is written once, in ``forward``. Its
sizes are called s (sequence), b (microbatch), h (hidden), f (ffn), n (heads), g (KV heads), d (size
of a head), V (vocabulary) and t (tensor-parallel size). The names of modules and options are those
of Megatron-LM, ``megatron/core/models/gpt/gpt_model.py`` and ``transformer_layer.py``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from .._checks import divisors, listed, whole_number
from ..shards.blocks import check_heads
from .agreement import check_group
from .random import RNGStatesTracker
from .tensor import ColumnParallelLinear, RowParallelLinear
from .vocab import VocabParallelEmbedding, vocab_parallel_cross_entropy

MASKED = -1
"""A target that does not count."""


@dataclass(frozen=True)
class GPTConfig:
    """What a GPT is made of, whatever the layout.

    Parameters
    ----------
    num_layers, hidden_size, num_heads : int
        Layers, h, and n; heads divide the hidden size.
    vocab_size, sequence : int
        Words, and the most tokens that the model can see.
    num_kv_heads : int, optional
        Heads of K and V, g, each for n/g heads of Q; as many as heads by default.
    ffn_hidden_size : int, optional
        Inside the MLP, f; 4 h by default.
    norm : {"layer", "rms"}
        LayerNorm, or RMSNorm (Zhang and Sennrich 2019, arXiv 1910.07467).
    positions : {"learned", "rotary"}
        A vector for each place, or Q and K turned by it (Su et al. 2021, arXiv 2104.09864).
    activation : {"gelu", "swiglu"}
        In the MLP; SwiGLU (Shazeer 2020, arXiv 2002.05202) has a second matrix beside the first.
    bias : bool
        Whether linear layers have one.
    tied : bool
        Whether the output layer is the word embedding once more.
    hidden_dropout, attention_dropout : float
        Shares that are dropped: of what embedding, attention and MLP give; of what heads attend to.
    vocab_multiple : int
        ``make_vocab_size_divisible_by``: see `padded_vocab_size`. Megatron's default is 128.
    init_std : float
        Standard deviation of new weights; of the layers before each sum, ÷ √(2 num_layers).
    seed : int
        Of new weights and of dropout.
    dtype : torch.dtype
        Of the parameters.

    Raises
    ------
    ValueError
        When sizes do not fit each other; the message says what would.

    Examples
    --------
    >>> GPTConfig(hidden_size=64, num_heads=6)
    Traceback (most recent call last):
        ...
    ValueError: hidden=64 cannot be cut into 6 heads; heads may be 1, 2, 4, 8, 16, 32 or 64
    """

    num_layers: int = 8
    hidden_size: int = 64
    num_heads: int = 8
    vocab_size: int = 32
    sequence: int = 32
    num_kv_heads: int | None = None
    ffn_hidden_size: int | None = None
    norm: str = "layer"
    positions: str = "learned"
    activation: str = "gelu"
    bias: bool = True
    tied: bool = True
    hidden_dropout: float = 0.0
    attention_dropout: float = 0.0
    vocab_multiple: int = 1
    init_std: float = 0.02
    seed: int = 0
    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        sizes = ("num_layers", "vocab_size", "sequence", "vocab_multiple", "kv_heads", "ffn")
        for name in sizes:
            whole_number(name, getattr(self, name))
        check_heads(self.hidden_size, self.num_heads, tp=1)
        if self.num_heads % self.kv_heads:
            fits = listed(divisors(self.num_heads), " or ")
            raise ValueError(
                f"{self.num_heads} heads cannot share {self.kv_heads} KV heads evenly; "
                f"num_kv_heads may be {fits}"
            )
        _one_of("norm", self.norm, _NORMS)
        _one_of("positions", self.positions, ("learned", "rotary"))
        _one_of("activation", self.activation, ("gelu", "swiglu"))
        if self.positions == "rotary" and self.head_size % 2:
            raise ValueError(f"rotary positions turn pairs; a head has {self.head_size} features")
        for name in ("hidden_dropout", "attention_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be ≥ 0 and < 1, got {getattr(self, name)}")

    @property
    def kv_heads(self) -> int:
        """The number of KV heads, g."""
        return self.num_heads if self.num_kv_heads is None else self.num_kv_heads

    @property
    def head_size(self) -> int:
        """The size of a head, d."""
        return self.hidden_size // self.num_heads

    @property
    def ffn(self) -> int:
        """The size inside the MLP, f."""
        return 4 * self.hidden_size if self.ffn_hidden_size is None else self.ffn_hidden_size

    def padded_vocab_size(self, tp: int) -> int:
        """Return the next multiple of ``vocab_multiple`` × tp, as Megatron pads it.

        >>> GPTConfig(vocab_size=29, vocab_multiple=4).padded_vocab_size(tp=2)
        32
        """
        multiple = self.vocab_multiple * tp
        return -(-self.vocab_size // multiple) * multiple

    def layers_of(self, stage: int, of: int) -> range:
        """Return the layers of a pipeline stage, counted from 0.

        >>> GPTConfig(num_layers=8).layers_of(stage=1, of=4)
        range(2, 4)
        """
        if not 0 <= whole_number("stage", stage, least=0) < whole_number("of", of):
            raise ValueError(f"stage must be 0 … {of - 1}, got {stage}")
        if self.num_layers % of:
            fits = listed(divisors(self.num_layers), " or ")
            raise ValueError(
                f"{self.num_layers} layers cannot be dealt evenly to {of} stages; "
                f"there may be {fits}"
            )
        each = self.num_layers // of
        return range(stage * each, (stage + 1) * each)

    def check_tp(self, tp: int) -> None:
        """Raise unless tp divides heads, KV heads and the MLP; the vocabulary is padded."""
        check_heads(self.hidden_size, self.num_heads, tp)
        for name, size in (("KV heads", self.kv_heads), ("features of the MLP", self.ffn)):
            if size % tp:
                fits = listed(divisors(size), " or ")
                raise ValueError(
                    f"{size} {name} cannot be dealt evenly to tp={tp}; tp may be {fits}"
                )


_NORMS = {"layer": nn.LayerNorm, "rms": nn.RMSNorm}


def _one_of(name: str, value: object, known: Any) -> None:
    if value not in known:
        raise ValueError(f"{name} must be {listed(map(repr, known), ' or ')}, got {value!r}")


# ---- the layers


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
        self.part = 0  # of the sequence, if each rank has a part
        self.dropout = Dropout(config.hidden_dropout, RNGStatesTracker(_seed(config, _PLACES)))

    def forward(self, tokens: Tensor) -> Tensor:
        """Take (s, b), return (s, b, h); under sequence parallelism (s/t, b, h)."""
        x: Tensor = self.word_embeddings(tokens)  # (s, b, h) or (s/t, b, h)
        if self.position_embeddings is not None:
            here = self.position_embeddings.weight.narrow(0, self.part * len(x), len(x))
            x = x + here.unsqueeze(1)  # (s, 1, h) or (s/t, 1, h), for each of the batch
        y: Tensor = self.dropout(x)
        return y

    def draw(self, config: GPTConfig) -> None:
        """Draw new vectors."""
        _draw_words(config, _WORDS, self.word_embeddings)
        if self.position_embeddings is not None:
            _draw(config, _PLACES, self.position_embeddings)

    def cut(self, group: dist.ProcessGroup, sequence_parallel: bool) -> None:
        """Keep this rank's words, and under sequence parallelism its part of what they give."""
        self.word_embeddings = VocabParallelEmbedding.from_reference(
            self.word_embeddings, group, reduce_scatter_embeddings=sequence_parallel
        )
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
        word = torch.arange(self.first, self.first + logits.shape[-1])  # (V/t,)
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


# ---- the model


class GPT(nn.Module):
    """A GPT, or the layers of one of its stages, whole: not cut by tensor parallelism.

    Every layer draws its weights from a seed of its own, so a stage draws what it holds, and all
    stages together are the same model however many there are.

    Parameters
    ----------
    config : GPTConfig
        What it is made of.
    stage, of : int
        The stage, and how many there are. The first begins with the embedding, the last ends with
        the output layer.
    tp : int
        For which size of a tensor-parallel group the vocabulary is padded.

    Attributes
    ----------
    embedding : GPTEmbedding or None
    layers : ModuleDict of TransformerLayer
        By number in the whole model, from ``"0"``: a parameter's name is the same in any layout.
    output : GPTOutput or None

    Examples
    --------
    >>> model = GPT(GPTConfig(num_layers=2, hidden_size=8, num_heads=2, vocab_size=5))
    >>> model(torch.zeros(4, 3, dtype=torch.int64)).shape
    torch.Size([4, 3, 5])
    >>> list(GPT(model.config, stage=1, of=2).layers)
    ['1']
    """

    def __init__(self, config: GPTConfig, *, stage: int = 0, of: int = 1, tp: int = 1) -> None:
        super().__init__()
        self.config, self.words = config, config.padded_vocab_size(tp)
        self.sequence_parallel = False
        numbers, first, last = config.layers_of(stage, of), stage == 0, stage == of - 1
        # The layers draw weights that are drawn anew below: not from the caller's random numbers.
        # (On the device "meta" none would be, but it imports sympy, in each rank.)
        with torch.random.fork_rng(devices=[]):
            self.embedding = GPTEmbedding(config, self.words) if first else None
            self.layers = nn.ModuleDict({f"{n}": TransformerLayer(config, n) for n in numbers})
            self.output = GPTOutput(config, self.words) if last else None
        self.to(config.dtype)
        for part in self.parts:
            part.draw(config)
        self.tie()

    @property
    def parts(self) -> list[Any]:
        """The embedding, the layers and the output, those that are here, in order."""
        parts = [self.embedding, *self.layers.values(), self.output]
        return [part for part in parts if part is not None]

    def forward(self, x: Tensor) -> Tensor:
        """Take tokens (s, b), of a later stage (s, b, h); return (s, b, h), of the last (s, b, V).

        Cut, V is V/t, and under sequence parallelism s is s/t between stages.
        """
        for part in self.parts:
            x = part(x)
        return x

    def tie(self) -> None:
        """Let the output layer have the word embedding's parameter, where both are here."""
        if self.config.tied and self.embedding is not None and self.output is not None:
            self.output.output_layer.weight = self.embedding.word_embeddings.weight

    @property
    def tied_copy(self) -> nn.Parameter | None:
        """The word embedding, or its copy in the output layer, if the other is in another stage."""
        if not self.config.tied or (self.embedding is None) == (self.output is None):
            return None
        holder: Any = self.embedding.word_embeddings if self.embedding else None
        if self.output is not None:
            holder = self.output.output_layer
        weight: nn.Parameter = holder.weight
        return weight

    def extra_repr(self) -> str:
        """Return how many words there are, and what pads them."""
        more = self.words - self.config.vocab_size
        return f"{self.config.vocab_size} words" + (f" and {more} of padding" if more else "")


def gpt_stage(
    config: GPTConfig,
    stage: int,
    of: int,
    groups: Mapping[str, dist.ProcessGroup],
    *,
    sequence_parallel: bool = False,
) -> GPT:
    """Return this rank's part of a stage of ``GPT(config)``.

    Parameters
    ----------
    config : GPTConfig
        The same on every rank.
    stage, of : int
        The stage, as in the plan, and how many there are.
    groups : mapping of str to ProcessGroup
        Of this rank; only ``groups["tp"]`` is used.
    sequence_parallel : bool
        Whether between the matrices each rank has its part of the sequence alone.

    Returns
    -------
    GPT
        With the matrices cut: QKV and the first of the MLP by column, the second of each by row,
        the vocabulary by words. Parameters of which each rank holds a part are marked
        ``tensor_model_parallel``, whole ones that see a part of the tokens ``sequence_parallel``,
        and the copy of a tied embedding in another stage ``shared``.

    Raises
    ------
    ValueError
        When the layout does not divide heads, KV heads, the MLP or the layers, or has cp > 1. The
        vocabulary is padded where need be, as the model prints.

    Examples
    --------
    >>> from mpviz import ParallelLayout, World
    >>> def held(rank, groups):
    ...     from mpviz.parallel import GPTConfig, gpt_stage
    ...     stage = gpt_stage(GPTConfig(num_layers=2, vocab_size=31), 0, 2, groups)
    ...     attention = stage.layers["0"].self_attention
    ...     return stage.extra_repr(), attention.linear_qkv.weight.shape
    >>> with World(ParallelLayout(nodes=1, gpus_per_node=2, tp=2)) as world:
    ...     world.run(held)[1]
    ('31 words and 1 of padding', torch.Size([96, 64]))
    """
    group = check_group(groups["tp"])
    config.check_tp(group.size())
    if "cp" in groups and groups["cp"].size() > 1:
        raise ValueError(
            f"each rank attends to the whole sequence: cp must be 1, got {groups['cp'].size()}"
        )
    model = GPT(config, stage=stage, of=of, tp=group.size())
    for part in model.parts:
        part.cut(group, sequence_parallel)
    model.sequence_parallel = sequence_parallel
    model.tie()
    for module in model.modules():
        _mark(module, sequence_parallel)
    if model.output is not None and model.tied_copy is not None:
        _set(model.tied_copy, shared=True)
    return model


def _mark(module: nn.Module, sequence_parallel: bool) -> None:
    """Mark which parameters are parts, and which whole ones see a part of the tokens."""
    for name, parameter in module.named_parameters(recurse=False):
        if isinstance(module, VocabParallelEmbedding | ColumnParallelLinear):
            is_cut = True
        else:
            is_cut = isinstance(module, RowParallelLinear) and name == "weight"
        _set(parameter, tensor_model_parallel=is_cut)
        _set(parameter, sequence_parallel=sequence_parallel and not is_cut)


def _set(parameter: nn.Parameter, **marks: bool) -> None:
    vars(parameter).update(marks)


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


# ---- what it learns


def masked_cross_entropy(
    logits: Tensor, targets: Tensor, group: dist.ProcessGroup | None = None
) -> Tensor:
    """Return the mean loss of the tokens whose target is not `MASKED`.

    Parameters
    ----------
    logits : Tensor of shape (s, b, V), cut (s, b, V/t)
        Of the last stage.
    targets : Tensor of int64, shape (s, b)
        The next words.
    group : ProcessGroup, optional
        The tensor-parallel group, if the logits are cut.

    Raises
    ------
    ValueError
        When all targets are masked: there is no mean.

    Examples
    --------
    >>> masked_cross_entropy(torch.zeros(3, 1, 4), torch.tensor([[MASKED], [2], [3]]))
    tensor(1.3863)
    """
    counts = targets != MASKED  # (s, b)
    if not counts.any():
        raise ValueError(
            f"all {targets.numel()} targets are masked: there is no loss to learn from"
        )
    words = targets.masked_fill(~counts, 0)  # (s, b)
    if group is None:
        losses = F.cross_entropy(logits.flatten(0, 1), words.flatten(), reduction="none")
        losses = losses.view_as(words)
    else:
        losses = vocab_parallel_cross_entropy(logits, words, group, check=False)  # (s, b)
    return losses[counts].mean()


def repeated_words(
    batch: int, *, sequence: int = 32, vocab_size: int = 32, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Return texts that say three random words again and again, and the word after each.

    From the fourth word on a model can know what comes: the loss falls towards 0. The first three
    are anybody's guess, and masked.

    Returns
    -------
    tokens, targets : Tensor of int64, each (s, batch)

    Examples
    --------
    >>> tokens, targets = repeated_words(1, sequence=6, vocab_size=10)
    >>> tokens.flatten().tolist(), targets.flatten().tolist()
    ([4, 9, 3, 4, 9, 3], [-1, -1, 4, 9, 3, 4])
    """
    generator = torch.Generator().manual_seed(seed)
    three = torch.randint(vocab_size, (3, batch), generator=generator)
    return _next_words(three.repeat(sequence // 3 + 1, 1)[: sequence + 1], known=3)


def sorted_words(
    batch: int, *, words: int = 15, vocab_size: int = 10, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Return random words followed by the same ones sorted, and the word after each.

    The loss is of the second half alone. ``words`` words make a sequence of 2 × words − 1.

    Examples
    --------
    >>> tokens, targets = sorted_words(1, words=3)
    >>> tokens.flatten().tolist(), targets.flatten().tolist()
    ([4, 9, 3, 3, 4], [-1, -1, 3, 4, 9])
    """
    generator = torch.Generator().manual_seed(seed)
    given = torch.randint(vocab_size, (words, batch), generator=generator)
    return _next_words(torch.cat([given, given.sort(dim=0).values]), known=words)


def _next_words(text: Tensor, known: int) -> tuple[Tensor, Tensor]:
    """Return a text without its last word, and without its first; mask what cannot be known."""
    targets = text[1:].clone()
    targets[: known - 1] = MASKED
    return text[:-1], targets
