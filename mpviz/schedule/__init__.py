"""In which order: pipeline plans and collectives, as data, and the rules that a plan must keep.

The notation is that of ``torch.distributed.pipelining``: ``2F0`` is the forward of stage 2 for
microbatch 0. A *stage* (a chunk of the model) is not a *pipeline rank*: a rank may hold several.
"""

from .algorithms import ALGORITHMS, CollectivePlan, Send, collective, replay
from .classic import gpipe, interleaved_1f1b, one_forward_one_backward
from .plan import KINDS, Action, Plan, looped, v_shaped
from .reading import parse
from .validity import validate
from .zero_bubble import zero_bubble_h1, zero_bubble_v

__all__ = [
    "ALGORITHMS",
    "KINDS",
    "Action",
    "CollectivePlan",
    "Plan",
    "Send",
    "collective",
    "gpipe",
    "interleaved_1f1b",
    "looped",
    "one_forward_one_backward",
    "parse",
    "replay",
    "v_shaped",
    "validate",
    "zero_bubble_h1",
    "zero_bubble_v",
]
