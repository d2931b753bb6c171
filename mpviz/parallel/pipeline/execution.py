"""Executing a plan on the ranks of a pipeline group."""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeGuard

import torch.distributed as dist
from torch import Tensor, nn

from ...schedule import Action, Plan
from ...timeline import Event
from ..agreement import check_group
from .clock import Stopwatch
from .graph_cut import GraphCut
from .p2p import (
    HEADER_META,
    Header,
    P2PCommunicator,
    TensorMeta,
    Transfer,
    acknowledged,
    check_carrier,
    meta_of,
    received_by,
    sent_by,
)
from .preflight import TIMEOUT, Arguments, preflight
from .split import warm_up
from .stage import Stage

_AHEAD = 2
"""Receives posted before they are needed. More would hold what no plan counts."""


@dataclass(frozen=True)
class PipelineResult:
    """What one rank saw of an executed plan.

    Attributes
    ----------
    losses : tuple of float or None
        The loss of each microbatch, on the rank of the last stage.
    events : tuple of Event
        What this rank did, in order of time, for a `Timeline`: ``F``, ``B``, ``I`` and ``W``, with
        their stage and microbatch; ``recv`` for the time it waited for a message, ``send`` for the
        time that handing one over took. Ranks and peers are pipeline ranks. If all are on one
        machine, seconds count from when the last rank came, by one clock; on several machines
        each rank counts from its own start, and events of two ranks share no clock.
    """

    losses: tuple[float, ...] | None
    events: tuple[Event, ...]

    @property
    def loss(self) -> float | None:
        """The mean over the microbatches, whose gradient the stages now hold."""
        return None if self.losses is None else sum(self.losses) / len(self.losses)


def execute(
    plan: Plan,
    stages: Mapping[int, nn.Module],
    *,
    inputs: Sequence[Tensor] | None = None,
    targets: Sequence[Any] | None = None,
    loss: Callable[..., Tensor] | None = None,
    group: dist.ProcessGroup,
    timeout: float = TIMEOUT,
) -> PipelineResult:
    """Execute a plan: every rank of the group calls this, with the stages it holds.

    The gradients are added to the ``.grad`` of the stages' parameters: those of the mean of the
    losses of all microbatches.

    Parameters
    ----------
    plan : Plan
        Any that `validate` accepts; the same on every rank.
    stages : mapping of int to Module
        The stages that this rank holds, by number. Each takes one tensor and returns one, of the
        same shape and dtype for every microbatch.
    inputs : sequence of Tensor, optional
        The microbatches, for the first stage, of one shape and dtype; other ranks do not look at
        them.
    targets : sequence, optional
        For the last stage, one for each microbatch.
    loss : callable, optional
        For the last stage: from its output, and the target if there are targets, to one number.
    group : ProcessGroup
        The pipeline group, of the backend gloo or ``"cpu:gloo,cuda:nccl"``: messages travel through
        the CPU by gloo, for nccl does not tell them apart by tag. A stage may compute on a GPU, to
        which what it receives is moved; no GPU has run this yet.
    timeout : float
        Seconds for which a rank waits for any one message, from 0.001 to 1e9.

    Returns
    -------
    PipelineResult
        The losses, and the events.

    Raises
    ------
    ValueError
        When the plan breaks a rule, or any rank was given what does not fit it: on every rank,
        before any waits for a message; and when a stage cuts the graph: see below. When a stage
        returns what cannot be sent: on its own rank.
    TimeoutError
        When a message does not come in time, naming the action that waits for it. The group is
        then of no further use.

    Notes
    -----
    A stage cuts the graph when its output (of the last stage, the loss) requires no gradient,
    though a parameter of it or of a stage before does: it detaches, or runs under ``no_grad``.
    Those parameters would silently learn nothing. The first output and the first gradient that
    cross each boundary say so; all ranks then skip every backward, and raise when the plan is
    done: nobody waits for one that raised, and no ``.grad`` has changed. Should only a later
    microbatch cut the graph, that stage's rank raises at once, and alone. Nothing is cut where
    nothing can learn: stages that are frozen by ``requires_grad_(False)`` (parameters, not
    inputs, decide), up to the first that is not, may detach as they like. The parameters of a
    stage that is no Module are not known, so only its input is looked at.

    What a stage or the loss raises comes on its own rank alone, with a note of the action. The
    others learn of it when the message they wait for has not come within ``timeout``, or, if that
    rank's process ends, by a RuntimeError that its connection is closed. A `World` does not wait
    so long: it ends the run as soon as all others wait for such a rank.

    On several machines the events of two ranks share no clock (see `PipelineResult`).

    Examples
    --------
    With a group of one, such as ``World`` or torchrun give::

        plan = schedule.gpipe(pp=1, microbatches=2)
        run = pipeline.execute(
            plan, {0: torch.nn.Linear(4, 1)}, inputs=torch.ones(2, 3, 4),
            loss=torch.Tensor.mean, group=groups["pp"],
        )
        run.loss, Timeline(run.events)
    """
    group = check_group(group)
    check_carrier(group)
    arguments = Arguments(
        plan=plan, stages=stages, inputs=inputs, targets=targets, loss=loss, timeout=timeout
    )
    warm_up()
    start = preflight(arguments, group)
    p2p = P2PCommunicator(group, plan, start.first_tag, timeout)
    return RankExecutor(arguments, dist.get_rank(group), p2p, start.begun).run()


