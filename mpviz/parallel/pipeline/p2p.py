"""Point-to-point communication of a pipeline: which action sends what, and how it arrives.

No send blocks, and every wait has a deadline. Messages travel through the CPU, by gloo, wherever
the stages compute.
"""

from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from ...schedule import Action, Plan
from ...schedule.dataflow import receiver, sender
from ...waits import Awaited, waiting
from ..agreement import described

CALL = "pipeline.execute"
"""What the user of a pipeline called, when it waits."""
_TAGS = 2**31
_DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
_MOST_DIMENSIONS = 8


class Transfer(NamedTuple):
    """One tensor that goes from a stage to a neighbour.

    In the words of torch's schedules: an output is ``SEND_F`` on the stage that sends it and
    ``RECV_F`` on the next; a gradient is ``SEND_B``, and ``RECV_B`` on the stage before.

    Attributes
    ----------
    sender, receiver : int
        Stages.
    microbatch : int
        Of which.
    """

    sender: int
    receiver: int
    microbatch: int

    @property
    def boundary(self) -> int:
        """That between stages ``boundary`` and ``boundary + 1``."""
        return min(self.sender, self.receiver)

    @property
    def edge(self) -> int:
        """A number of its boundary and direction, the same for all microbatches."""
        return 2 * self.boundary + (self.receiver < self.sender)

    def number(self, microbatches: int) -> int:
        """Return a number that no other transfer of a run has."""
        return self.edge * microbatches + self.microbatch

    def __str__(self) -> str:
        what = "output" if self.receiver > self.sender else "gradient"
        return f"the {what} that stage {self.sender} sends for microbatch {self.microbatch}"


def received_by(action: Action, stages: int) -> Transfer | None:
    """Return what an action receives from a neighbouring stage: RECV_F or RECV_B.

    >>> received_by(Action(1, "F", 5), stages=2)
    Transfer(sender=0, receiver=1, microbatch=5)
    """
    stage = sender(action, stages)
    return None if stage is None else Transfer(stage, action.stage, action.microbatch)


def sent_by(action: Action, stages: int) -> Transfer | None:
    """Return what an action sends to a neighbouring stage: SEND_F or SEND_B.

    >>> sent_by(Action(1, "I", 5), stages=2)
    Transfer(sender=1, receiver=0, microbatch=5)
    """
    stage = receiver(action, stages)
    return None if stage is None else Transfer(action.stage, stage, action.microbatch)


def acknowledged(plan: Plan, rank: int) -> dict[Transfer, list[Transfer]]:
    """Return, for each transfer to a rank, those from it that its peer received before sending it.

    Once it is there, these have arrived. Each is named once, with the first that acknowledges it.

    >>> from mpviz import schedule
    >>> acknowledged(schedule.gpipe(pp=2, microbatches=2), rank=0)[Transfer(1, 0, 0)]
    [Transfer(sender=0, receiver=1, microbatch=0), Transfer(sender=0, receiver=1, microbatch=1)]
    """
    found = {}
    for peer, actions in enumerate(plan.actions):
        arrived: list[Transfer] = []
        for action in actions if peer != rank else ():
            received, sent = received_by(action, plan.stages), sent_by(action, plan.stages)
            if received and plan.placement[received.sender] == rank:
                arrived.append(received)
            if sent and plan.placement[sent.receiver] == rank:
                found[sent], arrived = arrived, []
    return found


class TensorMeta(NamedTuple):
    """Shape and dtype of a tensor.

    >>> f"{TensorMeta((2, 3), torch.float32)}"
    '2×3 float32'
    """

    shape: tuple[int, ...]
    dtype: torch.dtype

    def empty(self, device: str = "cpu") -> Tensor:
        """Return a tensor of it; on the device "meta", one without memory."""
        return torch.empty(self.shape, dtype=self.dtype, device=device)

    def __str__(self) -> str:
        return described(self.empty("meta"))


def meta_of(tensor: Tensor) -> TensorMeta:
    """Return shape and dtype."""
    return TensorMeta(tuple(tensor.shape), tensor.dtype)


class Header(NamedTuple):
    """What goes before the first output that crosses a boundary, and before the first gradient.

    Attributes
    ----------
    meta : TensorMeta
        Of all that follow.
    requires_grad : bool
        Whether outputs require a gradient, because a stage before has something to learn.
    cut : int, optional
        The first stage, as far as the sender knows, whose output should require one and does not.
    """

    meta: TensorMeta
    requires_grad: bool = True
    cut: int | None = None

    def pack(self) -> Tensor:
        """Return it as a message of 12 numbers; ValueError where no gradient can come back.

        >>> Header.unpack(Header(TensorMeta((2, 3), torch.float32), cut=1).pack()).cut
        1
        """
        shape, dtype = self.meta
        if dtype not in _DTYPES or len(shape) > _MOST_DIMENSIONS:
            raise ValueError(
                f"a stage passes on at most {_MOST_DIMENSIONS} dimensions of float32, float64, "
                f"float16 or bfloat16, got {self.meta}"
            )
        cut = -1 if self.cut is None else self.cut
        numbers = [_DTYPES.index(dtype), self.requires_grad, cut, len(shape), *shape]
        return torch.tensor(numbers + [0] * (_MOST_DIMENSIONS - len(shape)))  # (12,)

    @classmethod
    def unpack(cls, message: Tensor) -> "Header":
        """Read what `pack` wrote."""
        dtype, requires_grad, cut, dimensions, *shape = message.tolist()
        meta = TensorMeta(tuple(shape[:dimensions]), _DTYPES[dtype])
        return cls(meta, bool(requires_grad), None if cut < 0 else cut)


