"""What connects GPUs: bandwidth, efficiency and latency, each with its source.

Bandwidths are data sheets'. Efficiencies are measured at large sizes. The latencies inside a node
are NCCL's own, from the table its tuner uses; the latency between nodes is fitted, see
``NETWORK.source``. ``tests/benchmarks/bench_cost.py`` prints the model beside measured times.
"""

from dataclasses import dataclass

LAUNCH_SECONDS = 10e-6
"""Before the first byte of any collective: NCCL's base latency of a ring with its protocol LL128
(``src/graph/tuning.cc``, ``baseLat``)."""


@dataclass(frozen=True)
class Link:
    """What connects GPUs.

    Attributes
    ----------
    name : str
        What people call it.
    bytes_per_second : float
        For one GPU, in one direction, by the data sheet.
    efficiency : float
        The share of it that a large collective reaches.
    latency : float
        Seconds for each step of a collective over this link.
    source : str
        Where the three numbers come from.
    """

    name: str
    bytes_per_second: float
    efficiency: float
    latency: float
    source: str

    @property
    def reached(self) -> float:
        """Bytes per second of a large collective, for one GPU in one direction."""
        return self.efficiency * self.bytes_per_second


_IN_A_NODE = (
    "0.81 is measured: ring all-reduces of 363 to 366 GB/s on 4 to 8 H200s (NVLink SHARP off; "
    "stas00/ml-engineering, network/README.md, and NVIDIA/nccl-tests issue 283), 721 of 900 on "
    "8 B200s. 1.9 µs is NCCL's own (src/graph/tuning.cc, hwLat: NVLink, ring, LL128)."
)
_BETWEEN_NODES = (
    "0.92 is measured: 46 to 48 of 50 GB/s a port, says NVIDIA (nccl-tests issue 290), and 366 of "
    "8 × 50 GB/s in an all-reduce of 1 GiB on 4 × 8 B200s (stas00/ml-engineering, "
    "network/README.md). 36 µs is fitted to all-reduces of 2 MiB: 117 µs on 2 × 8 H100s "
    "(crusoecloud/crusoe-ml-rke2, README.md) and 195 µs on 4 × 8 B200s. A much smaller message "
    "is faster: NCCL then uses a protocol of lower latency."
)

NVLINK = Link(
    "NVLink", 450e9, 0.81, 1.9e-6, f"NVIDIA H100 data sheet: 900 GB/s both ways. {_IN_A_NODE}"
)
"""Inside a node of H100s or H200s: 900 GB/s per GPU, counted in both directions."""

NVLINK_A100 = Link(
    "NVLink", 300e9, 0.81, 1.9e-6, f"NVIDIA A100 data sheet: 600 GB/s both ways. {_IN_A_NODE}"
)
"""Inside a node of A100s."""

NVLINK_H800 = Link("NVLink", 200e9, 0.81, 1.9e-6, f"NVIDIA H800: 400 GB/s both ways. {_IN_A_NODE}")
"""Inside a node of H800s, the H100s once made for China."""

NVLINK_GB200 = Link(
    "NVLink", 900e9, 0.81, 1.9e-6, f"NVIDIA GB200 NVL72: 1.8 TB/s both ways. {_IN_A_NODE}"
)
"""Among the 72 GPUs of a GB200 NVL72, and inside a node of eight B200s."""

NETWORK = Link(
    "400 Gbit/s network", 50e9, 0.92, 36e-6, f"One 400 Gbit/s port a GPU. {_BETWEEN_NODES}"
)
"""Between nodes: a 400 Gbit/s InfiniBand or Ethernet port for each GPU, as in a DGX H100."""

NETWORK_A100 = Link(
    "200 Gbit/s network",
    25e9,
    0.92,
    36e-6,
    f"One 200 Gbit/s port a GPU (arXiv 2104.04473, section 5). {_BETWEEN_NODES}",
)
"""Between nodes of A100s: a 200 Gbit/s InfiniBand port for each GPU."""
