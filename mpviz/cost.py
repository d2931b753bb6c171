"""How much: what a tensor of a given size costs on the wires of a cluster.

The best that bandwidth alone allows; latency, congestion and the software come on top.
"""

from dataclasses import dataclass

from ._checks import whole_number


@dataclass(frozen=True)
class Link:
    """What connects GPUs.

    Attributes
    ----------
    name : str
        What people call it.
    bytes_per_second : float
        For one GPU, in one direction.
    """

    name: str
    bytes_per_second: float


NVLINK = Link("NVLink", 450e9)
"""Inside a node of H100s: 900 GB/s per GPU, counted in both directions (NVIDIA's data sheet)."""

NETWORK = Link("400 Gbit/s network", 50e9)
"""Between nodes: a 400 Gbit/s InfiniBand or Ethernet port for each GPU, as in a DGX H100."""


def all_reduce_seconds(
    size: float, ranks: int, nodes: int = 1, *, inside: Link = NVLINK, between: Link = NETWORK
) -> float:
    """Return the time of the best all-reduce over ranks spread evenly over nodes.

    Sum inside each node first, then between nodes, then hand out inside again: with n ranks on m
    nodes, k = n / m on each, a rank moves 2 (k - 1) / k of the tensor inside its node; the
    2 (m - 1) tensors that must pass between nodes are shared by the n ports. Both at once, so the
    slower counts. On one node, or with one rank a node, this is the ring's 2 (n - 1) / n
    (Patarasuk and Yuan 2009, doi 10.1016/j.jpdc.2008.09.002).

    Parameters
    ----------
    size : float
        Bytes of the tensor on each rank.
    ranks, nodes : int
        How many take part, on how many nodes. Where the nodes do not divide the ranks, each is
        taken to have the average, n / m: an estimate, rather too short, since the fullest node
        takes longer.
    inside, between : Link
        What connects GPUs of one node, and of two.

    Raises
    ------
    ValueError
        If there are more nodes than ranks.

    Examples
    --------
    One gigabyte over 8 GPUs: of one node; one on each of 8 nodes; 4 on each of 2.

    >>> [f"{1000 * all_reduce_seconds(1e9, 8, nodes):.1f} ms" for nodes in (1, 8, 2)]
    ['3.9 ms', '35.0 ms', '5.0 ms']
    """
    on_one = _on_one(ranks, nodes)
    return max(
        2 * (on_one - 1) / on_one * size / inside.bytes_per_second,
        2 * (nodes - 1) / ranks * size / between.bytes_per_second,
    )


def all_gather_seconds(
    size: float, ranks: int, nodes: int = 1, *, inside: Link = NVLINK, between: Link = NETWORK
) -> float:
    """Return the time of the best all-gather, or reduce-scatter: half an all-reduce.

    Parameters as for `all_reduce_seconds`; ``size`` is what each rank holds in the end.

    Examples
    --------
    >>> all_gather_seconds(1e9, ranks=2, nodes=2)
    0.01
    """
    return all_reduce_seconds(size, ranks, nodes, inside=inside, between=between) / 2


def all_to_all_seconds(
    size: float, ranks: int, nodes: int = 1, *, inside: Link = NVLINK, between: Link = NETWORK
) -> float:
    """Return the time of an all-to-all: every rank sends an equal part to every rank.

    Parameters as for `all_reduce_seconds`; ``size`` is all that one rank sends, its own part too.

    Examples
    --------
    >>> all_to_all_seconds(1e9, ranks=64, nodes=8)
    0.0175
    """
    here = _on_one(ranks, nodes)
    return max(
        (here - 1) / ranks * size / inside.bytes_per_second,
        (1 - here / ranks) * size / between.bytes_per_second,
    )


def _on_one(ranks: int, nodes: int) -> float:
    """Return how many ranks a node has, on average."""
    ranks, nodes = whole_number("ranks", ranks), whole_number("nodes", nodes)
    if nodes > ranks:
        raise ValueError(f"{ranks} ranks cannot be on {nodes} nodes; nodes may be 1 … {ranks}")
    return ranks / nodes


def message_seconds(size: float, link: Link) -> float:
    """Return the time of one message.

    Examples
    --------
    >>> message_seconds(1e9, NETWORK)
    0.02
    """
    return size / link.bytes_per_second
