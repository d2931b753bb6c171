"""Before a plan begins: what each rank was given fits, and all are about to do the same."""

import secrets
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple
from zlib import crc32

import torch.distributed as dist
from torch import Tensor, nn

from ..._checks import listed
from ...schedule import Plan, validate
from ...waits import Awaited, waiting
from ..agreement import LONGEST, described, exchanged
from .p2p import CALL, wait

TIMEOUT = 60.0
"""Seconds for which a rank waits for a message, unless it is told otherwise."""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """What one rank passes to `execute`; of any type at all, until it is checked."""

    plan: Plan
    stages: Mapping[int, nn.Module]
    inputs: Sequence[Tensor] | None
    targets: Sequence[Any] | None
    loss: Callable[..., Tensor] | None
    timeout: float

    def check(self, rank: int, size: int) -> None:
        """Raise unless all that this rank needs is there."""
        plan = self.plan
        if not isinstance(plan, Plan):
            raise ValueError(f"plan must be a Plan, as schedule.parse reads one, got {plan!r}")
        validate(plan)
        if size != plan.pp:
            raise ValueError(f"the plan is for pp={plan.pp} ranks, and the group has {size}")
        mine = plan.stages_of(rank)
        _check_stages(self.stages, mine, rank)
        if 0 in mine:
            _check_microbatches("inputs", self.inputs, plan)
            _check_inputs(self.inputs, plan)
        if plan.stages - 1 in mine:
            if self.loss is None:
                raise ValueError(f"pipeline rank {rank} holds the last stage and needs a loss=")
            if not callable(self.loss):
                raise ValueError(f"loss must be a function, got {self.loss!r}")
            if self.targets is not None:
                _check_microbatches("targets", self.targets, plan)


class Start(NamedTuple):
    """Where a run counts from.

    Attributes
    ----------
    begun : float
        The reading of ``time.perf_counter`` that is second 0 on this rank.
    first_tag : int
        Of the messages of this run, the same on every rank.
    """

    begun: float
    first_tag: int


def preflight(arguments: Arguments, group: dist.ProcessGroup) -> Start:
    """Check the arguments of every rank before any waits for a message.

    Raises
    ------
    ValueError
        On every rank, when one of them was given something that does not fit, or another plan.
    TimeoutError
        When not all ranks begin in time.
    """
    rank, plan = group.rank(), arguments.plan
    refusal, timeout = None, TIMEOUT
    try:
        timeout = check_timeout(arguments.timeout)
        arguments.check(rank, group.size())
    except ValueError as error:
        refusal = error
    except Exception as error:  # as what a sequence of the user's own may raise: the others wait
        refusal = ValueError(f"what was given raises {type(error).__name__}: {error}")
        refusal.__cause__ = error
    note = {
        "refusal": str(refusal)[:LONGEST] if refusal else "",
        "plan": 0 if refusal else crc32(f"{plan.text} {plan.placement}".encode()),
        "host": socket.gethostname(),
        "clock": time.perf_counter(),
        "tag": secrets.randbelow(2**31),
    }
    here, what = Awaited(CALL, group), f"pipeline rank {rank} waited for all ranks to begin"
    within = partial(wait, timeout=timeout, what=what, awaited=here)
    notes = waiting(here, lambda: exchanged(group, note, wait=within))
    if refusal:
        raise refusal
    return _start(notes)


def _start(notes: Sequence[Mapping[str, Any]]) -> Start:
    """Return the start of the run, unless a rank refuses or has another plan."""
    for rank, note in enumerate(notes):
        if note["refusal"]:
            raise ValueError(f"pipeline rank {rank} cannot begin: {note['refusal']}")
        if note["plan"] != notes[0]["plan"]:
            raise ValueError(f"pipeline ranks 0 and {rank} were given different plans")
    # On one machine all read the same clock; the last to come begins the run. Clocks of several
    # machines have nothing in common: there each counts from now.
    one_machine = len({note["host"] for note in notes}) == 1
    begun = max(note["clock"] for note in notes) if one_machine else time.perf_counter()
    return Start(begun, notes[0]["tag"])


def check_timeout(timeout: object) -> float:
    """Return a deadline that gloo can keep: it counts in milliseconds, and 0 would be for ever.

    >>> check_timeout(0)
    Traceback (most recent call last):
        ...
    ValueError: timeout must be between 0.001 and 1e9 seconds, got 0
    """
    if isinstance(timeout, int | float) and 1e-3 <= timeout <= 1e9:
        return float(timeout)
    raise ValueError(f"timeout must be between 0.001 and 1e9 seconds, got {timeout!r}")


def _check_stages(stages: object, mine: Sequence[int], rank: int) -> None:
    if not isinstance(stages, Mapping):
        raise ValueError(f"stages must be a dict of modules by stage, got {_kind(stages)}")
    if set(stages) != set(mine):
        raise ValueError(
            f"pipeline rank {rank} holds stages {listed(mine)} in this plan, and was given "
            f"modules for {listed(sorted(stages, key=str)) or 'none'}"
        )
    for stage, module in stages.items():
        if not callable(module):
            raise ValueError(f"stages[{stage}] must be a module, got {module!r}")


def _check_microbatches(name: str, given: Any, plan: Plan) -> None:
    try:
        got = f"{len(given)}"
    except TypeError:
        got = "None" if given is None else f"{_kind(given)}, which has no length"
    if got != f"{plan.microbatches}":
        raise ValueError(f"{name} must be {plan.microbatches}, one for each microbatch, got {got}")
    if not hasattr(given, "__getitem__"):
        raise ValueError(f"{name} must be a list or tensor, got {_kind(given)}")


def _check_inputs(inputs: Any, plan: Plan) -> None:
    for k in range(plan.microbatches):
        x, first = inputs[k], inputs[0]
        if not isinstance(x, Tensor):
            raise ValueError(f"inputs[{k}] must be a tensor, got {_kind(x)}")
        if plan.pp > 1 and (x.shape, x.dtype) != (first.shape, first.dtype):
            raise ValueError(
                f"inputs must have one shape and dtype, got {described(first.detach())} "
                f"for microbatch 0 and {described(x.detach())} for microbatch {k}"
            )


def _kind(given: object) -> str:
    return f"a {type(given).__name__}"
