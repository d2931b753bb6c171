"""One step of training on all ranks, line by line.

Source: Megatron-LM ``megatron/core/distributed/finalize_model_grads.py`` and
``megatron/training/training.py`` (``train_step``).
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from math import isfinite
from typing import Protocol, runtime_checkable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .._checks import listed
from ..schedule import Plan
from .agreement import agreed, described
from .gpt import check_groups
from .optim import clip_grad_norm
from .pipeline import PipelineResult, execute
from .step_checks import (
    Groups,
    Optimizer,
    Stages,
    check_dealt,
    check_losses,
    check_step,
    everywhere,
    gpt_of,
    marks_of,
)
from .tensor import reduce_sequence_parallel_gradients
from .vocab import masked_cross_entropy


@dataclass(frozen=True)
class Step:
    """What a step of training came to; but for ``run`` the same on every rank.

    Attributes
    ----------
    loss : float
        The mean over all microbatches of all copies, before the step.
    gradient_norm : float
        Of the whole model, before it was clipped.
    run : PipelineResult
        What this rank computed and sent in its pipeline.
    """

    loss: float
    gradient_norm: float
    run: PipelineResult


@runtime_checkable
class AveragesByItself(Protocol):
    """A stage in a `DistributedDataParallel`."""

    def no_sync(self) -> AbstractContextManager[None]:
        """Let gradients add up within the block."""

    def finish(self) -> None:
        """Average them."""


def train_step(
    plan: Plan,
    stages: Stages,
    tokens: Tensor,
    targets: Tensor,
    groups: Groups,
    optimizer: Optimizer,
    *,
    max_norm: float = 1.0,
    step: int = 0,
) -> Step:
    """Do one step of training; every rank calls it, with the same batch.

    Parameters
    ----------
    plan : Plan
        Of each copy's pipeline.
    stages : mapping of int to Module
        This rank's stages, as `gpt_stage` makes them; each may be wrapped in a
        `DistributedDataParallel`.
    tokens, targets : Tensor of int64, shape (s, batch)
        The whole batch. Each copy takes its part, each microbatch its part of that. A target that
        is `MASKED` does not count.
    groups : mapping of str to ProcessGroup
        All groups of this rank.
    optimizer : Adam
        Of this rank's parameters.
    max_norm : float
        To which a longer gradient is scaled down.
    step : int
        Its number, for errors.

    Raises
    ------
    ValueError
        On every rank, whichever found it: before anything is computed, when the batch does not
        fit the model or the layout, or is not the same; before any parameter has changed, when a
        loss or the gradient is not finite.

    Notes
    -----
    The loss is the mean over microbatches of the means over their tokens, as Megatron has it
    without ``calculate_per_token_loss``. But for the checks a step is these lines, which may as
    well stand in a script::

        optimizer.zero_grad()
        run = pipeline.execute(plan, stages, inputs=…, targets=…, loss=…, group=groups["pp"])
        reduce_embedding_gradients(stages, groups)
        for stage in stages.values():
            reduce_sequence_parallel_gradients(stage, groups["tp"])
        average_gradients(stages, groups["dp-cp"])
        norm = clip_grad_norm(list(stages.values()), max_norm, tp=groups["tp"], pp=groups["pp"])
        optimizer.step()
    """
    check_groups(groups, "tp", "pp", "dp", "dp-cp")
    everywhere(
        groups,
        partial(check_step, tokens, targets, stages, plan, groups, optimizer, max_norm),
        marks=marks_of(tokens, targets, stages, plan),
    )
    optimizer.zero_grad()
    with gradients_kept(stages):
        run = execute(
            plan,
            stages,
            inputs=microbatches(tokens, plan, groups["dp"]),
            targets=microbatches(targets, plan, groups["dp"]),
            loss=partial(masked_cross_entropy, group=groups["tp"]),
            group=groups["pp"],
        )
    loss = everywhere(groups, partial(check_losses, run, step), loss=run.loss)
    reduce_embedding_gradients(stages, groups)
    for stage in stages.values():
        reduce_sequence_parallel_gradients(stage, groups["tp"])
    average_gradients(stages, groups["dp-cp"])
    norm = clip_grad_norm(list(stages.values()), max_norm, tp=groups["tp"], pp=groups["pp"])
    if not isfinite(norm):  # the same on every rank
        raise ValueError(f"step {step}: the norm of the gradient is {norm}; no parameter changed")
    optimizer.step()
    return Step(loss, norm, run)


def microbatches(batch: Tensor, plan: Plan, group: dist.ProcessGroup) -> list[Tensor]:
    """Return this copy's microbatches.

    Parameters
    ----------
    batch : Tensor of shape (s, dp × microbatches × b)
        Of all copies.
    plan : Plan
        Says how many microbatches.
    group : ProcessGroup
        ``groups["dp"]``.

    Returns
    -------
    list of Tensor of shape (s, b)

    Raises
    ------
    ValueError
        When the batch cannot be dealt evenly.
    """
    if not isinstance(batch, Tensor) or batch.ndim != 2:
        got = described(batch) if isinstance(batch, Tensor) else f"{batch!r:.80}"
        raise ValueError(f"a batch is a Tensor (sequence, batch), got {got}")
    check_dealt(batch.shape[1], plan, group.size())
    mine = batch.chunk(group.size(), dim=1)[group.rank()]  # (s, microbatches × b)
    return list(mine.chunk(plan.microbatches, dim=1))  # each (s, b)


# ---- gradients


def reduce_embedding_gradients(stages: Stages, groups: Groups) -> None:
    """Sum the gradients of the two copies of a tied embedding, in the first and the last stage.

    On two ranks that is an all-reduce over ``groups["embedding"]``. A plan in the shape of a V has
    both stages on one rank, where a sum is enough. One stage that is first and last has one
    parameter, and nothing to do.
    """
    copies = [copy for stage in stages.values() if (copy := gpt_of(stage).tied_copy) is not None]
    for copy in copies:
        if copy.grad is None and copy.requires_grad:  # the other one may have a gradient
            copy.grad = torch.zeros_like(copy)
    gradients = [copy.grad for copy in copies if copy.grad is not None]  # each (V/t, h)
    if len(gradients) == 2:
        total = gradients[0] + gradients[1]
        for gradient in gradients:
            gradient.copy_(total)
    elif gradients:
        dist.all_reduce(gradients[0], group=groups["embedding"])


def average_gradients(stages: Stages, group: dist.ProcessGroup) -> None:
    """Average the gradients over the copies of the model: a stage in one all-reduce.

    A `DistributedDataParallel` does it by itself, bucket by bucket.

    Raises
    ------
    ValueError
        On every rank of the group, when a parameter has a gradient on some of them alone.
    """
    for stage in stages.values():
        if isinstance(stage, AveragesByItself):
            stage.finish()
        elif group.size() > 1:
            _average(stage, group)


def _average(stage: nn.Module, group: dist.ProcessGroup) -> None:
    gradients = [p.grad for p in stage.parameters() if p.grad is not None]
    missing = [name for name, p in stage.named_parameters() if p.grad is None]
    flat = [gradient.flatten() for gradient in gradients]
    mean = torch.cat(flat) if flat else torch.empty(0)
    with agreed(group, mean, purpose=f" of gradients, of all but {listed(missing) or 'none'}"):
        pass
    dist.all_reduce(mean.div_(group.size()), group=group)
    parts = torch.split(mean, [gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


@contextmanager
def gradients_kept(stages: Stages) -> Iterator[None]:
    """Let wrappers that average gradients by themselves wait for `average_gradients`."""
    with ExitStack() as stack:
        for stage in stages.values():
            if isinstance(stage, AveragesByItself):
                stack.enter_context(stage.no_sync())
        yield
