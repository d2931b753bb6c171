"""A linear layer of which each rank holds a part.

Pictures write X·A with A (inner, columns). ``torch.nn.Linear`` stores the transpose: ``weight``
is (out_features, in_features), and its rows are the columns of A.
"""

from math import sqrt
from typing import Any, Self

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..shards import Cut, times
from .agreement import agreed, described
from .collectives import check_even


class CutLinear(nn.Module):
    """A part of a linear layer.

    ``stacked`` matrices of the same size may lie on top of each other in one weight; each is cut.
    """

    bias: nn.Parameter | None

    def __init__(
        self,
        matrix: Cut,
        vector: Cut | None,
        group: dist.ProcessGroup,
        stacked: int,
        generator: torch.Generator | None,
        dtype: torch.dtype | None,
        device: torch.device | str | None,
        check: bool,
    ) -> None:
        super().__init__()
        self.matrix, self.vector, self.group = matrix, vector, group
        self.stacked, self.check = stacked, check
        self._purpose = f" into {matrix}"
        self.input_size, self.output_size = matrix.shape[0], stacked * matrix.shape[1]
        # All ranks draw the whole weight and keep their part: the same model whatever tp is.
        bound = 1 / sqrt(self.input_size)
        whole = torch.empty(self.output_size, self.input_size, dtype=dtype)
        whole.uniform_(-bound, bound, generator=generator)
        self.weight = nn.Parameter(self._part(whole, matrix).to(device))
        zeros = whole.new_zeros(self.output_size)
        self.bias = nn.Parameter(self._part(zeros, vector).to(device)) if vector else None

    @classmethod
    def from_reference(cls, linear: nn.Linear, group: dist.ProcessGroup, **options: Any) -> Self:
        """Cut a plain linear layer: every rank keeps a copy of its own part.

        Parameters
        ----------
        linear : nn.Linear
            The same on every rank.
        group : ProcessGroup
            As for the class, and so are the options.
        """
        make: Any = cls  # whose arguments the subclasses name
        options = {**like(linear.weight, linear.bias), **options}
        layer: Self = make(linear.in_features, linear.out_features, group, **options)
        layer.load_reference(linear)
        return layer

    @torch.no_grad()
    def load_reference(self, linear: nn.Linear) -> None:
        """Copy this rank's part from a whole layer of the same sizes."""
        if (linear.bias is None) != (self.bias is None):
            raise ValueError(f"{linear} does not fit {self}: one has a bias, the other has none")
        self.weight.copy_(self._part(linear.weight, self.matrix))
        if self.bias is not None and self.vector is not None:
            self.bias.copy_(self._part(linear.bias, self.vector))

    def _part(self, whole: Tensor, cut: Cut) -> Tensor:
        rank = self.group.rank()  # by column: (stacked·f, h) → (stacked·f/t, h)
        return torch.cat([cut.part(one.t(), rank).t() for one in whole.chunk(self.stacked)])

    def _check(self, x: Tensor, width: int, *, split: bool) -> None:
        """Raise on every rank if one cannot multiply what it was given."""
        with agreed(self.group, x, purpose=self._purpose, check=self.check):
            if x.dtype != self.weight.dtype:
                weight = described(self.weight.detach())
                raise ValueError(f"X is {described(x)}, but the weight is {weight}")
            if not x.ndim or x.shape[-1] != width:
                raise ValueError(f"X is {times(x.shape)}, but its last dimension must be {width}")
            if split:
                check_even(x, 0, self.group.size())

    def extra_repr(self) -> str:
        """Return what is cut, and how."""
        stack = f"{self.stacked} × " if self.stacked > 1 else ""
        return f"{stack}{self.matrix}, {'with' if self.bias is not None else 'without'} bias"


def like(weight: Tensor, bias: Tensor | None) -> dict[str, Any]:
    """Return the options of a layer that will be given these parameters."""
    unused = torch.Generator()  # torch's own one must not move on
    return {
        "bias": bias is not None,
        "dtype": weight.dtype,
        "device": weight.device,
        "generator": unused,
    }
