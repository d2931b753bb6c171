"""What goes from stage to stage: which action sends it, which takes it, and how large it is."""

from typing import NamedTuple

import torch
from torch import Tensor

from ...schedule import Action, Plan
from ..agreement import described

Shape = tuple[tuple[int, ...], torch.dtype]

_DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
_MOST_DIMENSIONS = 8
HEADER: Shape = ((4 + _MOST_DIMENSIONS,), torch.int64)
"""Shape and dtype of a `Header`, written down."""


class Header(NamedTuple):
    """What goes before the first output that crosses a boundary, and before the first gradient.

    Attributes
    ----------
    shape : Shape
        Of all that follow.
    learns : bool
        Whether outputs require a gradient, because a stage before has something to learn.
    cut : int, optional
        The first stage, as far as the sender knows, whose output should require one and does not.
    """

    shape: Shape
    learns: bool = True
    cut: int | None = None


class Letter(NamedTuple):
    """One tensor that crosses from a stage to a neighbour.

    Attributes
    ----------
    boundary : int
        That between stages ``boundary`` and ``boundary + 1``.
    back : bool
        Whether it is a gradient, which goes back, or an output.
    microbatch : int
        Of which.
    """

    boundary: int
    back: bool
    microbatch: int

    @property
    def sender(self) -> int:
        """The stage that computes it."""
        return self.boundary + self.back

    @property
    def taker(self) -> int:
        """The stage that takes it."""
        return self.boundary + (not self.back)

    def number(self, microbatches: int) -> int:
        """Return a number that no other letter of a run has."""
        return (2 * self.boundary + self.back) * microbatches + self.microbatch

    def __str__(self) -> str:
        what = "the gradient that stage" if self.back else "the output that stage"
        return f"{what} {self.sender} sends for microbatch {self.microbatch}"


def taken_by(action: Action, stages: int) -> Letter | None:
    """Return what an action takes from a neighbouring stage.

    >>> taken_by(Action(1, "F", 5), stages=2)
    Letter(boundary=0, back=False, microbatch=5)
    """
    stage, kind, microbatch = action
    if kind == "F":
        return Letter(stage - 1, False, microbatch) if stage else None
    return Letter(stage, True, microbatch) if kind != "W" and stage + 1 < stages else None


def made_by(action: Action, stages: int) -> Letter | None:
    """Return what an action makes for a neighbouring stage.

    >>> made_by(Action(1, "I", 5), stages=2)
    Letter(boundary=0, back=True, microbatch=5)
    """
    stage, kind, microbatch = action
    if kind == "F":
        return Letter(stage, False, microbatch) if stage + 1 < stages else None
    return Letter(stage - 1, True, microbatch) if kind != "W" and stage else None


def receipts(plan: Plan, rank: int) -> dict[Letter, list[Letter]]:
    """Return, for each letter that a rank is sent, those from it that the sender took before.

    Where the letter is, these have arrived. Each is named once, with the first letter to say so.

    >>> from mpviz import schedule
    >>> receipts(schedule.gpipe(pp=2, microbatches=2), rank=0)[Letter(0, True, 0)]
    [Letter(boundary=0, back=False, microbatch=0), Letter(boundary=0, back=False, microbatch=1)]
    """
    found = {}
    for peer, actions in enumerate(plan.actions):
        taken: list[Letter] = []
        for action in actions if peer != rank else ():
            took, made = taken_by(action, plan.stages), made_by(action, plan.stages)
            if took and plan.placement[took.sender] == rank:
                taken.append(took)
            if made and plan.placement[made.taker] == rank:
                found[made], taken = taken, []
    return found


def written(header: Header) -> Tensor:
    """Write a header down.

    Raises
    ------
    ValueError
        When the tensors that follow carry no gradients, or have more than 8 dimensions.
    """
    sizes, dtype = header.shape
    if dtype not in _DTYPES or len(sizes) > _MOST_DIMENSIONS:
        raise ValueError(
            f"a stage passes on at most {_MOST_DIMENSIONS} dimensions of float32, float64, "
            f"float16 or bfloat16, got {described(like(header.shape))}"
        )
    cut = -1 if header.cut is None else header.cut
    numbers = [_DTYPES.index(dtype), header.learns, cut, len(sizes), *sizes]
    return torch.tensor(numbers + [0] * (HEADER[0][0] - len(numbers)))


def read(message: Tensor) -> Header:
    """Read what `written` wrote.

    >>> read(written(Header(((2, 3), torch.float32), cut=1)))
    Header(shape=((2, 3), torch.float32), learns=True, cut=1)
    """
    dtype, learns, cut, dimensions, *sizes = message.tolist()
    shape = tuple(sizes[:dimensions]), _DTYPES[dtype]
    return Header(shape, bool(learns), None if cut < 0 else cut)


def shape_of(tensor: Tensor) -> Shape:
    """Return shape and dtype."""
    return tuple(tensor.shape), tensor.dtype


def like(shape: Shape) -> Tensor:
    """Return a tensor of a shape and dtype, without memory: to describe.

    >>> described(like(((2, 3), torch.float32)))
    '2×3 float32'
    """
    sizes, dtype = shape
    return torch.empty(sizes, dtype=dtype, device="meta")
