"""One stage of a pipeline on its rank: forward, backward, or the backward in its two halves."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...schedule import Action
from .split import WeightGradients, backward_of_input

Loss = Callable[[Tensor, int], Tensor]


@dataclass(frozen=True)
class Activation:
    """What a forward keeps for its backward, while its microbatch is in flight."""

    x: Tensor
    output: Tensor

    def backward(self, received: Tensor | None) -> Tensor | None:
        """Go back through the whole stage; return what the stage before gets."""
        if self.output.requires_grad:
            torch.autograd.backward(self.output, received)
        gradient, self.x.grad = self.x.grad, None
        return self.or_zeros(gradient)

    def or_zeros(self, gradient: Tensor | None) -> Tensor | None:
        """Return the gradient of the input: zeros if the output did not depend on it."""
        if gradient is None and self.x.requires_grad:
            return torch.zeros_like(self.x)
        return gradient


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

    Attributes
    ----------
    device : torch.device or None
        Where its parameters are; None if it has none.
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
        self._in_flight: dict[int, Activation] = {}
        self._weight_gradients: dict[int, WeightGradients] = {}
        parameters = module.parameters() if isinstance(module, nn.Module) else ()
        self.device = next((parameter.device for parameter in parameters), None)

    def run(self, action: Action, received: Tensor | None) -> Tensor | None:
        """Do an action; return the output of a forward, the gradient of the input of a backward.

        Parameters
        ----------
        action : Action
            Of this stage.
        received : Tensor or None
            What it takes: the input, or the gradient of the output. None where it takes nothing.
        """
        _, kind, microbatch = action
        if received is not None and self.device is not None:
            received = received.to(self.device)
        if kind == "F":
            assert received is not None
            return self._forward(microbatch, received)
        if kind == "W":
            self._weight_gradients.pop(microbatch).accumulate()
            return None
        activation = self._in_flight.pop(microbatch)
        if kind == "B":
            return activation.backward(received)
        gradient, self._weight_gradients[microbatch] = backward_of_input(
            activation.output, received, activation.x
        )
        return activation.or_zeros(gradient)

    def skip(self, action: Action) -> Tensor | None:
        """Let a backward be, when the run is to fail: touch no gradient, pass on zeros."""
        return None if action.kind == "W" else self._in_flight.pop(action.microbatch).or_zeros(None)

    @property
    def trainable(self) -> bool:
        """Whether the module has parameters that require a gradient."""
        parameters = self._module.parameters() if isinstance(self._module, nn.Module) else ()
        return any(parameter.requires_grad for parameter in parameters)

    def requires_gradient(self, microbatch: int) -> bool:
        """Whether the output of a microbatch in flight does, or its loss."""
        return self._in_flight[microbatch].output.requires_grad

    def _forward(self, microbatch: int, received: Tensor) -> Tensor:
        x = received.detach()
        x.requires_grad_(self._needs_input_gradient and x.is_floating_point())
        with torch.enable_grad():
            output = self._module(x)
            if not isinstance(output, Tensor):
                raise ValueError(f"a stage returns one tensor, got {type(output).__name__}")
            root = output if self._loss is None else self._loss(output, microbatch)
        self._in_flight[microbatch] = Activation(x, root)
        return output.detach()
