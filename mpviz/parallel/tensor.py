"""Linear layers whose weight is cut over a tensor-parallel group: by column, or by row.

In comments t is the size of the group, s the sequence, h the hidden and f the inner size. Sources:
Megatron-LM ``megatron/core/tensor_parallel/layers.py``, whose names these are; Shoeybi et al. 2019
(arXiv 1909.08053), section 3.
"""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .._checks import listed, whole_number
from ..shards import Cut, times
from .agreement import agreed, check_group
from .collectives import (
    TypedFunction,
    all_gather,
    gather_from_tensor_model_parallel_region,
    reduce_from_tensor_model_parallel_region,
    reduce_scatter,
    reduce_scatter_to_sequence_parallel_region,
    scatter_to_tensor_model_parallel_region,
)
from .cutlinear import CutLinear


class ColumnParallelLinear(CutLinear):
    """Y = X·A + b with A cut by column: each rank computes some columns of Y.

    Parameters
    ----------
    input_size, output_size : int
        Of the whole layer; tp divides ``output_size``.
    group : ProcessGroup
        The tensor-parallel group; this rank is in it.
    bias : bool
        Whether there is b, cut as the columns are. It starts at zero.
    gather_output : bool
        Whether every rank gets all columns of Y, rather than its own.
    sequence_parallel : bool
        Whether each rank is given its part of the sequence (dimension 0) of X, rather than all.
        Then X is gathered in forward, and once more in backward rather than kept.
    stacked : int
        Matrices on top of each other in the weight, each of which is cut: 3 for Q, K and V.
    generator : torch.Generator, optional
        Draws the whole weight, uniform within ±1/√input_size. In the same state on every rank it
        gives the same model whatever tp is. None: torch's default one.
    dtype : torch.dtype, optional
        Of the parameters.
    device : torch.device or str, optional
        Where they live; they are drawn on the CPU, the same for any device. Tried on the CPU and
        on "meta", which has shapes alone; no GPU has run this yet.
    check : bool
        Whether the ranks compare what they are given before they communicate (see
        `copy_to_tensor_model_parallel_region`). On every rank the same.

    Raises
    ------
    ValueError
        When tp does not divide the columns, or this rank is not in the group.

    Notes
    -----
    ``forward`` takes X (…, input_size), with ``sequence_parallel`` (sequence / tp, …,
    input_size), and returns (…, output_size / tp). Its gradient equals that of
    ``F.linear(copy_to_tensor_model_parallel_region(x, group), weight, bias)``, but while the
    gradient of X travels, that of the weight is computed.
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        group: dist.ProcessGroup,
        *,
        bias: bool = True,
        gather_output: bool = False,
        sequence_parallel: bool = False,
        stacked: int = 1,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        check: bool = True,
    ) -> None:
        tp = check_group(group).size()
        stacked = whole_number("stacked", stacked)
        if gather_output and (sequence_parallel or stacked > 1):
            raise ValueError("gather_output needs sequence_parallel=False and stacked=1")
        if output_size % stacked:
            raise ValueError(f"output_size={output_size} is not {stacked} matrices of one size")
        columns = output_size // stacked
        matrix = Cut("A", (input_size, columns), tp, dim=1)
        vector = Cut("b", (columns,), tp, dim=0) if bias else None
        super().__init__(matrix, vector, group, stacked, generator, dtype, device, check)
        self.gather_output, self.sequence_parallel = gather_output, sequence_parallel

    def forward(self, x: Tensor) -> Tensor:
        """Multiply; see the notes of the class for shapes."""
        self._check(x, self.input_size, split=False)
        if self.group.size() == 1:
            return F.linear(x, self.weight, self.bias)
        # (…, h), or with sequence parallelism (s/t, …, h) → (…, f/t)
        y = _LinearAfterF.on(x, self.weight, self.bias, self.group, self.sequence_parallel)
        if self.gather_output:  # → (…, f)
            y = gather_from_tensor_model_parallel_region(y, self.group, check=False)
        return y


class RowParallelLinear(CutLinear):
    """Y = X·A + b with A cut by row: each rank computes an addend of Y.

    Parameters
    ----------
    input_size, output_size : int
        Of the whole layer; tp divides ``input_size``.
    group, generator, dtype, device, check
        As for `ColumnParallelLinear`.
    bias : bool
        Whether there is b: whole on every rank, and added once, after the sum. It starts at zero.
    input_is_parallel : bool
        Whether each rank is given its own columns of X, as `ColumnParallelLinear` leaves them.
        Otherwise X is whole, and each rank takes its columns.
    sequence_parallel : bool
        Whether each rank gets its part of the sequence (dimension 0) of Y, rather than all. Then
        the gradient of b, too, is of these tokens alone until `reduce_sequence_parallel_gradients`.

    Notes
    -----
    ``forward`` takes X (…, input_size / tp) and returns Y (…, output_size), with
    ``sequence_parallel`` (sequence / tp, …, output_size).
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        group: dist.ProcessGroup,
        *,
        bias: bool = True,
        input_is_parallel: bool = True,
        sequence_parallel: bool = False,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        check: bool = True,
    ) -> None:
        tp = check_group(group).size()
        if sequence_parallel and not input_is_parallel:
            raise ValueError("sequence_parallel=True needs input_is_parallel=True")
        matrix = Cut("A", (input_size, output_size), tp, dim=0)
        vector = Cut("b", (output_size,), tp) if bias else None
        super().__init__(matrix, vector, group, 1, generator, dtype, device, check)
        self.input_is_parallel, self.sequence_parallel = input_is_parallel, sequence_parallel
        if self.bias is not None:
            self.bias.sequence_parallel = sequence_parallel  # type: ignore[attr-defined]

    def forward(self, x: Tensor) -> Tensor:
        """Multiply and add up; see the notes of the class for shapes."""
        width = self.matrix.local_shape[0] if self.input_is_parallel else self.input_size
        self._check(x, width, split=self.sequence_parallel)
        if not self.input_is_parallel:  # (…, f) → (…, f/t)
            x = scatter_to_tensor_model_parallel_region(x, self.group, check=False)
        y = F.linear(x, self.weight)  # (…, f/t) → (…, h), an addend
        if self.sequence_parallel:  # (s, …, h) → (s/t, …, h)
            y = reduce_scatter_to_sequence_parallel_region(y, self.group, check=False)
        else:
            # Nobody else holds the addend, so the sum may take its place.
            y = reduce_from_tensor_model_parallel_region(y, self.group, check=False, inplace=True)
        return y if self.bias is None else y + self.bias


