"""ZeRO: optimizer and gradients cut into shards, one for each copy of a model.

=====  ============================  ====================  =======================
stage  a rank keeps its shard of     and the whole of      elements sent in a step
=====  ============================  ====================  =======================
0      nothing                       all three             2Ψ: all-reduce
1      optimizer state               gradients, weights    2Ψ: reduce-scatter, all-gather
2      optimizer state, gradients    weights               2Ψ: the same
3      all three                     nothing               3Ψ: one more all-gather
=====  ============================  ====================  =======================

Each times (n-1)/n for n ranks. Stages 1 and 2 differ in what becomes of a buffer of whole
gradients: in stage 1 it stays, so that microbatches add up in it and are summed over the ranks once
a step; in stage 2 it is freed as soon as its mean is scattered, and each backward sends its own
(under ``no_sync`` they add up in whole gradients, as in stage 1).

Source: Rajbhandari et al. 2020 (arXiv 1910.02054), sections 5 and 7; Megatron-LM
``megatron/core/optimizer/distrib_optimizer.py``; PyTorch's ``fully_shard``.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from ..shards import Bucket
from .agreement import agreed
from .collectives import all_gather
from .data import DistributedDataParallel, GradientBucket


class DistributedOptimizer:
    """An optimizer of which each rank holds a shard: ZeRO 1 and 2.

    The ranks reduce-scatter the gradients, each updates its shard of the weights, and all-gather
    these. What is updated does not change: any optimizer will do that treats each element by
    itself, as SGD and Adam do.

    Parameters
    ----------
    model : DistributedDataParallel
        Its buckets become what is cut into shards, and its weights move into such buffers.
    optimizer : callable
        Makes the optimizer of a list of parameters: this rank's shards, one-dimensional, a part of
        a parameter each. ``lambda shards: torch.optim.AdamW(shards, lr=1e-3)``.
    stage : int
        0: nothing is cut; 1: the optimizer; 2: the gradients too.

    Attributes
    ----------
    optimizer : object
        What ``optimizer`` made.
    shards : dict
        Of each parameter in whole or in part this rank's: its shard, by name of the parameter.

    Raises
    ------
    ValueError
        When the model is no `DistributedDataParallel`, or there is no such stage. In a backward
        with ``stage=1``, when the last gradients have been summed and not yet cleared.

    Examples
    --------
    >>> from mpviz import ParallelLayout, World
    >>> def trained(groups):
    ...     import torch
    ...     from mpviz import parallel
    ...     model = parallel.DistributedDataParallel(torch.nn.Linear(4, 1), groups["dp-cp"])
    ...     optimizer = parallel.DistributedOptimizer(model, parallel.Adam, stage=1)
    ...     model(torch.ones(1, 4)).sum().backward()
    ...     optimizer.step()
    ...     return {name: shard.numel() for name, shard in optimizer.shards.items()}
    >>> with World(ParallelLayout(nodes=1, gpus_per_node=2)) as world:
    ...     list(world.run(trained))
    [{'bias': 1, 'weight': 2}, {'weight': 2}]
    """

    def __init__(
        self,
        model: DistributedDataParallel,
        optimizer: Callable[[list[nn.Parameter]], Any],
        *,
        stage: int = 1,
    ) -> None:
        if not isinstance(model, DistributedDataParallel):
            raise ValueError(
                f"a DistributedOptimizer takes a DistributedDataParallel, got "
                f"{type(model).__name__}"
            )
        first = next(model.parameters(), torch.empty(0))
        with agreed(model.group, first, purpose=f", {stage=}"):
            _check_stage(stage)
        self.model, self.stage = model, stage
        for bucket in model.buckets:  # of an optimizer before this one
            bucket.stage = stage
            bucket.clear()
        self.shards: dict[str, nn.Parameter] = {}
        self._buckets = model.buckets if stage else []
        self._weights = [self._cut(bucket) for bucket in self._buckets]
        if not stage:
            self.shards = {n: p for n, p in model.module.named_parameters() if p.requires_grad}
        # A rank whose shard is padding alone has nothing to update.
        self.optimizer = optimizer(list(self.shards.values()) or [nn.Parameter(torch.empty(0))])

    def _cut(self, bucket: GradientBucket) -> Tensor:
        """Move the weights of a bucket into one buffer; return it."""
        plan, rank = bucket.plan, self.model.group.rank()
        buffer = flattened(plan, bucket.parameters)
        for parameter, span in zip(bucket.parameters, plan.spans.values(), strict=True):
            parameter.data = buffer[span].view(parameter.shape)
        shard = buffer[plan.shard(rank)]
        self.shards |= {name: nn.Parameter(shard[at]) for name, at in plan.in_shard(rank).items()}
        return buffer

    @torch.no_grad()
    def step(self) -> None:
        """Update this rank's shard of the weights, and get the others."""
        if not self.model.is_whole:
            raise ValueError(
                "the gradients are not averaged yet: call finish() after no_sync(), or zero_grad() "
                "after a backward that raised"
            )
        for bucket, buffer in zip(self._buckets, self._weights, strict=True):
            check_in(buffer, bucket.plan.shapes, bucket.parameters)
            self._hand_over(bucket)
        self.optimizer.step()
        if self.model.group.size() > 1:
            self._gather_weights()

    def _gather_weights(self) -> None:
        group = self.model.group
        under_way = [
            all_gather(buffer[bucket.plan.shard(group.rank())], group, async_op=True)
            for bucket, buffer in zip(self._buckets, self._weights, strict=True)
        ]
        for buffer, (joined, work) in zip(self._weights, under_way, strict=True):
            assert work is not None
            work.wait()
            buffer.copy_(joined)

    def _hand_over(self, bucket: GradientBucket) -> None:
        """Give each shard its part of the mean gradient, or None where no rank has one."""
        used = dict(zip(bucket.plan.shapes, bucket.used, strict=True))
        for name, place in bucket.plan.in_shard(self.model.group.rank()).items():
            has_one = used[name] and bucket.shard is not None
            self.shards[name].grad = bucket.shard[place] if has_one else None  # type: ignore[index]

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for bucket in self.model.buckets:
            bucket.clear()
        self.model.is_whole = True
        for shard in self.shards.values():
            shard.grad = None

    def __repr__(self) -> str:
        return f"{type(self.optimizer).__name__}, stage {self.stage}, of {self.model.group.size()}"


