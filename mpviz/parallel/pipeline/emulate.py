"""Stages that take a set time: so that many overlap truly on few cores."""

import time
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function


class EmulatedStage(nn.Module):
    """A stage that multiplies by one number, and sleeps as long as a large one would compute.

    Sleeping takes no core. As many stages as you like overlap on two, as they would on a GPU each.

    Parameters
    ----------
    seconds_forward, seconds_backward : float
        How long a forward and a whole backward take.
    seconds_weight : float, optional
        How much of the backward is the gradient of the weight; half of it by default.

    Examples
    --------
    >>> stage = EmulatedStage(0.0, 0.0)
    >>> stage(torch.ones(2)).sum().backward()
    >>> stage.scale.grad
    tensor(2.)
    """

    def __init__(
        self, seconds_forward: float, seconds_backward: float, seconds_weight: float | None = None
    ) -> None:
        super().__init__()
        of_weight = seconds_backward / 2 if seconds_weight is None else seconds_weight
        if not 0 <= of_weight <= seconds_backward or not seconds_forward >= 0:
            raise ValueError(
                f"seconds must be ≥ 0, and those of the weight a part of the backward's, got "
                f"forward {seconds_forward}, backward {seconds_backward}, weight {of_weight}"
            )
        self.seconds_forward = seconds_forward
        self.seconds_input, self.seconds_weight = seconds_backward - of_weight, of_weight
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x × scale``, after a while."""
        time.sleep(self.seconds_forward)
        product = x * _with_slow_backward(self.scale, self.seconds_weight)
        # Last, so that its backward runs even where x needs no gradient.
        return _with_slow_backward(product, self.seconds_input)


def _with_slow_backward(x: Tensor, seconds: float) -> Tensor:
    slowed: Tensor = _SlowBackward.apply(x, seconds)  # type: ignore[no-untyped-call]
    return slowed


class _SlowBackward(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, seconds: float) -> Tensor:
        ctx.seconds = seconds
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        time.sleep(ctx.seconds)
        return gradients[0], None
