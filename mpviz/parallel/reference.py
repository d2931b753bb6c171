"""The MLP and the attention that the cut ones are held against: one process, plain PyTorch."""

import torch.nn.functional as F
from torch import Tensor, nn

from ..shards import times
from ..shards.blocks import check_heads


class MLP(nn.Module):
    """GeLU between two linear layers: ``linear_fc1`` widens, ``linear_fc2`` narrows.

    Parameters
    ----------
    hidden_size, ffn_hidden_size : int
        Outside and inside.
    bias : bool
        Whether both layers have one.

    Examples
    --------
    >>> import torch
    >>> MLP(6, 24)(torch.ones(4, 2, 6)).shape
    torch.Size([4, 2, 6])
    """

    def __init__(self, hidden_size: int, ffn_hidden_size: int, *, bias: bool = True) -> None:
        super().__init__()
        self.linear_fc1 = nn.Linear(hidden_size, ffn_hidden_size, bias)
        self.linear_fc2 = nn.Linear(ffn_hidden_size, hidden_size, bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return the same shape, (…, hidden_size)."""
        inner = F.gelu(self.linear_fc1(x))  # (…, h) → (…, f)
        y: Tensor = self.linear_fc2(inner)  # → (…, h)
        return y


class SelfAttention(nn.Module):
    """Multi-head self-attention, sequence first.

    Parameters
    ----------
    hidden_size, num_heads : int
        Heads divide the hidden size.
    causal : bool
        Whether a token sees only itself and those before it.
    bias : bool
        Whether both linear layers have one.

    Attributes
    ----------
    linear_qkv : nn.Linear
        To 3 × hidden_size features: first those of Q for all heads, then of K, then of V.
    linear_proj : nn.Linear
        From what the heads found to the output.

    Examples
    --------
    >>> import torch
    >>> SelfAttention(6, num_heads=3)(torch.ones(4, 2, 6)).shape
    torch.Size([4, 2, 6])
    """

    def __init__(
        self, hidden_size: int, num_heads: int, *, causal: bool = False, bias: bool = True
    ) -> None:
        super().__init__()
        check_heads(hidden_size, num_heads, tp=1)
        self.num_heads, self.causal = num_heads, causal
        self.linear_qkv = nn.Linear(hidden_size, 3 * hidden_size, bias)
        self.linear_proj = nn.Linear(hidden_size, hidden_size, bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return the same shape, (sequence, batch, hidden_size)."""
        check_sequence_first(x)
        qkv = self.linear_qkv(x)  # (s, b, h) → (s, b, 3h)
        found = attend(qkv, self.num_heads, causal=self.causal)  # → (s, b, h)
        y: Tensor = self.linear_proj(found)
        return y


def check_sequence_first(x: Tensor) -> None:
    """Raise unless attention can take a tensor."""
    if x.ndim != 3:
        raise ValueError(
            f"X is {times(x.shape)}, but attention takes (sequence, batch, hidden_size)"
        )


def attend(qkv: Tensor, num_heads: int, *, causal: bool) -> Tensor:
    """Return what each head finds: softmax(QKᵀ/√d)·V.

    Parameters
    ----------
    qkv : Tensor of shape (sequence, batch, 3 × num_heads × d)
        Q of all these heads, then K, then V.
    num_heads : int
        Heads in it: all, or those of one rank.
    causal : bool
        As for `SelfAttention`.

    Returns
    -------
    Tensor of shape (sequence, batch, num_heads × d)
    """
    sequence, batch, _ = qkv.shape
    of_heads = qkv.view(sequence, batch, 3, num_heads, -1)  # (s, b, 3·n·d) → (s, b, 3, n, d)
    q, k, v = of_heads.permute(2, 1, 3, 0, 4)  # each (b, n, s, d)
    found = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    return found.permute(2, 0, 1, 3).reshape(sequence, batch, -1)  # (b, n, s, d) → (s, b, n·d)
