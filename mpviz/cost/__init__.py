"""How much: the time that communication takes on a cluster, and the bytes of a training step.

- `links`: what connects GPUs, as data with their sources;
- `alpha_beta`: the time of an all-reduce, an all-gather, an all-to-all, a message;
- `traffic`: what each kind of group carries in one step of a model;
- `zero`: what a rank holds and sends in each stage of ZeRO.
"""

from .alpha_beta import (
    all_gather_seconds,
    all_reduce_seconds,
    all_to_all_seconds,
    message_seconds,
    ring_latency,
    tree_latency,
)
from .links import (
    LAUNCH_SECONDS,
    MACHINES,
    NETWORK,
    NETWORK_A100,
    NVLINK,
    NVLINK_A100,
    NVLINK_GB200,
    NVLINK_H800,
    Link,
    Machine,
    machine_for,
)
from .model_state import PRECISIONS, ModelState, Precision, least_dp, zero
from .traffic import Traffic, traffic

__all__ = [
    "LAUNCH_SECONDS",
    "MACHINES",
    "NETWORK",
    "NETWORK_A100",
    "NVLINK",
    "NVLINK_A100",
    "NVLINK_GB200",
    "NVLINK_H800",
    "PRECISIONS",
    "Link",
    "Machine",
    "ModelState",
    "Precision",
    "Traffic",
    "all_gather_seconds",
    "all_reduce_seconds",
    "all_to_all_seconds",
    "least_dp",
    "machine_for",
    "message_seconds",
    "ring_latency",
    "traffic",
    "tree_latency",
    "zero",
]
