"""How much: parameters, memory, FLOPs, bytes sent and seconds of a training step.

- `Model` and `MODELS`: what is trained; `Training`: how; `Cluster` and `MACHINES`: on what;
- `memory`: what each pipeline rank holds, by kind; `zero`: in each stage of ZeRO;
- `flops`: what is computed; `traffic`: what each kind of group carries;
- `step`: how long it takes, and where a second goes; `layouts`: all that fit, the fastest first;
- `alpha_beta`: the time of an all-reduce, an all-gather, an all-to-all, a message, over `links`.

The plain numbers are counted and held by tests against real modules; times are a model's.
"""

from .activations import flops, layer_activations, layer_flops
from .alpha_beta import (
    all_gather_seconds,
    all_reduce_seconds,
    all_to_all_seconds,
    message_seconds,
    ring_latency,
    tree_latency,
)
from .architecture import Latent, Model
from .choices import Layouts, layouts
from .cluster import MACHINES, Cluster, Machine, machine_for
from .in_flight import in_flight
from .links import (
    LAUNCH_SECONDS,
    NETWORK,
    NETWORK_A100,
    NVLINK,
    NVLINK_A100,
    NVLINK_GB200,
    NVLINK_H800,
    Link,
)
from .memory import RESERVE, Memory, memory
from .model_state import PRECISIONS, ModelState, Precision, least_dp, zero
from .options import RECOMPUTE, SCHEDULES, Split, Training, stages_of
from .published import MODELS, gpt
from .step import StepTime, step
from .traffic import Traffic, traffic

__all__ = [
    "LAUNCH_SECONDS",
    "MACHINES",
    "MODELS",
    "NETWORK",
    "NETWORK_A100",
    "NVLINK",
    "NVLINK_A100",
    "NVLINK_GB200",
    "NVLINK_H800",
    "PRECISIONS",
    "RECOMPUTE",
    "RESERVE",
    "SCHEDULES",
    "Cluster",
    "Latent",
    "Layouts",
    "Link",
    "Machine",
    "Memory",
    "Model",
    "ModelState",
    "Precision",
    "Split",
    "StepTime",
    "Traffic",
    "Training",
    "all_gather_seconds",
    "all_reduce_seconds",
    "all_to_all_seconds",
    "flops",
    "gpt",
    "in_flight",
    "layer_activations",
    "layer_flops",
    "layouts",
    "least_dp",
    "machine_for",
    "memory",
    "message_seconds",
    "ring_latency",
    "stages_of",
    "step",
    "traffic",
    "tree_latency",
    "zero",
]
