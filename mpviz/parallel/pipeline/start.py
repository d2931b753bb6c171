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
from .mail import wait

_NOTE = 2048
"""Bytes in which a rank introduces itself."""
_PROBLEM = 256
"""Characters of its problem that the others are told; JSON may make six bytes of each."""


@dataclass(frozen=True, kw_only=True)
class Given:
    """What one rank brings to a plan."""

    plan: Plan
    stages: Mapping[int, nn.Module]
    inputs: Sequence[Tensor] | None
    targets: Sequence[Any] | None
    loss: Callable[..., Tensor] | None

    def check(self, rank: int, size: int) -> None:
        """Raise unless all that this rank needs is there."""
        plan = self.plan
        validate(plan)
        if size != plan.pp:
            raise ValueError(f"the plan is for pp={plan.pp} ranks, and the group has {size}")
        mine = plan.stages_of(rank)
        if sorted(self.stages) != list(mine):
            raise ValueError(
                f"pipeline rank {rank} holds stages {listed(mine)} in this plan, and was given "
                f"modules for {listed(sorted(self.stages)) or 'none'}"
            )
        if 0 in mine:
            self._check_microbatches("inputs", self.inputs)
        if plan.stages - 1 in mine:
            if self.loss is None:
                raise ValueError(f"pipeline rank {rank} holds the last stage and needs a loss=")
            if self.targets is not None:
                self._check_microbatches("targets", self.targets)

    @property
    def mark(self) -> int:
        """The same number on every rank that has the same plan."""
        plan = self.plan
        return crc32(f"{plan.text} {plan.placement} {plan.microbatches}".encode())

    def _check_microbatches(self, name: str, given: Sequence[Any] | None) -> None:
        got = "None" if given is None else f"{len(given)}"
        if got != f"{self.plan.microbatches}":
            raise ValueError(
                f"{name} must be {self.plan.microbatches}, one for each microbatch, got {got}"
            )


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


def begin(given: Given, group: dist.ProcessGroup, timeout: float) -> Start:
    """Check what every rank was given before any waits for a message.

    Raises
    ------
    ValueError
        On every rank, when one of them was given something that does not fit, or another plan.
    TimeoutError
        When not all ranks begin in time.
    """
    problem = ""
    try:
        given.check(dist.get_rank(group), dist.get_world_size(group))
    except ValueError as error:
        problem = str(error)
    notes = _exchanged(
        {
            "problem": problem[:_PROBLEM],
            "plan": given.mark,
            "host": socket.gethostname(),
            "clock": time.perf_counter(),
            "tag": secrets.randbelow(2**31),
        },
        group,
        timeout,
    )
    if problem:
        raise ValueError(problem)
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


def _exchanged(
    note: dict[str, Any], group: dist.ProcessGroup, timeout: float
) -> list[dict[str, Any]]:
    """Return every rank's note. Not through ``torch.distributed``: no part of what is recorded."""
    mine = torch.frombuffer(bytearray(json.dumps(note).encode().ljust(_NOTE)), dtype=torch.uint8)
    notes = [torch.empty_like(mine) for _ in range(dist.get_world_size(group))]
    work = group.allgather([notes], [mine])
    wait(work, timeout, f"pipeline rank {dist.get_rank(group)} waited for all ranks to begin")
    return [json.loads(bytes(note.tolist())) for note in notes]
