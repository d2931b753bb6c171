"""What a GPT is made of, and which layouts fit it."""

from dataclasses import dataclass
from math import inf

import torch

from .._checks import divisors, listed, whole_number
from ..shards.blocks import check_heads


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
        sizes = ("num_layers", "hidden_size", "num_heads", "vocab_size", "sequence")
        for name in (*sizes, "vocab_multiple", "kv_heads", "ffn"):
            whole_number(name, getattr(self, name))
        check_heads(self.hidden_size, self.num_heads, tp=1)
        if self.num_heads % self.kv_heads:
            fits = listed(divisors(self.num_heads), " or ")
            raise ValueError(
                f"{self.num_heads} heads cannot share {self.kv_heads} KV heads evenly; "
                f"num_kv_heads may be {fits}"
            )
        _one_of("norm", self.norm, ("layer", "rms"))
        _one_of("positions", self.positions, ("learned", "rotary"))
        _one_of("activation", self.activation, ("gelu", "swiglu"))
        if self.positions == "rotary" and self.head_size % 2:
            raise ValueError(f"rotary positions turn pairs; a head has {self.head_size} features")
        for name in ("bias", "tied"):
            _one_of(name, getattr(self, name), (True, False))
        _number_below("hidden_dropout", self.hidden_dropout, 1)
        _number_below("attention_dropout", self.attention_dropout, 1)
        _number_below("init_std", self.init_std, inf)
        if whole_number("seed", self.seed, least=0) >= _SEEDS:
            raise ValueError(f"seed must be below {_SEEDS:,}, got {self.seed:,}")
        if not (isinstance(self.dtype, torch.dtype) and self.dtype.is_floating_point):
            raise ValueError(f"dtype must be a floating-point torch.dtype, got {self.dtype!r}")

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


_SEEDS = 2**40
"""A seed for each layer is made of each, of 64 bits."""


def _one_of(name: str, value: object, known: tuple[object, ...]) -> None:
    if not any(value is one or (isinstance(value, str) and value == one) for one in known):
        raise ValueError(f"{name} must be {listed(map(repr, known), ' or ')}, got {value!r}")


def _number_below(name: str, value: object, limit: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < limit:
        raise ValueError(f"{name} must be a number ≥ 0 and < {limit}, got {value!r}")
