"""Messages between the ranks of a pipeline: none blocks the sender, every wait has a deadline."""

from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from ...waits import Awaited, waiting
from .letters import Shape

CALL = "pipeline.execute"
"""What the user of a pipeline called, when it waits."""
_TAGS = 2**31


class _Sent(NamedTuple):
    """A pending message: it needs its tensor, and its handle, for as long as it is pending."""

    work: Any
    tensor: Tensor
    to: int
    what: str


class _Posted(NamedTuple):
    """Room for a message; likewise."""

    work: Any
    tensor: Tensor
    source: int


class Mail:
    """Sends and receives of one run.

    A message has a number, the same on both sides, which is its tag: gloo brings each to the
    buffer that waits for it, in whatever order the two sides come to it.

    Parameters
    ----------
    group : ProcessGroup
        Of the pipeline; peers are ranks in it.
    first_tag : int
        Other in each run, so that what an aborted run left on its way goes nowhere.
    timeout : float
        Seconds that one wait may take.
    """

    def __init__(self, group: dist.ProcessGroup, first_tag: int, timeout: float) -> None:
        self._group = group
        self._rank = dist.get_rank(group)
        self._ranks = dist.get_process_group_ranks(group)
        self._first_tag = first_tag
        self._timeout = timeout
        self._sent: dict[int, _Sent] = {}
        self._posted: dict[int, _Posted] = {}

    def send(self, number: int, tensor: Tensor, to: int, what: str) -> None:
        """Hand a tensor over and go on; it must not change until it is settled."""
        tensor = tensor.contiguous()
        work = dist.isend(tensor, self._ranks[to], group=self._group, tag=self._tag(number))
        self._sent[number] = _Sent(work, tensor, to, what)

    def post(self, number: int, shape: Shape, source: int) -> None:
        """Make room for a message, so that it can come while this rank computes."""
        if number not in self._posted:
            buffer = torch.empty(shape[0], dtype=shape[1])
            tag = self._tag(number)
            work = dist.irecv(buffer, self._ranks[source], group=self._group, tag=tag)
            self._posted[number] = _Posted(work, buffer, source)

    def take(self, number: int, what: str, purpose: str) -> Tensor:
        """Wait for a message that was posted, and return it; an error says what it is for."""
        work, buffer, source = self._posted.pop(number)
        self._wait(work, source, f"{what} (rank {source}), {purpose}", f"{what}, {purpose}")
        return buffer

    def settle(self, number: int) -> None:
        """Wait until a message that was sent has been received."""
        if number in self._sent:
            work, _, to, what = self._sent.pop(number)
            self._wait(work, to, f"rank {to} to take {what}", f"{what} to be taken")

    def settle_all(self) -> None:
        """Wait until everything that was sent has been received."""
        for number in list(self._sent):
            self.settle(number)

    def _wait(self, work: Any, peer: int, what: str, message: str) -> None:
        awaited = Awaited(CALL, self._group, self._ranks[peer], message)
        wait(work, self._timeout, f"pipeline rank {self._rank} waited for {what}", awaited)

    def _tag(self, number: int) -> int:
        return (self._first_tag + number) % _TAGS


def wait(work: Any, timeout: float, what: str, awaited: Awaited) -> None:
    """Wait for an operation, or raise an error that says ``what`` was waited for.

    Raises
    ------
    TimeoutError
        When the deadline passes. The process group is then of no further use: gloo closes its
        connections.
    RuntimeError
        When the connection breaks.
    """
    waiting(awaited, partial(_ended, work, timeout, what))


def _ended(work: Any, timeout: float, what: str) -> None:
    try:
        work.wait(timedelta(seconds=timeout))
    except RuntimeError as error:
        if "timed out" in str(error).lower():
            raise TimeoutError(f"{what}, for {timeout:g} s in vain") from None
        raise RuntimeError(f"{what}, and then: {error}") from error
