"""Data parallelism: copies of a model that learn from the mean of their gradients.

Sources: Li et al. 2020 (arXiv 2006.15704), PyTorch's DistributedDataParallel, sections 3.2 and 4;
Megatron-LM ``megatron/core/distributed/distributed_data_parallel.py``.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any
from weakref import ReferenceType, WeakMethod, ref

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .._checks import whole_number
from ..shards import Bucket, buckets_of
from ..waits import Awaited, waiting
from .agreement import agreed, check_group
from .collectives import reduce_scatter
from .copies import device_of, start_equal


class DistributedDataParallel(nn.Module):
    """A copy of a module whose gradients become the mean over all copies.

    Gradients lie in buckets, in the order in which backward reaches them. As soon as the last
    gradient of a bucket is there its all-reduce begins, and backward goes on meanwhile.

    Parameters
    ----------
    module : Module
        With the same parameters, in the same order, on every rank. Their values, and the buffers,
        are taken from the first rank of the group.
    group : ProcessGroup
        Everybody who holds a copy: ``groups["dp-cp"]``.
    bucket_bytes : int
        Size with which a bucket is full; the parameter that reaches it is the last in it.
    overlap : bool
        Whether a bucket leaves during backward. Otherwise all leave after it.
    check : bool
        Whether the ranks compare, once for each sum, how often forward was called and which
        parameters got a gradient: one small all-reduce. On every rank the same.

    Raises
    ------
    ValueError
        On every rank, when the parameters differ in number, order, shape, dtype, or in which are
        frozen. At the end of a backward, with ``check``, when the ranks have made different numbers
        of forward passes in training mode since the last: one has left out a backward.

    Notes
    -----
    It is the mean over the ranks, whatever each has computed its loss from: with batches of
    different sizes not the mean over all samples. A parameter without a gradient counts as 0; if no
    rank has one, its ``.grad`` stays None (without ``check`` it is 0). Frozen parameters and
    buffers are left alone.

    Examples
    --------
    >>> from mpviz import ParallelLayout, World
    >>> def trained(rank, groups):
    ...     import torch
    ...     from mpviz.parallel import DistributedDataParallel
    ...     model = DistributedDataParallel(torch.nn.Linear(1, 1), groups["dp-cp"])
    ...     model(torch.tensor([[float(rank)]])).sum().backward()
    ...     return model.module.weight.grad.item()
    >>> with World(ParallelLayout(nodes=1, gpus_per_node=2)) as world:
    ...     list(world.run(trained))
    [0.5, 0.5]
    """

    def __init__(
        self,
        module: nn.Module,
        group: dist.ProcessGroup,
        *,
        bucket_bytes: int = 25 * 2**20,
        overlap: bool = True,
        check: bool = True,
    ) -> None:
        super().__init__()
        self.module, self.group = module, check_group(group)
        self.overlap, self.check = overlap, check
        same = f", {bucket_bytes=}, {overlap=}, {check=}"
        with agreed(group, torch.empty(0, device=device_of(module)), purpose=same):
            whole_number("bucket_bytes", bucket_bytes)
        start_equal(module, group)
        self.buckets = list(_buckets(module, group, bucket_bytes))
        self._after: int | None = 1  # backwards until a gradient is whole; None: not known yet
        self._by_itself = True  # whether the end of a backward is the end of its gradients
        self._at_the_end: ReferenceType[Any] | None = None  # of a backward: alive until it is over
        self._sent = self._forwards = 0
        self.is_whole = True  # whether all gradients that came are in means
        arrived = WeakMethod(self._arrived)  # else a wrapper that was replaced would go on
        for number, bucket in enumerate(self.buckets):
            for n, parameter in enumerate(bucket.parameters):
                hook = partial(_call_if_alive, arrived, number, n)
                parameter.register_post_accumulate_grad_hook(hook)  # type: ignore[no-untyped-call]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the module returns."""
        if self.training and torch.is_grad_enabled():
            self._check_unchanged()
            self._forwards += 1
        return self.module(*args, **kwargs)

    def _check_unchanged(self) -> None:
        """Raise if a parameter learns that is in no bucket, so that nobody would average it."""
        known = {id(p) for bucket in self.buckets for p in bucket.parameters}
        for name, parameter in self.module.named_parameters():
            if parameter.requires_grad and id(parameter) not in known:
                raise ValueError(
                    f"{name} is new, or was frozen, since the module was wrapped: its gradient "
                    f"would not be averaged; wrap the module again, on every rank"
                )

    # ---- when gradients are whole

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Let gradients add up here; the first backward outside, or `finish`, averages them."""
        with self._whole_after(None):
            yield

    @contextmanager
    def sync_after(self, backwards: int) -> Iterator[None]:
        """Average what so many backwards add up to, such as those of a pipeline's microbatches.

        A bucket leaves when each of its parameters has got as many gradients; what then has not
        left does so at the end of the block.

        Examples
        --------
        On a rank of a pipeline::

            with model.sync_after(plan.microbatches):
                pipeline.execute(plan, {stage: model}, …)
        """
        try:
            with self._whole_after(whole_number("backwards", backwards)):
                yield
        except BaseException:
            self._start_over()
            raise
        self.finish()

    @contextmanager
    def _whole_after(self, backwards: int | None) -> Iterator[None]:
        before = self._after, self._by_itself
        self._after, self._by_itself = backwards, False
        try:
            yield
        finally:
            self._after, self._by_itself = before

    def _arrived(self, number: int, n: int) -> None:
        """Put a gradient that backward has just added to into its bucket."""
        if self._by_itself:
            self._finish_with_this_backward()
        self.is_whole = False
        bucket = self.buckets[number]
        bucket.arrived[n] += self._after is not None
        bucket.take(n, last=bucket.arrived[n] == self._after)
        if self.overlap and self._after is not None and bucket.whole(self._after):
            self._send_in_order()

    def _finish_with_this_backward(self) -> None:
        if self._at_the_end is not None:
            if self._at_the_end() is not None:
                return  # in this backward, or in one inside it, as of a checkpoint
            self._start_over()  # the last one has raised
        at_the_end = partial(self.finish)
        self._at_the_end = ref(at_the_end)
        torch.autograd.Variable._execution_engine.queue_callback(at_the_end)

    def _start_over(self) -> None:
        self._sent, self._at_the_end = 0, None
        for bucket in self.buckets:
            bucket.wait()
            bucket.be_ready()

    def _send_in_order(self) -> None:
        """Send each bucket that is whole, unless one before it is not: all ranks, in one order."""
        assert self._after is not None
        while self._sent < len(self.buckets) and self.buckets[self._sent].whole(self._after):
            self._send_next()

    def _send_next(self) -> None:
        bucket = self.buckets[self._sent]
        if bucket.stage == 2 and self._sent:
            self.buckets[self._sent - 1].wait()  # whole gradients of two buckets at most
        bucket.send()
        self._sent += 1

    def finish(self) -> None:
        """Send what has not been sent, and wait for all: now the gradients are means."""
        while self._sent < len(self.buckets):
            self._send_next()
        self._sent, self._at_the_end = 0, None
        used = iter(self._used_anywhere())
        for bucket in self.buckets:
            bucket.wait()
            bucket.keep([next(used) for _ in bucket.parameters])
        self.is_whole = True

    def _used_anywhere(self) -> list[bool]:
        """Return which parameters got a gradient on any rank; raise if one left out a backward."""
        used = [used or not self.check for bucket in self.buckets for used in bucket.used]
        if not self.check:
            return used
        told = torch.tensor([self._forwards, -self._forwards, *used], device=device_of(self.module))
        self._forwards = 0
        most, least_negated, *anywhere = _highest(told, self.group).tolist()
        if most != -least_negated:
            self._start_over()
            raise ValueError(
                f"between two sums of gradients the ranks have made {-least_negated} to {most} "
                f"forward passes in training: one has left out a backward. A forward that none "
                f"follows belongs under torch.no_grad()"
            )
        return list(map(bool, anywhere))


class GradientBucket:
    """The gradients of some parameters in one buffer, and their mean over a group.

    Parameters
    ----------
    plan : Bucket
        Where each lies.
    parameters : sequence of Parameter
        In the order of the plan.
    group : ProcessGroup
        Whose mean it is.

    Attributes
    ----------
    stage : int
        Of ZeRO. 0: every rank gets the whole mean (all-reduce). 1: each gets its shard of it
        (reduce-scatter), and keeps the buffer. 2: each gets its shard, and the buffer is freed.
    buffer : Tensor or None
        Of ``plan.padded_numel``, whose parts the ``.grad`` of the parameters are.
    shard : Tensor or None
        Of ``plan.shard_numel``: this rank's part of the mean, in stages 1 and 2.
    """

    def __init__(
        self, plan: Bucket, parameters: Sequence[nn.Parameter], group: dist.ProcessGroup
    ) -> None:
        self.plan, self.parameters, self.group = plan, parameters, group
        self.stage = 0
        self.buffer: Tensor | None = None
        self.shard: Tensor | None = None
        self._views: list[Tensor] = []
        self._work: dist.Work | None = None
        self._part: Tensor | None = None
        self._is_sent = False
        self._scaled: set[int] = set()
        self.used = [False] * len(parameters)
        self.arrived: Counter[int] = Counter()

    def take(self, n: int, *, last: bool) -> None:
        """Move the gradient of a parameter into the buffer; if it is the last, as its addend.

        An addend of the mean: the gradient over the size of the group.
        """
        parameter = self.parameters[n]
        if self._is_sent or n in self._scaled or (self.stage == 1 and self.shard is not None):
            raise ValueError(self._too_late(list(self.plan.shapes)[n]))
        if self.buffer is None:
            self._allocate()
        view, share = self._views[n], 1 / self.group.size() if last else 1.0
        if parameter.grad is None:
            view.zero_()
            self.used[n] &= self.shard is not None  # whoever cleared the gradient: it had none
        elif last or parameter.grad is not view:
            torch.mul(parameter.grad.detach(), share, out=view)
            parameter.grad = view
            self.used[n] = True
        if last:
            self._scaled.add(n)

    def whole(self, backwards: int) -> bool:
        """Whether each parameter has got so many gradients."""
        count = self.arrived
        return len(count) == len(self.parameters) and min(count.values()) >= backwards

    def send(self) -> None:
        """Begin to average."""
        for n in range(len(self.parameters)):
            if n not in self._scaled:
                self.take(n, last=True)
        self._is_sent, size = True, self.group.size()
        assert self.buffer is not None
        if self.stage and size > 1:
            self._part, self._work = reduce_scatter(self.buffer, self.group, async_op=True)
        elif self.stage:
            self._part = self.buffer
        elif size > 1:
            self._work = dist.all_reduce(self.buffer, group=self.group, async_op=True)

    def wait(self) -> None:
        """Wait until the mean is there, whole or this rank's shard."""
        if self._work is not None:
            self._work.wait()
        if self._part is not None:
            self._keep_shard(self._part)
        self._work = self._part = None

    def _keep_shard(self, part: Tensor) -> None:
        assert self.buffer is not None
        if self.stage == 1:
            self.shard = self.buffer[self.plan.shard(self.group.rank())]
            self.shard.copy_(part)
        else:
            self.shard = part if self.shard is None else self.shard.add_(part)
            self.buffer, self._views = None, []
        for parameter in self.parameters:
            parameter.grad = None

    def keep(self, used: Sequence[bool]) -> None:
        """Keep the means of the parameters that got a gradient anywhere; be ready for more."""
        if self.stage == 0:
            for parameter, view, anywhere in zip(self.parameters, self._views, used, strict=True):
                parameter.grad = view if anywhere else None
        self.used = list(used)
        self.be_ready()

    def be_ready(self) -> None:
        """Take the gradients of another backward."""
        if self.stage == 0:  # otherwise means add up until `clear`
            self.used = [False] * len(self.parameters)
        self.arrived.clear()
        self._scaled.clear()
        self._is_sent = False

    def clear(self) -> None:
        """Forget all gradients."""
        self.shard = None
        self.used = [False] * len(self.parameters)
        for parameter in self.parameters:
            parameter.grad = None

    def _allocate(self) -> None:
        like = self.parameters[0]
        self.buffer = like.new_zeros(self.plan.padded_numel, requires_grad=False)
        self._views = [
            self.buffer[span].view(shape)
            for span, shape in zip(self.plan.spans.values(), self.plan.shapes.values(), strict=True)
        ]

    def _too_late(self, name: str) -> str:
        if self._is_sent or self._scaled:
            return (
                f"a gradient of {name} came after its last: more backwards than sync_after was "
                f"told, or one in parts; accumulate under no_sync(), then call finish()"
            )
        return (
            f"a gradient of {name} came before zero_grad(), and of the last one this rank has kept "
            f"its shard alone (stage=1); accumulate under no_sync(), or with stage=2"
        )


def _call_if_alive(method: "WeakMethod[Any]", number: int, n: int, _: Tensor) -> None:
    if (alive := method()) is not None:
        alive(number, n)


def _buckets(
    module: nn.Module, group: dist.ProcessGroup, bucket_bytes: int
) -> Iterator[GradientBucket]:
    """Yield the buckets of all parameters that learn; each is of one dtype."""
    learning = {name: p for name, p in module.named_parameters() if p.requires_grad}
    for dtype in dict.fromkeys(p.dtype for p in learning.values()):
        shapes = {name: tuple(p.shape) for name, p in learning.items() if p.dtype == dtype}
        full = -(-bucket_bytes // dtype.itemsize)
        for plan in buckets_of(shapes, group.size(), full=full):
            yield GradientBucket(plan, [learning[name] for name in plan.shapes], group)


def _highest(numbers: Tensor, group: dist.ProcessGroup) -> Tensor:
    """Return the highest over all ranks, in place; no part of what a recorder sees."""
    if group.size() > 1:
        options = dist.AllreduceOptions()
        options.reduceOp = dist.ReduceOp(dist.ReduceOp.MAX)
        waiting(Awaited("agree", group), lambda: group.allreduce([numbers], options).wait())
    return numbers
