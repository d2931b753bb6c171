"""A plan: what each pipeline rank computes, in which order."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from operator import itemgetter
from typing import NamedTuple

import numpy as np

from .._checks import whole_number

KINDS = {
    "F": "forward",
    "B": "backward",
    "I": "backward of the input",
    "W": "backward of the weight",
}
"""What an action does. ``B`` is ``I`` and ``W`` in one."""

_ACTION = re.compile(r"(\d+)([FBIW])(\d+)", re.IGNORECASE)
_MOST_ACTIONS = 24
_MOST_RANKS = 16


class Action(NamedTuple):
    """One computation of one stage for one microbatch.

    Attributes
    ----------
    stage : int
        Which chunk of the model, counted from 0 at the input.
    kind : {"F", "B", "I", "W"}
        Forward; backward; or its two halves, the gradient of the input and of the weight.
    microbatch : int
        Counted from 0.

    Examples
    --------
    >>> Action(2, "F", 0)
    2F0
    >>> Action.parse("1W3").kind
    'W'
    """

    stage: int
    kind: str
    microbatch: int

    @classmethod
    def parse(cls, text: str) -> "Action":
        """Read what an action prints; raise ``ValueError`` when it is none."""
        found = _ACTION.fullmatch(text.strip())
        if not found:
            raise ValueError(
                f"{text!r} is no action; write the stage, one of F, B, I and W, and the "
                f"microbatch: 0F3"
            )
        return cls(int(found[1]), found[2].upper(), int(found[3]))

    def __repr__(self) -> str:
        return f"{self.stage}{self.kind}{self.microbatch}"

    def __str__(self) -> str:
        return repr(self)


def looped(pp: int, chunks: int = 1) -> tuple[int, ...]:
    """Return the pipeline rank of each stage when the stages go round the ranks.

    Examples
    --------
    >>> looped(pp=3, chunks=2)
    (0, 1, 2, 0, 1, 2)
    """
    return tuple(range(pp)) * chunks


def v_shaped(pp: int, chunks: int = 2) -> tuple[int, ...]:
    """Return the pipeline rank of each stage when the stages turn back at the last rank.

    Source: Qi et al., "Pipeline Parallelism with Controllable Memory" (arXiv 2405.15362).

    Examples
    --------
    >>> v_shaped(pp=3)
    (0, 1, 2, 2, 1, 0)
    """
    there = tuple(range(pp))
    return tuple(chain.from_iterable(there[:: 1 - 2 * (turn % 2)] for turn in range(chunks)))


@dataclass(frozen=True, kw_only=True, repr=False)
class Plan:
    """What each pipeline rank computes, in order. A plan may be wrong: see `validate`.

    Sends and receives are not written down; they follow from who needs what. Plans are equal
    when their ranks do the same, whatever they are called.

    Parameters
    ----------
    name : str
        What it is called.
    pp : int
        Pipeline ranks.
    microbatches : int
        Into how many the batch is cut.
    chunks : int
        Stages on each rank.
    actions : sequence of sequence of Action
        ``actions[rank]`` in order.
    placement : sequence of int, optional
        The pipeline rank of each stage; `looped` by default.

    Raises
    ------
    ValueError
        When the sizes and the number of lines disagree, or a stage or microbatch is no whole
        number.

    Examples
    --------
    >>> from mpviz.schedule import parse
    >>> plan = parse('''
    ...     0F0 0F1 0B0 0B1
    ...     1F0 1B0 1F1 1B1
    ... ''')
    >>> plan
    rank 0  0F0 0F1 0B0 0B1
    rank 1  1F0 1B0 1F1 1B1
    >>> plan.stages, plan.microbatches
    (2, 2)
    """

    name: str = field(default="by hand", compare=False)
    pp: int
    microbatches: int
    chunks: int = 1
    actions: tuple[tuple[Action, ...], ...]
    placement: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for size in ("pp", "microbatches", "chunks"):
            object.__setattr__(self, size, whole_number(size, getattr(self, size)))
        object.__setattr__(self, "actions", tuple(tuple(mine) for mine in self.actions))
        if len(self.actions) != self.pp:
            raise ValueError(f"pp={self.pp} ranks need as many lines, got {len(self.actions)}")
        placement = tuple(self.placement) or looped(self.pp, self.chunks)
        if sorted(placement) != sorted(looped(self.pp, self.chunks)):
            raise ValueError(
                f"placement must name each of the {self.pp} ranks {self.chunks} times, once for "
                f"each of its stages, got {placement}"
            )
        object.__setattr__(self, "placement", placement)
        _check_actions(list(chain.from_iterable(self.actions)))

    @property
    def stages(self) -> int:
        """Stages of the whole pipeline: pp × chunks."""
        return self.pp * self.chunks

    def stages_of(self, rank: int) -> tuple[int, ...]:
        """Return the stages that a pipeline rank holds, ascending."""
        return tuple(stage for stage, holder in enumerate(self.placement) if holder == rank)

    @cached_property
    def messages(self) -> int:
        """Messages of one run: activations and gradients that go from one rank to another.

        Examples
        --------
        >>> from mpviz import schedule
        >>> schedule.gpipe(pp=4, microbatches=8).messages
        48
        >>> schedule.interleaved_1f1b(pp=4, microbatches=8, chunks=2).messages
        112
        """
        steps = zip(self.placement, self.placement[1:], strict=False)
        return 2 * self.microbatches * sum(here != there for here, there in steps)

    @property
    def text(self) -> str:
        """All of it, as `parse` reads it."""
        return "\n".join(self._line(rank, len(mine)) for rank, mine in enumerate(self.actions))

    def _line(self, rank: int, most: int = _MOST_ACTIONS) -> str:
        mine = self.actions[rank]
        words = [str(action) for action in mine[:most]]
        if len(mine) > most:
            words[-2:] = ["…", str(mine[-1])]
        return f"rank {rank:<{len(str(self.pp - 1))}}  {' '.join(words)}".rstrip()

    def __repr__(self) -> str:
        lines = [self._line(rank) for rank in range(min(self.pp, _MOST_RANKS))]
        if self.pp > _MOST_RANKS:
            lines.append(f"… {self.pp - _MOST_RANKS} more ranks")
        return "\n".join(lines)


def _check_actions(actions: Sequence[Action]) -> None:
    numbers = chain(map(itemgetter(0), actions), map(itemgetter(2), actions))
    # Of hundreds of thousands, the types are few.
    if set(map(type, actions)) <= {Action} and set(map(type, numbers)) <= {int}:
        return
    for action in actions:
        if type(action) is not Action:
            raise ValueError(f"a plan is made of actions, got {action!r}; read text by parse")
        for name in ("stage", "microbatch"):
            number = getattr(action, name)
            if isinstance(number, bool) or not isinstance(number, int | np.integer):
                raise ValueError(f"the {name} of {action} must be a whole number, got {number!r}")
