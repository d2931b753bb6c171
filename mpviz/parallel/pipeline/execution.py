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
    Header,
    Letter,
    Shape,
    like,
    made_by,
    read,
    receipts,
    shape_of,
    taken_by,
    written,
)
from .mail import Mail
from .preflight import TIMEOUT, Arguments, preflight
from .split import warm_up
from .stage import Stage

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
    given = Arguments(
        plan=plan, stages=stages, inputs=inputs, targets=targets, loss=loss, timeout=timeout
    )
    warm_up()
    start = preflight(given, group)
    mail = Mail(group, start.first_tag, timeout)
    return _Execution(given, dist.get_rank(group), mail, start.begun).run()


class _Execution:
    """One run of a plan on one rank."""

    def __init__(self, given: Arguments, rank: int, mail: Mail, begun: float) -> None:
        self._given, self._plan, self._rank, self._mail = given, given.plan, rank, mail
        self._begun = begun
        self._events: list[Event] = []
        self._losses: dict[int, Tensor] = {}
        self._actions = self._plan.actions[rank]
        self._stages = {number: self._stage(number) for number in given.stages}
        self._shapes: dict[int, Shape] = {}
        self._here: dict[Letter, Tensor] = {}
        # Of each stage whose output is known here: whether it requires a gradient.
        self._learns: dict[int, bool] = {}
        self._cut: int | None = None
        self._told: set[tuple[int, bool]] = set()
        self._heard: set[tuple[int, bool]] = set()
        letters = (taken_by(action, self._plan.stages) for action in self._actions)
        self._expected = deque(letter for letter in letters if letter and self._is_mail(letter))
        self._receipts = receipts(self._plan, rank)

    def run(self) -> Run:
        for letter in self._expected:  # of each direction the first; what is posted stays
            self._mail.post(self._header(letter), HEADER, self._plan.placement[letter.sender])
        for action in self._actions:
            given = self._taken(action)
            self._make_room()
            with self._timed(action):
                result = self._done(action, given)
            self._hand_on(action, result)
        self._mail.settle_all()
        if self._cut is not None:
            raise ValueError(_cut_by(self._cut, last=self._cut == self._plan.stages - 1))
        return Run(self._sorted_losses(), tuple(self._events))

    # ---- computing

    def _done(self, action: Action, given: Tensor | None) -> Tensor | None:
        stage = self._stages[action.stage]
        if self._cut is not None and action.kind != "F":
            return stage.skip(action)
        result = stage.run(action, given)
        if action.kind == "F":
            self._look_for_cut(action, stage)
        return result

    def _look_for_cut(self, action: Action, stage: Stage) -> None:
        """Note if the output of a forward requires no gradient, and should."""
        number, microbatch = action.stage, action.microbatch
        requires, first = stage.requires_gradient(microbatch), number not in self._learns
        self._learns.setdefault(number, requires)
        if requires or self._cut is not None:
            return
        if stage.learns or self._learns.get(number - 1, False):
            if not first:
                text = _cut_by(number, last=number == self._plan.stages - 1)
                raise ValueError(f"{text} (first for microbatch {microbatch})")
            self._cut = number

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
        if (letter.boundary, letter.back) not in self._heard:
            self._hear(letter, action)
        self._make_room()
        number = letter.number(self._plan.microbatches)
        tensor = self._mail.take(number, str(letter), f"to run {action}")
        self._note("recv", action.stage, action.microbatch, start, source, tensor.nbytes)
        self._expected.popleft()
        for arrived in self._receipts.pop(letter):  # and need not be kept any longer
            self._mail.settle(arrived.number(self._plan.microbatches))
        return tensor

    def _hear(self, letter: Letter, action: Action) -> None:
        """Read what comes before the first message of its kind."""
        self._heard.add((letter.boundary, letter.back))
        header = read(self._mail.take(self._header(letter), str(letter), f"to run {action}"))
        self._shapes[letter.boundary] = header.shape
        if not letter.back:
            self._learns[letter.sender] = header.learns
        if self._cut is None:
            self._cut = header.cut

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
            self._tell(letter)
            self._send(letter, result)
        else:
            self._here[letter] = result

    def _send(self, letter: Letter, tensor: Tensor) -> None:
        start, to = time.perf_counter(), self._plan.placement[letter.taker]
        self._mail.send(letter.number(self._plan.microbatches), tensor, to, str(letter))
        self._note("send", letter.sender, letter.microbatch, start, to, tensor.nbytes)

    def _tell(self, letter: Letter) -> None:
        """Say before the first message of its kind what the next rank must know."""
        if (letter.boundary, letter.back) in self._told:
            return
        self._told.add((letter.boundary, letter.back))
        learns = letter.back or self._learns[letter.sender]
        header = Header(self._shapes[letter.boundary], learns, self._cut)
        to = self._plan.placement[letter.taker]
        self._mail.send(self._header(letter), written(header), to, str(letter))

    def _check_shape(self, letter: Letter, tensor: Tensor) -> None:
        """Hold a stage to the shape of its first output."""
        if letter.boundary not in self._shapes:
            self._shapes[letter.boundary] = shape_of(tensor)
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

    def _header(self, letter: Letter) -> int:
        """Return the number of the header before a letter; those of letters are below."""
        stages, microbatches = self._plan.stages, self._plan.microbatches
        return 2 * stages * microbatches + 2 * letter.boundary + letter.back

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


def _cut_by(stage: int, *, last: bool) -> str:
    """Say which stage cuts the graph, and what to do."""
    return (
        f"stage {stage} cuts the graph: {'the loss' if last else 'its output'} requires no "
        f"gradient, so parameters of this stage, or of one before it, would get none. Let it not "
        f"detach and not run under no_grad; what shall not learn is frozen by requires_grad_(False)"
    )
