"""What it is trained on: kinds of GPUs, and how many of them, connected how."""

from dataclasses import dataclass, field
from math import isfinite

from .._checks import listed, whole_number
from ..layout import ParallelLayout
from .links import (
    NETWORK,
    NETWORK_A100,
    NVLINK,
    NVLINK_A100,
    NVLINK_GB200,
    NVLINK_H800,
    Link,
)

HBM_REACHED = 0.8
"""The share of the memory's bandwidth that element-wise kernels reach: an assumption."""

_A100_FIT = (
    "Fitted: one number for the 18 rows of Narayanan et al. 2021, Table 1, and of Korthikanti et "
    "al. 2022, Table 5 (tests/benchmarks/bench_step.py prints the error of each), so no test of "
    "itself: what else the model counts was settled on the same rows."
)
_H100_FIT = (
    "Fitted to the three rows of Llama 3 405B (arXiv 2407.21783, Table 4), whose FLOP/s are taken "
    "to count half of the scores: three rows are few, and no test of itself."
)
_NO_FIT = "That of the H100: nothing here is held against a run on this GPU."


@dataclass(frozen=True)
class Machine:
    """A kind of GPU, and what connects it.

    Attributes
    ----------
    name : str
        Of the GPU.
    inside, between : Link
        What connects GPUs of one node, and of two.
    memory : float
        Bytes.
    peak : float
        FLOP/s in bf16, dense.
    bandwidth : float
        Bytes per second of its memory.
    efficiency : float
        The share of the peak that matrix products reach.
    error : float
        By how many percent a step's time is off, at most, in the published rows that it was fitted
        to; 0 where there is none.
    source : str
        Where memory, peak and bandwidth are printed, and where the efficiency comes from.
    """

    name: str
    inside: Link
    between: Link
    memory: float
    peak: float
    bandwidth: float
    efficiency: float
    error: float
    source: str

    @property
    def label(self) -> str:
        """How far a time of this machine is to be trusted.

        >>> MACHINES["A100"].label, MACHINES["B200"].label
        ('estimated ± 10 %', 'estimated, held against nothing')
        """
        return f"estimated ± {self.error:g} %" if self.error else "estimated, held against nothing"


MACHINES: dict[str, Machine] = {
    machine.name: machine
    for machine in (
        Machine(
            "A100",
            *(NVLINK_A100, NETWORK_A100),
            *(80e9, 312e12, 2.039e12, 0.70, 10),
            f"NVIDIA A100 80 GB SXM data sheet. {_A100_FIT}",
        ),
        Machine(
            "H100",
            *(NVLINK, NETWORK),
            *(80e9, 989.4e12, 3.35e12, 0.56, 10),
            f"NVIDIA H100 SXM data sheet. {_H100_FIT}",
        ),
        Machine(
            "H200",
            *(NVLINK, NETWORK),
            *(141e9, 989.4e12, 4.8e12, 0.56, 0),
            f"NVIDIA H200 SXM data sheet. {_NO_FIT}",
        ),
        Machine(
            "H800",
            *(NVLINK_H800, NETWORK),
            *(80e9, 989.4e12, 3.35e12, 0.56, 0),
            f"NVIDIA H800: an H100 with less NVLink. {_NO_FIT}",
        ),
        Machine(
            "B200",
            *(NVLINK_GB200, NETWORK),
            *(180e9, 2250e12, 8e12, 0.56, 0),
            f"NVIDIA DGX B200 data sheet: 1,440 GB, 64 TB/s and 18 PFLOP/s for 8. {_NO_FIT}",
        ),
        Machine(
            "GB200",
            *(NVLINK_GB200, NETWORK),
            *(186e9, 2500e12, 8e12, 0.56, 0),
            f"NVIDIA GB200 NVL72 data sheet: 13.4 TB, 576 TB/s, 180 PFLOP/s for 72. {_NO_FIT}",
        ),
    )
}
"""By the name of the GPU."""

_USUAL_NODE = 8


def machine_for(gpu: str, gpus_per_node: int) -> Machine:
    """Return the machine of a GPU; one with more than eight GPUs on NVLink is a GB200's.

    >>> machine_for("H100", 8).name, machine_for("H100", 72).name
    ('H100', 'GB200')
    """
    return MACHINES["GB200" if gpus_per_node > _USUAL_NODE else gpu]


@dataclass(frozen=True)
class Cluster:
    """So many GPUs of a kind.

    Parameters
    ----------
    gpus : int
        All of them; whole nodes.
    machine : Machine or str
        Their kind, or its name in `MACHINES`.
    gpus_per_node : int
        By default 8, of a GB200 72.
    price : float
        Of a GPU for an hour, in dollars.

    Raises
    ------
    ValueError
        When the GPUs are no whole number of nodes, or nobody knows their kind.

    Examples
    --------
    >>> cluster = Cluster(1024, "H100", price=2)
    >>> cluster.nodes, cluster.machine.memory / 1e9
    (128, 80.0)
    >>> print(cluster.layout(tp=8, pp=4))
    1,024 GPUs = tp 8 × dp 32 × pp 4
    >>> Cluster(100)
    Traceback (most recent call last):
        ...
    ValueError: 100 GPUs are not whole nodes of 8; 96 or 104 are
    """

    gpus: int
    machine: Machine = field(default=MACHINES["H100"])
    gpus_per_node: int = 0
    price: float = 0.0

    def __post_init__(self) -> None:
        machine = self.machine
        if isinstance(machine, str):
            if machine not in MACHINES:
                known = listed(map(repr, MACHINES), " or ")
                raise ValueError(f"machine must be {known}, got {machine!r}")
            machine = MACHINES[machine]
        usual = 72 if machine.name == "GB200" else _USUAL_NODE
        each = whole_number("gpus_per_node", self.gpus_per_node, least=0) or usual
        gpus = whole_number("gpus", self.gpus)
        if gpus < each:
            each = gpus  # part of a node
        if gpus % each:
            lower = gpus - gpus % each
            raise ValueError(f"{gpus} GPUs are not whole nodes of {each}; "
                             f"{lower} or {lower + each} are")  # fmt: skip
        if not isinstance(self.price, int | float) or not isfinite(self.price) or self.price < 0:
            raise ValueError(f"price must be dollars, 0 or more, got {self.price!r}")
        for name, value in (("machine", machine), ("gpus", gpus), ("gpus_per_node", each)):
            object.__setattr__(self, name, value)

    @property
    def nodes(self) -> int:
        """Nodes."""
        return self.gpus // self.gpus_per_node

    def layout(self, **sizes: int) -> ParallelLayout:
        """Return a layout of all its GPUs: ``tp=``, ``pp=`` and so on as for `ParallelLayout`."""
        return ParallelLayout(nodes=self.nodes, gpus_per_node=self.gpus_per_node, **sizes)  # type: ignore[arg-type]