HEADER_META = TensorMeta((4 + _MOST_DIMENSIONS,), torch.int64)


def check_carrier(group: dist.ProcessGroup) -> None:
    """Raise unless the group carries tensors of the CPU, and by gloo.

    The name of its backend does not tell: ``"cuda:gloo"`` has none for the CPU.
    """
    cpu = torch.device("cpu")
    carrier = group._get_backend(cpu).name() if cpu in group._device_types else "none"
    if carrier != "gloo":
        raise ValueError(
            f"the messages of a plan travel through the CPU by gloo, and the group "
            f"{dist.get_backend(group)!r} has {carrier} there; 'gloo' and 'cpu:gloo,cuda:nccl' do"
        )


class _Pending(NamedTuple):
    """A send or receive on its way: it needs its tensor and its handle for as long."""

    work: Any
    tensor: Tensor
    peer: int
    transfer: Transfer


class P2PCommunicator:
    """Sends and receives of one run.

    A transfer has the same tag on both sides: gloo brings each to the buffer that waits for it, in
    whatever order the two sides come to it. So has the header before it.

    Parameters
    ----------
    group : ProcessGroup
        Of the pipeline; peers are ranks in it.
    plan : Plan
        Which rank holds each stage, and how many transfers there are.
    first_tag : int
        Other in each run, so that what an aborted run left on its way goes nowhere.
    timeout : float
        Seconds that one wait may take.
    """

    def __init__(
        self, group: dist.ProcessGroup, plan: Plan, first_tag: int, timeout: float
    ) -> None:
        self._group, self._plan, self._rank = group, plan, dist.get_rank(group)
        self._ranks = dist.get_process_group_ranks(group)
        self._first_tag, self._timeout = first_tag, timeout
        self._sends: dict[int, _Pending] = {}
        self._receives: dict[int, _Pending] = {}

    def send(self, transfer: Transfer, tensor: Tensor, *, header: bool = False) -> None:
        """Hand a tensor over and go on; it must not change until `wait_sent`."""
        tensor = tensor.contiguous().cpu()
        tag, peer = self._tag(transfer, header), self._plan.placement[transfer.receiver]
        work = dist.isend(tensor, self._ranks[peer], group=self._group, tag=tag)
        self._sends[tag] = _Pending(work, tensor, peer, transfer)

    def post(self, transfer: Transfer, meta: TensorMeta, *, header: bool = False) -> None:
        """Make room for a tensor, so that it can come while this rank computes."""
        tag, peer = self._tag(transfer, header), self._plan.placement[transfer.sender]
        if tag not in self._receives:
            buffer = meta.empty()
            work = dist.irecv(buffer, self._ranks[peer], group=self._group, tag=tag)
            self._receives[tag] = _Pending(work, buffer, peer, transfer)

    def receive(self, transfer: Transfer, purpose: str, *, header: bool = False) -> Tensor:
        """Wait for a tensor that was posted, and return it; an error says what it is for."""
        pending = self._receives.pop(self._tag(transfer, header))
        what = f"{transfer} (rank {pending.peer}), {purpose}"
        self._wait(pending, what, f"{transfer}, {purpose}")
        return pending.tensor

    def wait_sent(self, transfer: Transfer) -> None:
        """Wait until a tensor that was sent has been received."""
        self._wait_taken(self._tag(transfer))

    def wait_all_sent(self) -> None:
        """Wait until everything that was sent has been received."""
        for tag in list(self._sends):
            self._wait_taken(tag)

    def _wait_taken(self, tag: int) -> None:
        if tag in self._sends:
            pending = self._sends.pop(tag)
            what = f"rank {pending.peer} to take {pending.transfer}"
            self._wait(pending, what, f"{pending.transfer} to be taken")

    def _wait(self, pending: _Pending, what: str, message: str) -> None:
        awaited = Awaited(CALL, self._group, self._ranks[pending.peer], message)
        what = f"pipeline rank {self._rank} waited for {what}"
        wait(pending.work, self._timeout, what, awaited)

    def _tag(self, transfer: Transfer, header: bool = False) -> int:
        """Return the tag of a transfer; those of headers come after all others."""
        number = transfer.number(self._plan.microbatches)
        if header:
            number = 2 * self._plan.stages * self._plan.microbatches + transfer.edge
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
