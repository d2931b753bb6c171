"""One stage of a pipeline on its rank: forward, backward, or the backward in its two halves."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...schedule import Action
from .split import WeightGradients, backward_of_input

Loss = Callable[[Tensor, int], Tensor]


@dataclass(frozen=True)
class Held:
    """What a forward leaves for its backward."""

    x: Tensor
    output: Tensor


class Stage:
    """A module, and what it holds of the microbatches in flight.

    Parameters
    ----------
    module : Module
        One tensor in, one tensor out.
    needs_input_gradient : bool
        Whether somebody takes the gradient of its input, or the plan computes it all the same: in
        the ``I`` of the first stage.
    loss : callable, optional
        On the last stage: from the output and a microbatch's number to its share of the loss.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        needs_input_gradient: bool,
        loss: Callable[[Tensor, int], Tensor] | None,
    ) -> None:
        self._module = module
        self._needs_input_gradient = needs_input_gradient
        self._loss = loss
        self._held: dict[int, Held] = {}
        self._weights: dict[int, WeightGradients] = {}

    def run(self, action: Action, given: Tensor | None) -> Tensor | None:
        """Do an action; return the output of a forward, the gradient of the input of a backward.

        Parameters
        ----------
        action : Action
            Of this stage.
        given : Tensor or None
            What it takes: the input, or the gradient of the output. None where it takes nothing.
        """
        _, kind, microbatch = action
        if kind == "F":
            assert given is not None
            return self._forward(microbatch, given)
        if kind == "W":
            self._weights.pop(microbatch).accumulate()
            return None
        held = self._held.pop(microbatch)
        if kind == "B":
            return _backward(held, given)
        of_input, self._weights[microbatch] = backward_of_input(held.output, given, held.x)
        return of_input if of_input is not None else _nothing(held.x)

    def skip(self, action: Action) -> Tensor | None:
        """Let a backward be, when the run is to fail: touch no gradient, pass on zeros."""
        held = None if action.kind == "W" else self._held.pop(action.microbatch)
        return None if held is None else _nothing(held.x)

    @property
    def learns(self) -> bool:
        """Whether the module has parameters that require a gradient."""
        parameters = self._module.parameters() if isinstance(self._module, nn.Module) else ()
        return any(parameter.requires_grad for parameter in parameters)

    def requires_gradient(self, microbatch: int) -> bool:
        """Whether the output of a microbatch in flight does, or its loss."""
        return self._held[microbatch].output.requires_grad

    def _forward(self, microbatch: int, given: Tensor) -> Tensor:
        x = given.detach()
        x.requires_grad_(self._needs_input_gradient and x.is_floating_point())
        with torch.enable_grad():
            output = self._module(x)
            if not isinstance(output, Tensor):
                raise ValueError(f"a stage returns one tensor, got {type(output).__name__}")
            root = output if self._loss is None else self._loss(output, microbatch)
        self._held[microbatch] = Held(x, root)
        return output.detach()


def _backward(held: Held, gradient: Tensor | None) -> Tensor | None:
    if held.output.requires_grad:
        torch.autograd.backward(held.output, gradient)
    of_input, held.x.grad = held.x.grad, None
    return of_input if of_input is not None else _nothing(held.x)


def _nothing(x: Tensor) -> Tensor | None:
    """Return what the stage before gets if the output did not depend on the input."""
    return torch.zeros_like(x) if x.requires_grad else None
