"""Collectives that others have timed, with what was measured, where, and how far off the model is.

Bus bandwidth is NCCL's: the bytes that a ring would send, 2 (n - 1) / n of the tensor for an
all-reduce and half of it for the others, over the time.
"""

from dataclasses import dataclass

from mpviz import cost

KIB, MIB, GIB = 2**10, 2**20, 2**30

_TABLES = "stas00/ml-engineering, network/README.md (0cc3de50)"
_SWEEP = "stas00/ml-engineering, network/benchmarks/README.md (0cc3de50)"
_OLDER = "stas00/ml-engineering, network/benchmarks/results/all-reduce-8xH200.md (c53741b8)"
_A100 = "stas00/ml-engineering, network/README.md (0030e63f)"
_TWO_NODES = "crusoecloud/crusoe-ml-rke2, README.md"
_ISSUE_309 = "NVIDIA/nccl-tests issue 309"
_ISSUE_283 = "NVIDIA/nccl-tests issue 283"

_SHARP = "NVLink SHARP: the switches add, so less is sent than by a ring"
_TWO = (
    "NVLink SHARP in the nodes, and a tree, which over exactly two nodes crosses the network with "
    "half of a ring's bytes"
)
_MIDDLE = "between 8 and 256 MB NCCL changes protocols, and none reaches full bandwidth"
_SMALL = "far below a megabyte NCCL uses a protocol of lower latency"
_FITTED = "one of the two rows that the latency between nodes is fitted to"
_RELEASES = "two releases of NCCL (2.27 and 2.30) differ by more than the model is off"
_OLD = "one process for all 8 GPUs, and an older NCCL"
_MANY = "the latency of 248 nodes, in part hidden behind the bytes"


@dataclass(frozen=True)
class Row:
    """One measured time.

    Attributes
    ----------
    gpu, nodes : str, int
        Eight GPUs on each node.
    size : int
        Bytes of the tensor.
    bus : float
        Measured bus bandwidth, GB/s.
    source : str
        Where it is printed.
    off : int
        By how many percent the model's time is longer than the measured one, rounded.
    why : str
        What the model leaves out, or what else is known of the row; empty if it is within 10 %.
    what : str
        The collective.
    """

    gpu: str
    nodes: int
    size: int
    bus: float
    source: str
    off: int
    why: str = ""
    what: str = "all-reduce"

    @property
    def ranks(self) -> int:
        return 8 * self.nodes

    @property
    def measured(self) -> float:
        """Seconds."""
        rounds = 2 if self.what == "all-reduce" else 1
        return rounds * (self.ranks - 1) / self.ranks * self.size / (1e9 * self.bus)

    @property
    def modelled(self) -> float:
        """Seconds."""
        machine = cost.MACHINES[self.gpu]
        seconds = cost.all_reduce_seconds if self.what == "all-reduce" else cost.all_gather_seconds
        links = {"inside": machine.inside, "between": machine.between}
        return seconds(self.size, self.ranks, self.nodes, **links)

    @property
    def error(self) -> float:
        """By how many percent the model's time is longer than the measured one."""
        return 100 * (self.modelled / self.measured - 1)


# Where the source gives no size, it is the end of a sweep: the time is all bandwidth.
_END = 8 * GIB

ROWS = (
    # 32 KB
    Row("H200", 1, 32 * KIB, 3.15, _SWEEP, 102, _SMALL),
    Row("B200", 4, 32 * KIB, 0.64, _TABLES, 82, _SMALL),
    # 2 MB
    Row("H200", 1, 2 * MIB, 96.26, _SWEEP, 22, _RELEASES),
    Row("H200", 1, 2 * MIB, 64.53, _OLDER, -18, _RELEASES),
    Row("B200", 1, 2 * MIB, 104.27, _TABLES, 18, _RELEASES),
    Row("A100", 1, 2 * MIB, 36.18, _A100, -49, _OLD),
    Row("H100", 2, 2 * MIB, 33.57, _TWO_NODES, 2, _FITTED),
    Row("B200", 4, 2 * MIB, 20.82, _TABLES, -2, _FITTED),
    # 16 MB
    Row("H200", 1, 16 * MIB, 255.90, _SWEEP, 2),
    Row("B200", 1, 16 * MIB, 294.36, _TABLES, -23, _MIDDLE),
    Row("H100", 2, 16 * MIB, 122.69, _TWO_NODES, -24, _MIDDLE),
    Row("B200", 4, 16 * MIB, 72.03, _TABLES, -40, _MIDDLE),
    # 1 GB and more
    Row("A100", 1, GIB, 229.04, _A100, -5),
    Row("B200", 1, GIB, 721.37, _TABLES, 0),
    Row("H200", 1, GIB, 465.91, _SWEEP, 29, _SHARP),
    Row("H200", 1, _END, 365.6, f"{_TABLES}, SHARP off", 0),
    Row("H200", 1, _END, 366.0, f"{_ISSUE_283}, ring", 1),
    Row("H100", 1, _END, 480.0, _ISSUE_309, 32, _SHARP),
    Row("H100", 2, GIB, 444.33, _TWO_NODES, 24, _TWO),
    Row("H100", 2, _END, 470.0, _ISSUE_309, 29, _TWO),
    Row("B200", 4, GIB, 366.15, _TABLES, 3),
    Row("B200", 4, 16 * GIB, 376.60, _TABLES, 3),
    Row("H100", 4, _END, 365.8, _ISSUE_309, 1),
    Row("H200", 4, _END, 364.9, _ISSUE_283, 1),
    Row("H200", 248, 512 * MIB, 350.0, _ISSUE_283, 16, _MANY),
    Row("H200", 1, _END, 361.0, _ISSUE_283, -1, what="all-gather"),
    Row("H200", 1, _END, 363.0, _ISSUE_283, 0, what="reduce-scatter"),
)
