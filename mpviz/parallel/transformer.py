"""The MLP and the attention of a transformer layer, cut over a tensor-parallel group.

Each is cut by column first, then by row: nothing communicates but f before and g behind. Source:
Shoeybi et al. 2019 (arXiv 1909.08053), figure 3. `mpviz.shards.mlp` and `mpviz.shards.attention`
are the same as data.
"""

from typing import Any, Self

import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from ..shards.blocks import check_heads
from .agreement import agreed, check_group
from .cutlinear import like
from .reference import MLP, SelfAttention, attend, check_sequence_first
from .tensor import ColumnParallelLinear, RowParallelLinear


class ParallelMLP(nn.Module):
    """GeLU between a layer cut by column and one cut by row.

    Parameters
    ----------
    hidden_size, ffn_hidden_size : int
        Outside and inside, of the whole MLP; tp divides ``ffn_hidden_size``.
    group : ProcessGroup
        The tensor-parallel group.
    check : bool
        Whether the ranks compare what they are given, once for both layers.
    **options
        ``bias``, ``sequence_parallel``, ``generator``, ``dtype`` and ``device``, as for
        `ColumnParallelLinear`.
    """

    def __init__(
        self,
        hidden_size: int,
        ffn_hidden_size: int,
        group: dist.ProcessGroup,
        *,
        check: bool = True,
        **options: Any,
    ) -> None:
        super().__init__()
        self.linear_fc1 = ColumnParallelLinear(
            hidden_size, ffn_hidden_size, group, check=check, **options
        )
        # What the first layer gives to the second follows from what the ranks agreed on.
        self.linear_fc2 = RowParallelLinear(
            ffn_hidden_size, hidden_size, group, check=False, **options
        )

    @classmethod
    def from_reference(cls, mlp: MLP, group: dist.ProcessGroup, **options: Any) -> Self:
        """Cut a plain MLP, the same on every rank; options as for the class."""
        fc1, fc2 = mlp.linear_fc1, mlp.linear_fc2
        options = {**like(fc1.weight, fc1.bias), **options}
        cut = cls(fc1.in_features, fc1.out_features, group, **options)
        cut.linear_fc1.load_reference(fc1)
        cut.linear_fc2.load_reference(fc2)
        return cut

    def forward(self, x: Tensor) -> Tensor:
        """Take and return (…, hidden_size); with ``sequence_parallel`` this rank's tokens."""
        inner = F.gelu(self.linear_fc1(x))  # (…, h) → (…, f/t)
        y: Tensor = self.linear_fc2(inner)  # → (…, h)
        return y


class ParallelAttention(nn.Module):
    """Multi-head self-attention with some of the heads on each rank.

    Q, K and V lie on top of each other in one weight, and each is cut by column: a rank gets
    whole heads of all three. (The first part of the weight as it lies would be Q and half of K.)

    Parameters
    ----------
    hidden_size, num_heads : int
        Of the whole attention. Heads divide the hidden size, and tp the heads.
    group : ProcessGroup
        The tensor-parallel group.
    causal : bool
        Whether a token sees only itself and those before it.
    check : bool
        Whether the ranks compare what they are given, once for both layers.
    **options
        ``bias``, ``sequence_parallel``, ``generator``, ``dtype`` and ``device``, as for
        `ColumnParallelLinear`.

    Raises
    ------
    ValueError
        When tp does not divide the heads; the message says what would.
    """

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        group: dist.ProcessGroup,
        *,
        causal: bool = False,
        check: bool = True,
        **options: Any,
    ) -> None:
        super().__init__()
        tp = check_group(group).size()
        check_heads(hidden_size, num_heads, tp)
        self.num_heads, self.local_heads, self.causal = num_heads, num_heads // tp, causal
        self.linear_qkv = ColumnParallelLinear(
            hidden_size, 3 * hidden_size, group, stacked=3, check=check, **options
        )
        # What the heads find has the shape that the ranks agreed on.
        self.linear_proj = RowParallelLinear(
            hidden_size, hidden_size, group, check=False, **options
        )

    @classmethod
    def from_reference(
        cls, attention: SelfAttention, group: dist.ProcessGroup, **options: Any
    ) -> Self:
        """Cut a plain attention, the same on every rank; options as for the class."""
        qkv, proj = attention.linear_qkv, attention.linear_proj
        options = {"causal": attention.causal, **like(qkv.weight, qkv.bias), **options}
        cut = cls(proj.in_features, attention.num_heads, group, **options)
        cut.linear_qkv.load_reference(qkv)
        cut.linear_proj.load_reference(proj)
        return cut

    def forward(self, x: Tensor) -> Tensor:
        """Take and return (sequence, batch, hidden_size).

        With ``sequence_parallel`` (sequence / tp, batch, hidden_size), this rank's tokens.
        """
        if x.ndim != 3:
            # The others compare notes in their first layer, and meet this one there.
            with agreed(self.linear_qkv.group, x, check=self.linear_qkv.check):
                check_sequence_first(x)
        qkv = self.linear_qkv(x)  # (s, b, h) → (s, b, 3h/t); with sequence parallelism from s/t
        found = attend(qkv, self.local_heads, causal=self.causal)  # → (s, b, h/t)
        y: Tensor = self.linear_proj(found)  # → (s, b, h), or (s/t, b, h)
        return y
