"""What is trained: the sizes of a transformer, and how many parameters that makes."""

from dataclasses import dataclass
from functools import cached_property

from .._checks import divisors, listed, whole_number

_CHOICES = {
    "norm": ("layer", "rms"),
    "positions": ("learned", "rotary"),
    "activation": ("gelu", "swiglu"),
}


@dataclass(frozen=True)
class Latent:
    """Multi-head latent attention (DeepSeek-AI 2024, arXiv 2405.04434, section 2.1).

    Attributes
    ----------
    queries, keys : int
        Numbers of a token from which its queries are made, and its keys and values.
    rotary, head, value : int
        Of a head: features turned by position, the others of its keys, those of its values.
    """

    queries: int
    keys: int
    rotary: int
    head: int
    value: int


@dataclass(frozen=True, kw_only=True)
class Model:
    """The sizes of a transformer, and a training step of it.

    Parameters
    ----------
    name : str
        What a menu shows.
    layers, hidden, heads : int
        Transformer layers, hidden size h, attention heads.
    kv_heads, ffn : int, optional
        Heads of keys and values, by default as many as heads; the size inside the MLP, f: 4 h.
    vocabulary, sequence : int
        Words, padded as Megatron pads them, and tokens of a sequence.
    batch : int
        Sequences in a step.
    norm, positions, activation : str
        ``"layer"`` or ``"rms"``; ``"learned"`` or ``"rotary"``; ``"gelu"`` or ``"swiglu"``.
    bias, tied, dropout : bool
        Whether linear layers have a bias; whether the output layer is the word embedding once
        more; whether training drops.
    experts, top_k, expert_ffn, shared_experts : int
        Experts of a layer, how many each token visits, their size inside (``ffn`` if not given),
        and those that all tokens visit. 0 experts: a dense model.
    dense_layers : int
        How many of the first layers have a dense MLP in place of experts.
    latent : Latent, optional
        Sizes of latent attention.
    gpu : str
        What it was trained on: one of `MACHINES`.
    tokens : float
        Of the whole training, where published; else 0.
    source : str
        Where the numbers are printed.

    Raises
    ------
    ValueError
        When sizes do not fit each other; the message says what would.

    Examples
    --------
    >>> gpt = Model(name="GPT-3", layers=96, hidden=12288, heads=96, vocabulary=51200,
    ...             sequence=2048)
    >>> f"{gpt.parameters:,}"
    '174,615,846,912'
    """

    name: str = ""
    layers: int
    hidden: int
    heads: int
    vocabulary: int
    sequence: int
    batch: int = 512
    kv_heads: int = 0
    ffn: int = 0
    norm: str = "layer"
    positions: str = "learned"
    activation: str = "gelu"
    bias: bool = True
    tied: bool = True
    dropout: bool = False
    experts: int = 0
    top_k: int = 0
    expert_ffn: int = 0
    shared_experts: int = 0
    dense_layers: int = 0
    latent: Latent | None = None
    gpu: str = "H100"
    tokens: float = 0.0
    source: str = ""

    def __post_init__(self) -> None:
        for name in ("layers", "hidden", "heads", "vocabulary", "sequence", "batch"):
            object.__setattr__(self, name, whole_number(name, getattr(self, name)))
        for name in ("experts", "top_k", "shared_experts", "dense_layers"):
            object.__setattr__(self, name, whole_number(name, getattr(self, name), least=0))
        defaults = {"kv_heads": self.heads, "ffn": 4 * self.hidden}
        for name, default in {**defaults, "expert_ffn": self.ffn or 4 * self.hidden}.items():
            value = whole_number(name, getattr(self, name), least=0)
            object.__setattr__(self, name, value or default)
        self._check()

    def _check(self) -> None:
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be {_or(known)}, got {getattr(self, name)!r}")
        if self.latent is None and self.hidden % self.heads:
            raise ValueError(
                f"hidden={self.hidden} cannot be cut into {self.heads} heads; heads may be "
                f"{listed(divisors(self.hidden), ' or ')}"
            )
        if self.heads % self.kv_heads:
            raise ValueError(
                f"{self.heads} heads cannot share {self.kv_heads} KV heads evenly; kv_heads may "
                f"be {listed(divisors(self.heads), ' or ')}"
            )
        if self.dense_layers > self.layers:
            raise ValueError(f"dense_layers={self.dense_layers}, but layers={self.layers}")
        if bool(self.experts) != bool(self.top_k) or self.top_k > self.experts:
            raise ValueError(
                f"top_k={self.top_k} of {self.experts} experts: a token visits 1 … "
                f"{self.experts}" + ("" if self.experts else ", and a dense model has top_k=0")
            )

    # ---- the numbers of one token in a layer

    @property
    def queries(self) -> int:
        """Numbers in the queries of a token, of all heads and in one layer."""
        if self.latent:
            return self.heads * (self.latent.head + self.latent.rotary)
        return self.hidden

    @property
    def found(self) -> int:
        """Numbers that the heads find for a token: what the projection takes."""
        return self.heads * self.latent.value if self.latent else self.hidden

    @property
    def kv_width(self) -> int:
        """Numbers in the keys and values of a token, of all heads and in one layer."""
        if self.latent:
            return self.queries + self.found
        return 2 * self.kv_heads * self.hidden // self.heads

    @property
    def inner(self) -> int:
        """Matrices before the activation of an MLP: with SwiGLU a second beside the first."""
        return 2 if self.activation == "swiglu" else 1

    @property
    def expert_layers(self) -> int:
        """Layers with experts."""
        return self.layers - self.dense_layers if self.experts else 0

    # ---- parameters

    @property
    def attention_cut(self) -> int:
        """Parameters of an attention that tp cuts."""
        h = self.hidden
        if not self.latent:
            width = self.queries + self.kv_width
            return h * width + self.found * h + (width if self.bias else 0)
        up = self.latent.queries * self.queries
        up += self.latent.keys * self.heads * (self.latent.head + self.latent.value)
        return up + self.found * h

    @property
    def layer_whole(self) -> int:
        """Parameters of a layer that each rank of tp holds whole, but for the router.

        Two norms, biases behind the two matrices that are cut by row, and what makes a latent.
        """
        norms = 2 * self.norm_size + (2 * self.hidden if self.bias else 0)
        if not self.latent:
            return norms
        down = self.latent.queries + self.latent.keys + self.latent.rotary
        return norms + self.hidden * down + self.latent.queries + self.latent.keys

    @property
    def norm_size(self) -> int:
        """Parameters of a norm."""
        return self.hidden * (2 if self.norm == "layer" else 1)

    def mlp_cut(self, ffn: int) -> int:
        """Parameters of an MLP that tp cuts: all but the bias behind it."""
        biases = self.inner * ffn if self.bias else 0
        return (self.inner + 1) * self.hidden * ffn + biases

    @property
    def shared_cut(self) -> int:
        """Parameters of the shared experts of a layer."""
        return self.shared_experts * self.mlp_cut(self.expert_ffn)

    @property
    def router(self) -> int:
        """Parameters of a router: a weight for each expert."""
        return self.hidden * self.experts

    @property
    def expert_parameters(self) -> int:
        """Parameters of all experts of a layer that are routed to."""
        return self.experts * self.mlp_cut(self.expert_ffn)

    @property
    def ends(self) -> tuple[int, int]:
        """Parameters before the first layer and behind the last; tied ones in the first alone."""
        words = self.vocabulary * self.hidden
        places = self.sequence * self.hidden if self.positions == "learned" else 0
        return words + places, self.norm_size + (0 if self.tied else words)

    @cached_property
    def layer_parameters(self) -> int:
        """Parameters of a layer, on average, without experts that are routed to."""
        dense = self.layers - self.expert_layers
        total = self.layers * (self.attention_cut + self.layer_whole)
        total += dense * self.mlp_cut(self.ffn)
        total += self.expert_layers * (self.router + self.shared_cut)
        return total // self.layers

    @cached_property
    def parameters(self) -> int:
        """Parameters of the whole model, a tied embedding once."""
        dense = self.layers - self.expert_layers
        total = self.layers * (self.attention_cut + self.layer_whole) + sum(self.ends)
        total += dense * self.mlp_cut(self.ffn)
        return total + self.expert_layers * (self.router + self.shared_cut + self.expert_parameters)

    @cached_property
    def active_parameters(self) -> int:
        """Parameters that one token meets: of the experts, those it visits."""
        unvisited = self.experts - self.top_k
        return self.parameters - self.expert_layers * unvisited * self.mlp_cut(self.expert_ffn)


def _or(values: tuple[str, ...]) -> str:
    return listed(map(repr, values), " or ")
