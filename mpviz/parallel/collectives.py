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

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function

from .._checks import divisors, listed
from ..shards import times
from .agreement import agree, check_group, described

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
    return _Copy.on(x, group) if _ready(x, group, check) else x


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
    return _AllReduce.on(x, group, inplace) if _ready(x, group, check) else x


def scatter_to_tensor_model_parallel_region(
    x: Tensor, group: dist.ProcessGroup, *, check: bool = True
) -> Tensor:
    """Keep this rank's part of the last dimension, which tp must divide; gather the gradient.

    Parameters as for `copy_to_tensor_model_parallel_region`.
    """
    return _Split.on(x, group, -1) if _ready(x, group, check, split=-1) else x


def gather_from_tensor_model_parallel_region(
    x: Tensor, group: dist.ProcessGroup, *, check: bool = True
) -> Tensor:
    """Join all ranks' parts along the last dimension; of the gradient keep this rank's part.

    Right when afterwards all ranks compute the same, so that each has the whole gradient.
    Parameters as for `copy_to_tensor_model_parallel_region`.
    """
    return _Gather.on(x, group, -1) if _ready(x, group, check, join=-1) else x


# ---- sequence parallelism: tokens (the first dimension) and partial sums


def scatter_to_sequence_parallel_region(
    x: Tensor, group: dist.ProcessGroup, *, check: bool = True
) -> Tensor:
    """Keep this rank's part of the sequence, dimension 0; gather the gradient.

    Parameters as for `copy_to_tensor_model_parallel_region`.
    """
    return _Split.on(x, group, 0) if _ready(x, group, check, split=0) else x


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
    if not _ready(x, group, check, join=0):
        return x
    return _GatherAddends.on(x, group) if tensor_parallel_output_grad else _Gather.on(x, group, 0)


def reduce_scatter_to_sequence_parallel_region(
    x: Tensor, group: dist.ProcessGroup, *, check: bool = True
) -> Tensor:
    """Sum, and keep this rank's tokens: g with sequence parallelism; gather the gradient.

    Parameters as for `copy_to_tensor_model_parallel_region`; ``x`` is an addend, and tp divides
    its dimension 0.
    """
    return _ReduceScatter.on(x, group) if _ready(x, group, check, split=0) else x


# ---- the pairs


class TypedFunction(Function):
    """A function with a backward of its own, typed."""

    @classmethod
    def on(cls, *given: Any) -> Tensor:
        """Apply it, and remember how to go back."""
        result: Tensor = cls.apply(*given)  # type: ignore[no-untyped-call]
        return result


class _Copy(TypedFunction):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _AllReduce.on(gradient, ctx.group, False), None


class _AllReduce(TypedFunction):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup, inplace: bool) -> Tensor:
        ctx.group = group
        if inplace:
            ctx.mark_dirty(x)
        # Somebody else may hold x too, so unless told otherwise the sum goes elsewhere.
        total = x if inplace else x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _Copy.on(gradient, ctx.group), None, None


class _Split(TypedFunction):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup, dim: int) -> Tensor:
        ctx.group, ctx.dim = group, dim
        # A part of its own: a view would keep the whole tensor alive.
        return x.chunk(group.size(), dim)[group.rank()].clone(memory_format=torch.contiguous_format)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _Gather.on(gradient, ctx.group, ctx.dim), None, None


class _Gather(TypedFunction):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup, dim: int) -> Tensor:
        ctx.group, ctx.dim = group, dim
        joined, _ = all_gather(x, group)
        return joined if dim == 0 else torch.cat(joined.chunk(group.size()), dim)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _Split.on(gradient, ctx.group, ctx.dim), None, None


class _GatherAddends(TypedFunction):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        return all_gather(x, group)[0]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _ReduceScatter.on(gradient, ctx.group), None


class _ReduceScatter(TypedFunction):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        return reduce_scatter(x, group)[0]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _GatherAddends.on(gradient, ctx.group), None


# ---- before any of them


def _ready(
    x: Tensor,
    group: object,
    check: bool,
    *,
    split: int | None = None,
    join: int | None = None,
) -> bool:
    """Raise on every rank if one cannot take part; tell whether there is anything to do."""
    group = check_group(group)
    problem = ""
    if not (x.is_floating_point() or x.is_complex()):
        problem = f"{described(x)} has no gradient; x.float() has"
    elif split is not None:
        problem = uneven(x, split, group.size())
    elif join is not None:
        problem = uneven(x, join, 1)
    agree(group, x, problem=problem, check=check)
    return group.size() > 1


def uneven(x: Tensor, dim: int, tp: int) -> str:
    """Say why a dimension cannot be cut and what would fit; nothing if it can."""
    if not x.ndim:
        return f"{described(x)} has no dimension to cut or join"
    size = x.shape[dim]
    if size % tp == 0:
        return ""
    return (
        f"{size} (dimension {dim % x.ndim} of {times(x.shape)}) cannot be cut into {tp} equal "
        f"parts; tp may be {listed(divisors(size), ' or ')}"
    )


# ---- without gradients


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
