"""Before and in a step of training: does all fit, and is it the same on every rank?"""

from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any, Protocol
from zlib import crc32

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .._checks import divisors, listed
from ..schedule import Plan
from ..waits import Awaited, waiting
from .agreement import LONGEST, described, exchanged
from .gpt import GPT
from .pipeline import PipelineResult
from .vocab import MASKED, check_targets, check_words

Groups = Mapping[str, dist.ProcessGroup]
Stages = Mapping[int, nn.Module]
"""This rank's stages by number: each a `GPT`, or a wrapper that has it as ``module``."""


class Optimizer(Protocol):
    """What updates this rank's parameters: an `Adam`, or one of torch's."""

    def step(self) -> object:
        """Update the parameters from their gradients."""

    def zero_grad(self) -> object:
        """Forget the gradients."""


def gpt_of(stage: nn.Module) -> GPT:
    """Return the model in a stage, which may be wrapped."""
    model = _inner(stage)
    assert isinstance(model, GPT)
    return model


def _inner(stage: object) -> object:
    return getattr(stage, "module", stage)


def check_step(
    tokens: Tensor,
    targets: Tensor,
    stages: Stages,
    plan: Plan,
    groups: Groups,
    optimizer: Optimizer,
    max_norm: float,
) -> None:
    """Raise unless all that a step is given fits together."""
    check_stages(stages, plan, groups)
    methods = [getattr(optimizer, name, None) for name in ("step", "zero_grad")]
    if isinstance(optimizer, type) or not all(map(callable, methods)):
        raise ValueError(f"an optimizer has step() and zero_grad(), got {optimizer!r:.80}")
    if isinstance(max_norm, bool) or not isinstance(max_norm, int | float) or not max_norm > 0:
        raise ValueError(f"max_norm must be a number above 0, got {max_norm!r}")
    check_batch(tokens, targets, stages, plan, groups)


def check_stages(stages: Stages, plan: Plan, groups: Groups) -> None:
    """Raise unless these are this rank's stages of a plan, cut for these groups."""
    if not isinstance(plan, Plan):
        raise ValueError(f"plan must be a Plan, as those of schedule are, got {plan!r:.80}")
    if not isinstance(stages, Mapping):
        raise ValueError(f"stages are a dict by number, got {type(stages).__name__}")
    if not stages or not all(isinstance(_inner(stage), GPT) for stage in stages.values()):
        kinds = [type(_inner(stage)).__name__ for stage in stages.values()]
        raise ValueError(f"stages are GPT, as gpt_stage makes them; got {listed(kinds) or 'none'}")
    for number, stage in stages.items():
        model, tp = gpt_of(stage), groups["tp"].size()
        if model.tp != tp:
            raise ValueError(f"stage {number} was made for tp={model.tp}, and the group has {tp}")
        if (model.stage, model.of) != (number, plan.stages):
            raise ValueError(
                f"stage {number} of the plan's {plan.stages} was made as stage {model.stage} of "
                f"{model.of}"
            )


def check_batch(
    tokens: Tensor, targets: Tensor, stages: Stages, plan: Plan, groups: Groups
) -> None:
    """Raise unless a batch fits the model and the layout."""
    for name, words in (("tokens", tokens), ("targets", targets)):
        if not isinstance(words, Tensor):
            raise ValueError(f"{name} must be a Tensor (sequence, batch), got {words!r:.80}")
    model, tp, dp = gpt_of(next(iter(stages.values()))), groups["tp"].size(), groups["dp"].size()
    config, counts = model.config, targets != MASKED
    if tokens.ndim != 2 or tokens.shape != targets.shape:
        raise ValueError(
            f"tokens and targets are (sequence, batch) both, got {described(tokens)} and "
            f"{described(targets)}"
        )
    for name, check, words in (
        ("tokens", check_words, tokens),
        ("targets", check_targets, targets[counts]),
    ):
        try:
            check(words, config.vocab_size)
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
    check_dealt(batch, plan, dp)
    empty = ~counts.view(sequence, dp * plan.microbatches, -1).any(dim=2).any(dim=0)  # (parts)
    if empty.any():
        copy, microbatch = divmod(int(empty.nonzero()[0]), plan.microbatches)
        raise ValueError(
            f"all targets of microbatch {microbatch} of copy {copy} are masked: it has no loss"
        )


def check_dealt(batch: int, plan: Plan, dp: int) -> None:
    """Raise unless each microbatch of each copy gets as much of a batch."""
    parts = dp * plan.microbatches
    if batch % parts:
        raise ValueError(
            f"a batch of {batch} cannot be dealt to dp={dp} × {plan.microbatches} microbatches; "
            f"a multiple of {parts} can"
        )


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
    marks: Mapping[str, int] | None = None,
) -> float:
    """Raise on every rank what a check finds on any; else return the mean of the copies' losses.

    A rank that raised alone would leave the others to wait for it. So each writes a note, which
    first its tp group reads, then the pipeline, then the other copies of the model. Notes go
    through the group objects: they belong to no layer's formula, and a recorder does not see them.

    Parameters
    ----------
    groups : mapping of str to ProcessGroup
        All groups of this rank.
    check : callable, optional
        Raises ``ValueError`` when this rank cannot go on.
    loss : float, optional
        Of this copy, where it is known.
    marks : mapping of str to int, optional
        Must be the same on all ranks, by what they are of.

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
    for kind in ("tp", "pp", "dp-cp"):  # fewer messages than one ring of all three
        notes = _notes(groups[kind], [problem, marks or {}, *losses[:1]])
        ranks = dist.get_process_group_ranks(groups[kind])
        different = [
            f"ranks {ranks[0]} and {rank} were given different {what}"
            for rank, note in zip(ranks, notes, strict=True)
            for what, mark in note[1].items()
            if mark != notes[0][1].get(what)
        ]
        problem = next(filter(None, [*(note[0] for note in notes), *different]), "")
        losses = [one for note in notes for one in note[2:]]
    if problem:
        raise ValueError(problem)
    return sum(losses) / len(losses) if losses else 0.0


def _notes(group: dist.ProcessGroup, note: list[Any]) -> list[list[Any]]:
    return waiting(Awaited("agree", group), lambda: exchanged(group, note))


def marks_of(tokens: Tensor, targets: Tensor, stages: Stages, plan: Plan) -> dict[str, int]:
    """Return what must be the same on every rank, as numbers; none of what a check refuses."""
    marks = {}
    if all(isinstance(words, Tensor) and words.dtype == torch.int64 for words in (tokens, targets)):
        words = b"".join(one.contiguous().cpu().numpy().tobytes() for one in (tokens, targets))
        marks["batches; all take the whole batch"] = crc32(words)
    models = [_inner(stage) for stage in stages.values()] if isinstance(stages, Mapping) else []
    if models and isinstance(models[0], GPT):
        made_of = f"{models[0].config}, sequence_parallel={models[0].sequence_parallel}"
        marks["models"] = crc32(made_of.encode())
    if isinstance(plan, Plan):
        marks["numbers of microbatches"] = plan.microbatches
    return marks
