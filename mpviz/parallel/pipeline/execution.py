"""Executing a plan on the ranks of a pipeline group."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch.distributed as dist
from torch import Tensor, nn

from ...schedule import Action, Plan
from ...timeline import Event
from ..agreement import check_group, described
from .letters import (
    HEADER,
    Letter,
    Shape,
    header_of,
    like,
    made_by,
    receipts,
    shape_in,
    shape_of,
    taken_by,
)
from .mail import Mail
from .split import warm_up
from .stage import Stage
from .start import TIMEOUT, Given, begin

_AHEAD = 2
"""Messages for which there is room before they are needed. More would hold what no plan counts."""


@dataclass(frozen=True)
class Run:
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
) -> Run:
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
        The pipeline group, of the gloo backend: nccl does not tell messages apart by tag.
    timeout : float
        Seconds for which a rank waits for any one message, from 0.001 to 1e9.

    Returns
    -------
    Run
        The losses, and the events.

    Raises
    ------
    ValueError
        When the plan breaks a rule, or any rank was given what does not fit it: on every rank,
        before any waits for a message. When a stage returns what cannot be sent: see below.
    TimeoutError
        When a message does not come in time, naming the action that waits for it. The group is
        then of no further use.

    Notes
    -----
    What a stage or the loss raises comes on its own rank alone, with a note of the action. The
    others learn of it when the message they wait for has not come within ``timeout``, or, if that
    rank's process ends, by a RuntimeError that its connection is closed.

    On several machines the events of two ranks share no clock (see `Run`).

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
    if "gloo" not in dist.get_backend(group):
        raise ValueError(f"a plan runs over a gloo group, got {dist.get_backend(group)}")
    given = Given(
        plan=plan, stages=stages, inputs=inputs, targets=targets, loss=loss, timeout=timeout
    )
    warm_up()
    start = begin(given, group)
    mail = Mail(group, start.first_tag, timeout)
    return _Execution(given, dist.get_rank(group), mail, start.begun).run()


class _Execution:
    """One run of a plan on one rank."""

    def __init__(self, given: Given, rank: int, mail: Mail, begun: float) -> None:
        self._given, self._plan, self._rank, self._mail = given, given.plan, rank, mail
        self._begun = begun
        self._events: list[Event] = []
        self._losses: dict[int, Tensor] = {}
        self._actions = self._plan.actions[rank]
        self._stages = {number: self._stage(number) for number in given.stages}
        self._shapes: dict[int, Shape] = {}
        self._here: dict[Letter, Tensor] = {}
        letters = (taken_by(action, self._plan.stages) for action in self._actions)
        self._expected = deque(letter for letter in letters if letter and self._is_mail(letter))
        self._receipts = receipts(self._plan, rank)

    def run(self) -> Run:
        for boundary in {letter.boundary for letter in self._expected if not letter.back}:
            self._mail.post(self._header(boundary), HEADER, self._plan.placement[boundary])
        for action in self._actions:
            given = self._taken(action)
            self._make_room()
            with self._timed(action):
                result = self._stages[action.stage].run(action, given)
            self._hand_on(action, result)
        self._mail.settle_all()
        return Run(self._sorted_losses(), tuple(self._events))

    # ---- computing

    def _stage(self, number: int) -> Stage:
        return Stage(
            self._given.stages[number],
            needs_input_gradient=number > 0 or Action(0, "I", 0) in self._actions,
            loss=self._share_of_loss if number == self._plan.stages - 1 else None,
        )

    def _share_of_loss(self, output: Tensor, microbatch: int) -> Tensor:
        """Return a microbatch's share of the mean of all losses."""
        assert self._given.loss is not None
        targets = self._given.targets
        loss = self._given.loss(output, *([] if targets is None else [targets[microbatch]]))
        if not isinstance(loss, Tensor) or loss.ndim > 0:
            shape = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else loss
            raise ValueError(f"the loss of a microbatch is one number, got {shape}")
        self._losses[microbatch] = loss.detach()
        return loss / self._plan.microbatches

    def _sorted_losses(self) -> tuple[float, ...] | None:
        return tuple(self._losses[k].item() for k in sorted(self._losses)) or None

    @contextmanager
    def _timed(self, action: Action) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        except Exception as error:
            error.add_note(f"in {action} on pipeline rank {self._rank}")
            raise
        self._note(action.kind, action.stage, action.microbatch, start)

    # ---- taking and handing on

    def _taken(self, action: Action) -> Tensor | None:
        """Return what an action works on, when it is there."""
        letter = taken_by(action, self._plan.stages)
        if letter is None:
            inputs = self._given.inputs if action.kind == "F" else None
            return None if inputs is None else inputs[action.microbatch]
        return self._received(letter, action) if self._is_mail(letter) else self._here.pop(letter)

    def _received(self, letter: Letter, action: Action) -> Tensor:
        start, source = time.perf_counter(), self._plan.placement[letter.sender]
        what = f"{letter} (rank {source}), to run {action}"
        if letter.boundary not in self._shapes:
            header = self._mail.take(self._header(letter.boundary), what)
            self._shapes[letter.boundary] = shape_in(header)
        self._make_room()
        tensor = self._mail.take(letter.number(self._plan.microbatches), what)
        self._note("recv", action.stage, action.microbatch, start, source, tensor.nbytes)
        self._expected.popleft()
        for arrived in self._receipts.pop(letter):  # and need not be kept any longer
            self._mail.settle(arrived.number(self._plan.microbatches))
        return tensor

    def _make_room(self) -> None:
        """Let the next messages come while this rank computes, if their size is known."""
        for letter in islice(self._expected, _AHEAD):
            if letter.boundary in self._shapes:
                number = letter.number(self._plan.microbatches)
                source = self._plan.placement[letter.sender]
                self._mail.post(number, self._shapes[letter.boundary], source)

    def _hand_on(self, action: Action, result: Tensor | None) -> None:
        letter = made_by(action, self._plan.stages)
        if letter is None:
            return
        assert result is not None
        self._check_shape(letter, result)
        if self._is_mail(letter):
            self._send(letter, result)
        else:
            self._here[letter] = result

    def _send(self, letter: Letter, tensor: Tensor) -> None:
        start, to = time.perf_counter(), self._plan.placement[letter.taker]
        number = letter.number(self._plan.microbatches)
        self._mail.send(number, tensor, to, f"rank {to} to take {letter}")
        self._note("send", letter.sender, letter.microbatch, start, to, tensor.nbytes)

    def _check_shape(self, letter: Letter, tensor: Tensor) -> None:
        """Tell the next rank how large the outputs are, once, and hold the stage to it."""
        if letter.boundary not in self._shapes:
            self._shapes[letter.boundary] = shape_of(tensor)
            to = self._plan.placement[letter.taker]
            if to != self._rank:
                what = f"rank {to} to take the shape of what stage {letter.sender} sends"
                self._mail.send(self._header(letter.boundary), header_of(tensor), to, what)
        elif self._shapes[letter.boundary] != shape_of(tensor):
            raise ValueError(
                f"stage {letter.sender} sends {described(tensor)} for microbatch "
                f"{letter.microbatch}, and the first was "
                f"{described(like(self._shapes[letter.boundary]))}; all microbatches of a run have "
                f"one shape"
            )

    def _is_mail(self, letter: Letter) -> bool:
        placement = self._plan.placement
        return placement[letter.sender] != placement[letter.taker]

    def _header(self, boundary: int) -> int:
        """Return the number of the header of a boundary; those of letters are below."""
        return 2 * self._plan.stages * self._plan.microbatches + boundary

    def _note(
        self,
        name: str,
        stage: int,
        microbatch: int,
        start: float,
        peer: int | None = None,
        size: int = 0,
    ) -> None:
        self._events.append(
            Event(
                self._rank,
                name,
                start - self._begun,
                time.perf_counter() - self._begun,
                group=() if peer is None else tuple(range(self._plan.pp)),
                bytes=size,
                peer=peer,
                stage=stage,
                microbatch=microbatch,
            )
        )
