"""Pipeline plans, executed on real ranks: the plan that was drawn and simulated, as it stands."""

from .emulate import Wait
from .execution import Run, execute
from .split import WeightGradients, backward_of_input

__all__ = ["Run", "Wait", "WeightGradients", "backward_of_input", "execute"]
