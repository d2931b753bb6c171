"""Before a plan begins: what each rank was given fits, and all are about to do the same."""

import json
import secrets
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..._checks import listed
from ...schedule import Plan, validate
from ...waits import Awaited, waiting
from ..agreement import described
from .mail import CALL, wait

TIMEOUT = 60.0
"""Seconds for which a rank waits for a message, unless it is told otherwise."""
_SHORTEST, _LONGEST = 1e-3, 1e9

_NOTE = 2048
"""Bytes in which a rank introduces itself."""
_PROBLEM = 256
"""Characters of its problem that the others are told; JSON makes six bytes of some."""


@dataclass(frozen=True, kw_only=True)
class Given:
    """What one rank brings to a plan; of any type at all, until it is checked."""

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
        check_timeout(self.timeout)
        mine = plan.stages_of(rank)
        self._check_stages(rank, mine)
        if 0 in mine:
            self._check_inputs()
        if plan.stages - 1 in mine:
            if self.loss is None:
                raise ValueError(f"pipeline rank {rank} holds the last stage and needs a loss=")
            if not callable(self.loss):
                raise ValueError(f"loss must be a function, got {self.loss!r}")
            if self.targets is not None:
                self._check_microbatches("targets", self.targets)

    @property
    def mark(self) -> int:
        """The same number on every rank that has the same plan."""
        plan = self.plan
        return crc32(f"{plan.text} {plan.placement} {plan.microbatches}".encode())

    def _check_stages(self, rank: int, mine: Sequence[int]) -> None:
        stages = self.stages
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

    def _check_inputs(self) -> None:
        self._check_microbatches("inputs", self.inputs)
        assert self.inputs is not None
        first: Tensor | None = None
        for k in range(self.plan.microbatches):
            x = self.inputs[k]
            if not isinstance(x, Tensor):
                raise ValueError(f"inputs[{k}] must be a tensor, got {_kind(x)}")
            first = x if first is None else first
            if self.plan.pp > 1 and (x.shape, x.dtype) != (first.shape, first.dtype):
                raise ValueError(
                    f"inputs must have one shape and dtype, got {described(first.detach())} "
                    f"for microbatch 0 and {described(x.detach())} for microbatch {k}"
                )

    def _check_microbatches(self, name: str, given: Any) -> None:
        try:
            got = f"{len(given)}"
        except TypeError:
            got = "None" if given is None else f"{_kind(given)}, which has no length"
        if got != f"{self.plan.microbatches}":
            raise ValueError(
                f"{name} must be {self.plan.microbatches}, one for each microbatch, got {got}"
            )
        if not hasattr(given, "__getitem__"):
            raise ValueError(f"{name} must be a list or tensor, got {_kind(given)}")


def check_timeout(timeout: object) -> float:
    """Return a deadline that gloo can keep: it counts in milliseconds, and 0 would be for ever.

    >>> check_timeout(0)
    Traceback (most recent call last):
        ...
    ValueError: timeout must be between 0.001 and 1e9 seconds, got 0
    """
    if isinstance(timeout, int | float) and _SHORTEST <= timeout <= _LONGEST:
        return float(timeout)
    raise ValueError(f"timeout must be between 0.001 and 1e9 seconds, got {timeout!r}")


def _kind(given: object) -> str:
    return f"a {type(given).__name__}"


@dataclass(frozen=True)
class Start:
    """What the ranks agreed on.

    Attributes
    ----------
    begun : float
        The reading of ``time.perf_counter`` from which this rank counts seconds.
    first_tag : int
        Of the messages of this run.
    """

    begun: float
    first_tag: int


def begin(given: Given, group: dist.ProcessGroup) -> Start:
    """Check what every rank was given before any waits for a message.

    Raises
    ------
    ValueError
        On every rank, when one of them was given something that does not fit, or another plan.
    TimeoutError
        When not all ranks begin in time.
    """
    mark, problem = 0, None
    try:
        given.check(dist.get_rank(group), dist.get_world_size(group))
        mark = given.mark
    except ValueError as error:
        problem = error
    except Exception as error:  # as what a sequence of the user's own may raise: the others wait
        problem = ValueError(f"what was given raises {type(error).__name__}: {error}")
        problem.__cause__ = error
    notes = _exchanged(
        {
            "problem": str(problem)[:_PROBLEM] if problem else "",
            "plan": mark,
            "host": socket.gethostname(),
            "clock": time.perf_counter(),
            "tag": secrets.randbelow(2**31),
        },
        group,
        _kept(given.timeout),
    )
    if problem:
        raise problem
    for rank, note in enumerate(notes):
        if note["problem"]:
            raise ValueError(f"pipeline rank {rank} cannot begin: {note['problem']}")
        if note["plan"] != notes[0]["plan"]:
            raise ValueError(f"pipeline ranks 0 and {rank} were given different plans")
    # On one machine all read the same clock; the last to come begins the run. Clocks of several
    # machines have nothing in common: there each counts from now.
    one_machine = len({note["host"] for note in notes}) == 1
    begun = max(note["clock"] for note in notes) if one_machine else time.perf_counter()
    return Start(begun, notes[0]["tag"])


def _kept(timeout: object) -> float:
    """Return a deadline for saying that something is wrong, even if it is the deadline."""
    try:
        return check_timeout(timeout)
    except ValueError:
        return TIMEOUT


def _exchanged(
    note: dict[str, Any], group: dist.ProcessGroup, timeout: float
) -> list[dict[str, Any]]:
    """Return every rank's note. Not through ``torch.distributed``: no part of what is recorded."""
    text = json.dumps(note, ensure_ascii=False).encode(errors="replace")
    mine = torch.frombuffer(bytearray(text.ljust(_NOTE)), dtype=torch.uint8)
    notes = [torch.empty_like(mine) for _ in range(dist.get_world_size(group))]
    here = Awaited(CALL, group)
    work = waiting(here, lambda: group.allgather([notes], [mine]))
    wait(work, timeout, f"pipeline rank {dist.get_rank(group)} waited for all ranks to begin", here)
    return [json.loads(bytes(note.tolist())) for note in notes]
