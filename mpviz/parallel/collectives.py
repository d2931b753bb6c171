"""Megatron's operators between the parts of a cut layer: pairs, each the other's backward.

===========  ==============  ==================================================
forward      backward        for example
===========  ==============  ==================================================
copy         all-reduce      f before the products that are cut by column
all-reduce   copy            g after the products that are cut by row
split        all-gather      one rank's columns, or its tokens, of a whole tensor
all-gather   split           and back, when all ranks then do the same with it
all-gather   reduce-scatter  f with sequence parallelism
reduce-s.    all-gather      g with sequence parallelism
===========  ==============  ==================================================

Sources: Megatron-LM ``megatron/core/tensor_parallel/mappings.py``, whose names these are; Shoeybi
et al. 2019 (arXiv 1909.08053), figure 3; Korthikanti et al. 2022 (arXiv 2205.05198), figure 5.
The group is always an argument. With one rank in it every function returns its input.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function

from .._checks import divisors, listed
from ..shards import times
from .agreement import agreed, check_group, described

# torch 2.13 renames both. Looked up by name at each call, so that a recorder may wrap them.
_NEW = hasattr(dist, "all_gather_single")
_ALL_GATHER = "all_gather_single" if _NEW else "all_gather_into_tensor"
_REDUCE_SCATTER = "reduce_scatter_single" if _NEW else "reduce_scatter_tensor"


# ---- tensor parallelism: whole tensors, columns (the last dimension) and partial sums


def copy_to_tensor_model_parallel_region(
    x: Tensor, group: dist.ProcessGroup, *, check: bool = True
) -> Tensor:
    """f: the same tensor; its gradient is summed over the group.

    Parameters
    ----------
    x : Tensor
        Any shape, the same on every rank.
    group : ProcessGroup
        The tensor-parallel group; this rank is in it.
    check : bool
        Whether the ranks first compare shape and dtype, so that all raise where otherwise some
        would wait for ever. It costs as much as the smallest all-reduce: between two gloo ranks
        a few tenths of a millisecond. On every rank the same.

    Raises
    ------
    ValueError
        On every rank, when the ranks disagree or ``x`` holds integers; on a rank outside the
        group, when that one calls.
    """
    return _apply(_copy, x, group, check)


def reduce_from_tensor_model_parallel_region(
    x: Tensor, group: dist.ProcessGroup, *, check: bool = True, inplace: bool = False
) -> Tensor:
    """g: the sum of all ranks' tensors; each gets the gradient as it is.

    Parameters
    ----------
    x : Tensor
        An addend of the result.
    group, check
        As for `copy_to_tensor_model_parallel_region`.
    inplace : bool
        Whether ``x`` itself may become the sum, which saves a copy.
    """
    return _apply(_all_reduce_in_place if inplace else _all_reduce, x, group, check)


def scatter_to_tensor_model_parallel_region(
    x: Tensor, group: dist.ProcessGroup, *, check: bool = True
) -> Tensor:
    """Keep this rank's part of the last dimension, which tp must divide; gather the gradient.

    Parameters as for `copy_to_tensor_model_parallel_region`.
    """
    return _apply(_split_columns, x, group, check)


def gather_from_tensor_model_parallel_region(
    x: Tensor, group: dist.ProcessGroup, *, check: bool = True
) -> Tensor:
    """Join all ranks' parts along the last dimension; of the gradient keep this rank's part.

    Right when afterwards all ranks compute the same, so that each has the whole gradient.
    Parameters as for `copy_to_tensor_model_parallel_region`.
    """
    return _apply(_gather_columns, x, group, check)


# ---- sequence parallelism: tokens (the first dimension) and partial sums


def scatter_to_sequence_parallel_region(
    x: Tensor, group: dist.ProcessGroup, *, check: bool = True
) -> Tensor:
    """Keep this rank's part of the sequence, dimension 0; gather the gradient.

    Parameters as for `copy_to_tensor_model_parallel_region`.
    """
    return _apply(_split_tokens, x, group, check)


def gather_from_sequence_parallel_region(
    x: Tensor,
    group: dist.ProcessGroup,
    *,
    tensor_parallel_output_grad: bool = True,
    check: bool = True,
) -> Tensor:
    """Join all ranks' tokens along dimension 0: f with sequence parallelism.

    Parameters
    ----------
    x, group, check
        As for `copy_to_tensor_model_parallel_region`.
    tensor_parallel_output_grad : bool
        Whether each rank goes on with its own part of a weight. Then its gradient is an addend,
        and backward sums and splits it (reduce-scatter). Otherwise all ranks go on to compute the
        same, and backward only splits it.
    """
    gather = _gather_tokens_for_addends if tensor_parallel_output_grad else _gather_tokens
    return _apply(gather, x, group, check)


def reduce_scatter_to_sequence_parallel_region(
    x: Tensor, group: dist.ProcessGroup, *, check: bool = True
) -> Tensor:
    """Sum, and keep this rank's tokens: g with sequence parallelism; gather the gradient.

    Parameters as for `copy_to_tensor_model_parallel_region`; ``x`` is an addend, and tp divides
    its dimension 0.
    """
    return _apply(_reduce_scatter_tokens, x, group, check)


# ---- the operators, without gradients; t stands for the ranks of the group

_Operation = Callable[[Tensor, dist.ProcessGroup], Tensor]


def _copy(x: Tensor, group: dist.ProcessGroup) -> Tensor:
    return x.view_as(x)


def _all_reduce(x: Tensor, group: dist.ProcessGroup) -> Tensor:
    # Somebody else may hold x too, so the sum goes elsewhere.
    return _all_reduce_in_place(x.clone(memory_format=torch.contiguous_format), group)


def _all_reduce_in_place(x: Tensor, group: dist.ProcessGroup) -> Tensor:
    dist.all_reduce(x, group=group)
    return x


def _split(x: Tensor, group: dist.ProcessGroup, dim: int) -> Tensor:
    part = x.chunk(group.size(), dim)[group.rank()]  # (s, …, h) → (s/t, …, h) or (s, …, h/t)
    # A part of its own: a view would keep the whole tensor alive.
    return part.clone(memory_format=torch.contiguous_format)


def _gather(x: Tensor, group: dist.ProcessGroup, dim: int) -> Tensor:
    joined, _ = all_gather(x, group)  # (s, …, h) → (s·t, …, h)
    return joined if dim == 0 else torch.cat(joined.chunk(group.size()), dim)  # → (s, …, h·t)


def _gather_tokens_for_addends(x: Tensor, group: dist.ProcessGroup) -> Tensor:
    return all_gather(x, group)[0]  # (s/t, …, h) → (s, …, h)


def _reduce_scatter_tokens(x: Tensor, group: dist.ProcessGroup) -> Tensor:
    return reduce_scatter(x, group)[0]  # (s, …, h) → (s/t, …, h)


_split_tokens, _split_columns = partial(_split, dim=0), partial(_split, dim=-1)
_gather_tokens, _gather_columns = partial(_gather, dim=0), partial(_gather, dim=-1)

_BACKWARD: dict[_Operation, _Operation] = {
    _copy: _all_reduce,
    _all_reduce: _copy,
    _all_reduce_in_place: _copy,
    _split_columns: _gather_columns,
    _gather_columns: _split_columns,
    _split_tokens: _gather_tokens,
    _gather_tokens: _split_tokens,
    _gather_tokens_for_addends: _reduce_scatter_tokens,
    _reduce_scatter_tokens: _gather_tokens_for_addends,
}
_CUTS = {_split_columns: -1, _split_tokens: 0, _reduce_scatter_tokens: 0}
_JOINS = {_gather_columns: -1, _gather_tokens: 0, _gather_tokens_for_addends: 0}
"""Along which dimension."""


# ---- with gradients


class TypedFunction(Function):
    """A function with a backward of its own, typed."""

    @classmethod
    def on(cls, *given: Any) -> Tensor:
        """Apply it, and remember how to go back."""
        result: Tensor = cls.apply(*given)  # type: ignore[no-untyped-call]
        return result


class _Pair(TypedFunction):
    """An operator; backward applies the one beside it in the table."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup, operator: _Operation) -> Tensor:
        ctx.group, ctx.operator = group, operator
        y = operator(x, group)
        if y is x:
            ctx.mark_dirty(x)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _Pair.on(gradient, ctx.group, _BACKWARD[ctx.operator]), None, None


