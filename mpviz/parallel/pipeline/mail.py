"""Messages between the ranks of a pipeline: none blocks the sender, every wait has a deadline."""

from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from .letters import Shape

_TAGS = 2**31


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
        # A pending message needs its tensor, and its handle, for as long as it is pending.
        self._sent: dict[int, tuple[Any, Tensor, str]] = {}
        self._posted: dict[int, tuple[Any, Tensor]] = {}

    def send(self, number: int, tensor: Tensor, to: int, what: str) -> None:
        """Hand a tensor over and go on; it must not change until it is settled."""
        tensor = tensor.contiguous()
        work = dist.isend(tensor, self._ranks[to], group=self._group, tag=self._tag(number))
        self._sent[number] = work, tensor, what

    def post(self, number: int, shape: Shape, source: int) -> None:
        """Make room for a message, so that it can come while this rank computes."""
        if number not in self._posted:
            buffer = torch.empty(shape[0], dtype=shape[1])
            tag = self._tag(number)
            work = dist.irecv(buffer, self._ranks[source], group=self._group, tag=tag)
            self._posted[number] = work, buffer

    def take(self, number: int, what: str) -> Tensor:
        """Wait for a message that was posted, and return it; the error says ``what`` it is."""
        work, buffer = self._posted.pop(number)
        self._wait(work, what)
        return buffer

    def settle(self, number: int) -> None:
        """Wait until a message that was sent has been received."""
        if number in self._sent:
            work, _, what = self._sent.pop(number)
            self._wait(work, what)

    def settle_all(self) -> None:
        """Wait until everything that was sent has been received."""
        for number in list(self._sent):
            self.settle(number)

    def _wait(self, work: Any, what: str) -> None:
        wait(work, self._timeout, f"pipeline rank {self._rank} waited for {what}")

    def _tag(self, number: int) -> int:
        return (self._first_tag + number) % _TAGS


def wait(work: Any, timeout: float, what: str) -> None:
    """Wait for an operation, or raise an error that says ``what`` was waited for.

    Raises
    ------
    TimeoutError
        When the deadline passes. The process group is then of no further use: gloo closes its
        connections.
    RuntimeError
        When the connection breaks.
    """
    try:
        work.wait(timedelta(seconds=timeout))
    except RuntimeError as error:
        if "timed out" in str(error).lower():
            raise TimeoutError(f"{what}, for {timeout:g} s in vain") from None
        raise RuntimeError(f"{what}, and then: {error}") from error