class _LinearAfterF(TypedFunction):
    """X·A + b after f, whose backward sums the gradient of X while it computes that of A."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        group: dist.ProcessGroup,
        sequence_parallel: bool,
    ) -> Tensor:
        ctx.group, ctx.sequence_parallel = group, sequence_parallel
        ctx.save_for_backward(x, weight)
        if sequence_parallel:
            x, _ = all_gather(x, group)  # (s/t, …, h) → (s, …, h)
        return F.linear(x, weight, bias)  # (s, …, h) → (s, …, f/t)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        of_x, of_weight, *of_bias = (_goes_on_to(node) for node, _ in ctx.next_functions)
        dx = dweight = dbias = gathering = reducing = None
        if ctx.sequence_parallel and of_weight:
            x, gathering = all_gather(x, ctx.group, async_op=True)  # (s/t, …, h) → (s, …, h)
        if of_x:
            dx = dy @ weight  # (s, …, f/t) → (s, …, h), an addend
            if ctx.sequence_parallel:  # (s, …, h) → (s/t, …, h)
                dx, reducing = reduce_scatter(dx, ctx.group, async_op=True)
            else:
                reducing = dist.all_reduce(dx, group=ctx.group, async_op=True)
        rows = dy.reshape(-1, dy.shape[-1])  # (s, …, f/t) → (tokens, f/t)
        if any(of_bias):
            dbias = rows.sum(0)  # (f/t)
        if of_weight:
            if gathering:
                gathering.wait()
            dweight = rows.t() @ x.reshape(-1, x.shape[-1])  # (f/t, h)
        if reducing:
            reducing.wait()
        return dx, dweight, dbias, None, None


def _goes_on_to(node: Any) -> bool:
    """Whether the backward under way needs a gradient there.

    ``ctx.needs_input_grad`` says what the forward could have needed. With that, a backward in two
    halves, as pipelines without bubbles have it, would communicate in both.
    """
    try:
        return node is not None and torch._C._will_engine_execute_node(node)
    except RuntimeError:  # not known of a leaf for which `autograd.grad` was called
        return True


def reduce_sequence_parallel_gradients(
    module: nn.Module, group: dist.ProcessGroup, *, check: bool = True
) -> None:
    """Sum the gradients of parameters that are whole, but saw only this rank's tokens.

    With sequence parallelism these are the biases of row-parallel layers, and all that is marked
    ``parameter.sequence_parallel = True``, such as the weights of a LayerNorm. Once per step,
    after backward, in one all-reduce.

    Parameters
    ----------
    module : nn.Module
        With the same parameters marked on every rank.
    group, check
        As for `ColumnParallelLinear`.

    Raises
    ------
    ValueError
        On every rank, when one lacks a gradient that another has.

    Notes
    -----
    Source: Megatron-LM ``megatron/core/distributed/finalize_model_grads.py``,
    ``_allreduce_non_tensor_model_parallel_grads``.
    """
    named, gradients = [], []
    for name, parameter in module.named_parameters():
        if getattr(parameter, "sequence_parallel", False) and parameter.grad is not None:
            named.append(f"{name} {times(parameter.shape)}")
            gradients.append(parameter.grad)
    if check_group(group).size() == 1:
        return
    nothing = next(module.parameters(), torch.empty(0)).new_empty(0)
    together = torch.cat([one.flatten() for one in gradients]) if gradients else nothing
    which = f", the gradients of {listed(named, ' and ')}" if named else ", no marked gradient"
    with agreed(group, together, purpose=which, check=check):
        pass
    if not gradients:
        return
    dist.all_reduce(together, group=group)
    sums = torch.split(together, [gradient.numel() for gradient in gradients])
    for gradient, total in zip(gradients, sums, strict=True):
        gradient.copy_(total.view_as(gradient))
