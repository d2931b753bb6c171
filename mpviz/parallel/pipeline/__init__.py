"""Pipeline plans, executed on real ranks: the plan that was drawn and simulated, as it stands."""

from .emulate import EmulatedStage
from .execution import PipelineResult, execute
from .split import WeightGradients, backward_of_input

__all__ = ["EmulatedStage", "PipelineResult", "WeightGradients", "backward_of_input", "execute"]