class RankExecutor:
    """Executes one rank's actions in order: receive, compute, send.

    Sends and receives follow from the plan: torch's ``_PipelineScheduleRuntime`` reads them from
    its table as ``RECV_F``, ``SEND_F``, ``RECV_B`` and ``SEND_B``.
    """

    def __init__(self, arguments: Arguments, rank: int, p2p: P2PCommunicator, begun: float) -> None:
        self._arguments, self._rank, self._p2p, self._begun = arguments, rank, p2p, begun
        self._plan = plan = arguments.plan
        self._actions = plan.actions[rank]
        self._stages = {number: self._stage(number) for number in arguments.stages}
        self._events: list[Event] = []
        self._losses: dict[int, Tensor] = {}
        self._cut = GraphCut(plan.stages)
        self._local: dict[Transfer, Tensor] = {}  # between two stages of this rank
        self._metas: dict[int, TensorMeta] = {}  # by boundary: a gradient is as its output
        self._announced: set[int] = set()  # edges whose header was sent or received
        received = (received_by(action, plan.stages) for action in self._actions)
        self._expected = deque(transfer for transfer in received if self._is_remote(transfer))
        self._acknowledged = acknowledged(plan, rank)

    def run(self) -> PipelineResult:
        """Execute every action; raise ``ValueError`` if a stage turned out to cut the graph."""
        for transfer in self._expected:  # of each edge the first; what is posted stays
            self._p2p.post(transfer, HEADER_META, header=True)
        for action in self._actions:
            received = self._receive(action)
            self._post_receives()
            result = self._compute(action, received)
            self._send(action, result)
        self._p2p.wait_all_sent()
        self._cut.raise_if_cut()
        losses = tuple(self._losses[k].item() for k in sorted(self._losses)) or None
        return PipelineResult(losses, tuple(self._events))

    # ---- receive

    def _receive(self, action: Action) -> Tensor | None:
        """Return what an action works on, when it is there."""
        transfer = received_by(action, self._plan.stages)
        if transfer is None:
            inputs = self._arguments.inputs if action.kind == "F" else None
            return None if inputs is None else inputs[action.microbatch]
        if not self._is_remote(transfer):
            return self._local.pop(transfer)
        start = time.perf_counter()
        if transfer.edge not in self._announced:
            self._receive_header(transfer, action)
        self._post_receives()
        tensor = self._p2p.receive(transfer, f"to run {action}")
        peer = self._plan.placement[transfer.sender]
        self._record("recv", action, start, time.perf_counter(), peer, tensor.nbytes)
        self._expected.popleft()
        for arrived in self._acknowledged.pop(transfer):  # and need not be kept any longer
            self._p2p.wait_sent(arrived)
        return tensor

    def _receive_header(self, transfer: Transfer, action: Action) -> None:
        self._announced.add(transfer.edge)
        header = Header.unpack(self._p2p.receive(transfer, f"to run {action}", header=True))
        self._metas[transfer.boundary] = header.meta
        self._cut.update(transfer, header)

    def _post_receives(self) -> None:
        """Let the next tensors come while this rank computes, if their size is known."""
        for transfer in islice(self._expected, _AHEAD):
            if transfer.boundary in self._metas:
                self._p2p.post(transfer, self._metas[transfer.boundary])

    # ---- compute

    def _compute(self, action: Action, received: Tensor | None) -> Tensor | None:
        """Return the output of a forward, or the gradient of the input of a backward."""
        stage = self._stages[action.stage]
        watch = Stopwatch(stage.device)
        watch.start()
        try:
            if self._cut.stage is not None and action.kind != "F":
                result = stage.skip(action)
            else:
                result = stage.run(action, received)
                if action.kind == "F":
                    self._cut.check(action, stage)
        except Exception as error:
            error.add_note(f"in {action} on pipeline rank {self._rank}")
            raise
        self._record(action.kind, action, *watch.stop())
        return result

    def _stage(self, number: int) -> Stage:
        return Stage(
            self._arguments.stages[number],
            needs_input_gradient=number > 0 or Action(0, "I", 0) in self._actions,
            loss=self._share_of_loss if number == self._plan.stages - 1 else None,
        )

    def _share_of_loss(self, output: Tensor, microbatch: int) -> Tensor:
        """Return a microbatch's share of the mean of all losses."""
        compute, targets = self._arguments.loss, self._arguments.targets
        assert compute is not None
        loss = compute(output, *([] if targets is None else [targets[microbatch]]))  # ()
        if not isinstance(loss, Tensor) or loss.ndim > 0:
            shape = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else loss
            raise ValueError(f"the loss of a microbatch is one number, got {shape}")
        self._losses[microbatch] = loss.detach()
        return loss / self._plan.microbatches

    # ---- send

    def _send(self, action: Action, result: Tensor | None) -> None:
        transfer = sent_by(action, self._plan.stages)
        if transfer is None:
            return
        assert result is not None
        meta = meta_of(result)
        first = self._metas.setdefault(transfer.boundary, meta)
        if meta != first:
            raise ValueError(
                f"stage {transfer.sender} sends {meta} for microbatch "
                f"{transfer.microbatch}, and the first was {first}; all microbatches of a run have "
                f"one shape"
            )
        if not self._is_remote(transfer):
            self._local[transfer] = result
            return
        if transfer.edge not in self._announced:
            self._announced.add(transfer.edge)
            self._p2p.send(transfer, self._cut.header(transfer, meta).pack(), header=True)
        start = time.perf_counter()
        self._p2p.send(transfer, result)
        peer = self._plan.placement[transfer.receiver]
        self._record("send", action, start, time.perf_counter(), peer, result.nbytes)

    def _is_remote(self, transfer: Transfer | None) -> TypeGuard[Transfer]:
        """Whether it goes from one rank to another."""
        placement = self._plan.placement
        return transfer is not None and placement[transfer.sender] != placement[transfer.receiver]

    def _record(
        self,
        name: str,
        action: Action,
        start: float,
        end: float,
        peer: int | None = None,
        size: int = 0,
    ) -> None:
        self._events.append(
            Event(
                self._rank,
                name,
                start - self._begun,
                end - self._begun,
                group=() if peer is None else tuple(range(self._plan.pp)),
                bytes=size,
                peer=peer,
                stage=action.stage,
                microbatch=action.microbatch,
            )
        )