def _apply(operator: _Operation, x: Tensor, group: dist.ProcessGroup, check: bool) -> Tensor:
    """Apply an operator, or raise on every rank if one cannot take part."""
    tp = check_group(group).size()
    with agreed(group, x, check=check):
        check_differentiable(x)
        if operator in _CUTS:
            check_even(x, _CUTS[operator], tp)
        elif operator in _JOINS:
            check_even(x, _JOINS[operator], 1)
    return _Pair.on(x, group, operator) if tp > 1 else x


def check_differentiable(x: Tensor) -> None:
    """Raise unless a tensor's numbers can have a gradient."""
    if not (x.is_floating_point() or x.is_complex()):
        raise ValueError(f"{described(x)} has no gradient; x.float() has")


def check_even(x: Tensor, dim: int, parts: int) -> None:
    """Raise unless a dimension can be cut into equal parts; say how many would fit.

    >>> check_even(torch.ones(5, 8), dim=0, parts=2)
    Traceback (most recent call last):
        ...
    ValueError: 5 (dimension 0 of 5×8) cannot be cut into 2 equal parts; tp may be 1 or 5
    """
    if not x.ndim:
        raise ValueError(f"{described(x)} has no dimension to cut or join")
    size = x.shape[dim]
    if size % parts:
        raise ValueError(
            f"{size} (dimension {dim % x.ndim} of {times(x.shape)}) cannot be cut into {parts} "
            f"equal parts; tp may be {listed(divisors(size), ' or ')}"
        )


# ---- the two that torch wants a result tensor for


def all_gather(
    x: Tensor, group: dist.ProcessGroup, *, async_op: bool = False
) -> tuple[Tensor, dist.Work | None]:
    """Join all ranks' tensors along dimension 0; with ``async_op`` wait before using the result."""
    joined = x.new_empty((group.size() * x.shape[0], *x.shape[1:]))
    work = getattr(dist, _ALL_GATHER)(joined, x.contiguous(), group=group, async_op=async_op)
    return joined, work


def reduce_scatter(
    x: Tensor, group: dist.ProcessGroup, *, async_op: bool = False
) -> tuple[Tensor, dist.Work | None]:
    """Sum all ranks' tensors, keep this rank's part of dimension 0; ``async_op`` as above."""
    part = x.new_empty((x.shape[0] // group.size(), *x.shape[1:]))
    work = getattr(dist, _REDUCE_SCATTER)(part, x.contiguous(), group=group, async_op=async_op)
    return part, work