def _check_stage(stage: object) -> None:
    if stage not in (0, 1, 2):
        raise ValueError(f"stage may be 0, 1 or 2, got {stage!r}; 3 is fully_shard")


def check_in(buffer: Tensor, names: Iterable[str], tensors: Iterable[Tensor]) -> None:
    """Raise if a tensor is no part of its buffer any more: an update would not reach it."""
    for name, tensor in zip(names, tensors, strict=True):
        if tensor.untyped_storage().data_ptr() != buffer.untyped_storage().data_ptr():
            raise ValueError(
                f"{name} was moved out of the buffer that is cut into shards, such as by .to() or "
                f"by an assignment to .data; do so before"
            )


def flattened(plan: Bucket, tensors: Sequence[Tensor]) -> Tensor:
    """Return a buffer with a copy of each tensor where the plan has it."""
    buffer = tensors[0].detach().new_zeros(plan.padded_numel)
    for tensor, span in zip(tensors, plan.spans.values(), strict=True):
        buffer[span] = tensor.detach().flatten()
    return buffer


def held_bytes(model: nn.Module, optimizer: Any) -> dict[str, int]:
    """Return what a rank's weights, gradients and optimizer take now, in bytes.

    Parameters
    ----------
    model : Module
        Plain, `DistributedDataParallel`, or fully sharded.
    optimizer : object
        A `DistributedOptimizer`, or any with a ``state``.

    Returns
    -------
    dict of str to int
        Storage that is really allocated, padding included, once where tensors share it.
    """
    copies = (m for m in model.modules() if isinstance(m, DistributedDataParallel))
    buckets = [bucket for copy in copies for bucket in copy.buckets]
    weights = list(model.parameters())
    gradients = [parameter.grad for parameter in weights]
    gradients += chain.from_iterable((bucket.buffer, bucket.shard) for bucket in buckets)
    inner = optimizer.optimizer if isinstance(optimizer, DistributedOptimizer) else optimizer
    state = chain.from_iterable(of.values() for of in inner.state.values())
    return {
        "weights": _allocated(weights),
        "gradients": _allocated(gradients),
        "optimizer": _allocated(state),
    }


def _allocated(tensors: Iterable[Any]) -> int:
    storages = (t.untyped_storage() for t in tensors if isinstance(t, Tensor))
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
