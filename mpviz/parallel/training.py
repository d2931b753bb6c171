"""One step of training on all ranks, line by line.

Source: Megatron-LM ``megatron/core/distributed/finalize_model_grads.py`` and
``megatron/training/training.py`` (``train_step``).
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from math import isfinite
from typing import Any, Protocol, runtime_checkable
from zlib import crc32

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .._checks import divisors, listed
from ..schedule import Plan
from ..waits import Awaited, waiting
from .agreement import LONGEST, agreed, described, exchanged
from .gpt import GPT, MASKED, masked_cross_entropy
from .optim import clip_grad_norm
from .pipeline import PipelineResult, execute
from .tensor import reduce_sequence_parallel_gradients
from .vocab import check_words

Groups = Mapping[str, dist.ProcessGroup]
Stages = Mapping[int, nn.Module]
"""This rank's stages by number: each a `GPT`, or a wrapper that has it as ``module``."""


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


class Optimizer(Protocol):
    """What updates this rank's parameters: an `Adam`, or one of torch's."""

    def step(self) -> object:
        """Update the parameters from their gradients."""

    def zero_grad(self) -> object:
        """Forget the gradients."""


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
    check = partial(check_batch, tokens, targets, stages, plan, groups)
    everywhere(groups, check, mark=_checksum(tokens, targets))
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
    """
    mine = batch.chunk(group.size(), dim=1)[group.rank()]  # (s, microbatches × b)
    return list(mine.chunk(plan.microbatches, dim=1))  # each (s, b)


# ---- gradients


def reduce_embedding_gradients(stages: Stages, groups: Groups) -> None:
    """Sum the gradients of the two copies of a tied embedding, in the first and the last stage.

    On two ranks that is an all-reduce over ``groups["embedding"]``. A plan in the shape of a V has
    both stages on one rank, where a sum is enough. One stage that is first and last has one
    parameter, and nothing to do.
    """
    copies = [copy for stage in stages.values() if (copy := _gpt(stage).tied_copy) is not None]
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


def _gpt(stage: nn.Module) -> GPT:
    model = _inner(stage)
    assert isinstance(model, GPT)
    return model


def _inner(stage: object) -> object:
    return getattr(stage, "module", stage)


# ---- what may go wrong


def check_batch(
    tokens: Tensor, targets: Tensor, stages: Stages, plan: Plan, groups: Groups
) -> None:
    """Raise unless a batch fits the model and the layout."""
    _check_kinds(tokens, targets, stages)
    model, tp, dp = _gpt(next(iter(stages.values()))), groups["tp"].size(), groups["dp"].size()
    config, counts = model.config, targets != MASKED
    if tokens.ndim != 2 or tokens.shape != targets.shape:
        raise ValueError(
            f"tokens and targets are (sequence, batch) both, got {described(tokens)} and "
            f"{described(targets)}"
        )
    for name, words in (("tokens", tokens), ("targets", targets[counts])):
        try:
            check_words(words, config.vocab_size)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    sequence, batch = tokens.shape
    if not tokens.numel():
        raise ValueError(f"a batch must have tokens, got {described(tokens)}")
    if sequence > config.sequence:
        raise ValueError(
            f"the model sees {config.sequence} tokens at most, got a sequence of {sequence}"
        )
    if model.sequence_parallel and sequence % tp:
        fits = listed(divisors(sequence), " or ")
        raise ValueError(f"a sequence of {sequence} cannot be cut for tp={tp}; tp may be {fits}")
    parts = dp * plan.microbatches
    if batch % parts:
        raise ValueError(
            f"a batch of {batch} cannot be dealt to dp={dp} × {plan.microbatches} microbatches; "
            f"a multiple of {parts} can"
        )
    empty = ~counts.view(sequence, parts, -1).any(dim=2).any(dim=0)  # (parts)
    if empty.any():
        copy, microbatch = divmod(int(empty.nonzero()[0]), plan.microbatches)
        raise ValueError(
            f"all targets of microbatch {microbatch} of copy {copy} are masked: it has no loss"
        )


def _check_kinds(tokens: object, targets: object, stages: Mapping[int, object]) -> None:
    for name, words in (("tokens", tokens), ("targets", targets)):
        if not isinstance(words, Tensor):
            raise ValueError(f"{name} must be a Tensor (sequence, batch), got {words!r:.80}")
    if not stages or not all(isinstance(_inner(stage), GPT) for stage in stages.values()):
        kinds = [type(_inner(stage)).__name__ for stage in stages.values()]
        raise ValueError(f"stages are GPT, as gpt_stage makes them; got {listed(kinds) or 'none'}")


def check_losses(run: PipelineResult, step: int) -> None:
    """Raise if a loss that this rank knows is not finite."""
    for microbatch, loss in enumerate(run.losses or ()):
        if not isfinite(loss):
            raise ValueError(
                f"step {step}: the loss of microbatch {microbatch} is {loss} on rank "
                f"{dist.get_rank()}; no parameter changed"
            )


def everywhere(
    groups: Groups,
    check: Callable[[], object] | None = None,
    *,
    loss: float | None = None,
    mark: int = 0,
) -> float:
    """Raise on every rank what a check finds on any; else return the mean of the copies' losses.

    A rank that raised alone would leave the others to wait for it. So each writes a note, which
    first the ranks of its model copy read, then those of the other copies. Notes go through the
    group objects: they belong to no layer's formula, and a recorder does not see them.

    Parameters
    ----------
    groups : mapping of str to ProcessGroup
        All groups of this rank.
    check : callable, optional
        Raises ``ValueError`` when this rank cannot go on.
    loss : float, optional
        Of this copy, where it is known.
    mark : int
        Must be the same on all ranks: of the batch.

    Raises
    ------
    ValueError
        On every rank the same, that of the first rank that has one.
    """
    problem, losses = "", [] if loss is None else [loss]
    try:
        if check is not None:
            check()
    except ValueError as error:
        problem = f"{error}"[:LONGEST]
    except Exception as error:  # as of what is no batch at all: the others wait
        problem = f"what was given raises {type(error).__name__}: {error}"[:LONGEST]
    for kind in ("tp-pp", "dp-cp"):
        notes = _notes(groups[kind], [problem, mark, *losses[:1]])
        ranks = dist.get_process_group_ranks(groups[kind])
        different = [
            f"ranks {ranks[0]} and {rank} were given different batches; all take the whole batch"
            for rank, note in zip(ranks, notes, strict=True)
            if note[1] != notes[0][1]
        ]
        problem = next(filter(None, [*(note[0] for note in notes), *different]), "")
        losses = [one for note in notes for one in note[2:]]
    if problem:
        raise ValueError(problem)
    return sum(losses) / len(losses) if losses else 0.0


def _notes(group: dist.ProcessGroup, note: list[Any]) -> list[list[Any]]:
    return waiting(Awaited("agree", group), lambda: exchanged(group, note))


def _checksum(*tensors: Tensor) -> int:
    """Return a mark of a batch; 0 for what is none, which a check refuses."""
    if not all(isinstance(tensor, Tensor) and not tensor.is_floating_point() for tensor in tensors):
        return 0
    return crc32(b"".join(tensor.contiguous().numpy().tobytes() for tensor in tensors))
