"""The time of a collective: latency for its steps, and its bytes over the links' bandwidth.

A time is that of one collective alone on the machine: no congestion, no waiting for a late rank.
What the model leaves out is named beside the measured rows (``tests/benchmarks/bench_cost.py``):
NVLink SHARP, where the switches add; the extra bandwidth of a tree over exactly two nodes; and
messages below a megabyte, which are faster than it says.
"""

from math import isfinite
from numbers import Real
from typing import Any

import numpy as np

from .._checks import whole_number
from .links import LAUNCH_SECONDS, NETWORK, NVLINK, Link

Number = Any
"""A number, or an array of them."""


def all_reduce_seconds(
    size: float, ranks: int, nodes: int = 1, *, inside: Link = NVLINK, between: Link = NETWORK
) -> float:
    """Return the time of an all-reduce over ranks spread evenly over nodes.

    With n ranks on m nodes, k = n / m on each, links of latency α and bandwidth B reached:

        α₀ + latency + 2 (n - 1) / n · size / min(B inside, k · B between)

    A ring through all ranks moves 2 (n - 1) / n of the tensor over each of its links (Patarasuk
    and Yuan 2009, doi 10.1016/j.jpdc.2008.09.002). It crosses from node to node once, and k rings
    share the k ports of a node; on one node the second bound falls away. The latency is that of
    the steps of a ring, or of a tree where that has fewer, once up and once down: NCCL has both
    (its tree is a double one, which sends as few bytes as a ring).

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
        If there are more nodes than ranks, or the size is no number of bytes.

    Examples
    --------
    2 MB and 1 GB over the 8 GPUs of 1, 2 and 4 nodes. A gigabyte hardly notices the network:

    >>> [f"{1000 * all_reduce_seconds(2e6, 8 * nodes, nodes):.2f} ms" for nodes in (1, 2, 4)]
    ['0.05 ms', '0.12 ms', '0.19 ms']
    >>> [f"{1000 * all_reduce_seconds(1e9, 8 * nodes, nodes):.2f} ms" for nodes in (1, 2, 4)]
    ['4.84 ms', '5.25 ms', '5.50 ms']
    """
    _on_one(ranks, nodes)
    return float(seconds_of("all_reduce", _bytes(size), ranks, nodes, inside, between))


def all_gather_seconds(
    size: float, ranks: int, nodes: int = 1, *, inside: Link = NVLINK, between: Link = NETWORK
) -> float:
    """Return the time of an all-gather, or of a reduce-scatter: one of the two rounds of a ring.

    Half the steps and half the bytes of a ring's all-reduce; the launch is not halved.

    Parameters as for `all_reduce_seconds`; ``size`` is what each rank holds in the end.

    Examples
    --------
    >>> f"{1000 * all_gather_seconds(1e9, ranks=2, nodes=2):.1f} ms"
    '10.9 ms'
    """
    _on_one(ranks, nodes)
    return float(seconds_of("all_gather", _bytes(size), ranks, nodes, inside, between))


def all_to_all_seconds(
    size: float, ranks: int, nodes: int = 1, *, inside: Link = NVLINK, between: Link = NETWORK
) -> float:
    """Return the time of an all-to-all: every rank sends an equal part to every rank.

    All messages are under way at once, so one step inside and one between the nodes count; the
    slower of the two kinds of links decides. Not held against measured times.

    Parameters as for `all_reduce_seconds`; ``size`` is all that one rank sends, its own part too.

    Examples
    --------
    >>> f"{1000 * all_to_all_seconds(1e9, ranks=64, nodes=8):.1f} ms"
    '19.1 ms'
    """
    _on_one(ranks, nodes)
    return float(seconds_of("all_to_all", _bytes(size), ranks, nodes, inside, between))


def message_seconds(size: float, link: Link) -> float:
    """Return the time of one message, from the call to its arrival.

    Examples
    --------
    >>> f"{1000 * message_seconds(1e9, NETWORK):.1f} ms"
    '21.8 ms'
    """
    return LAUNCH_SECONDS + link.latency + _bytes(size) / link.reached


def ring_latency(
    ranks: int, nodes: int = 1, inside: Link = NVLINK, between: Link = NETWORK
) -> float:
    """Return the seconds that the steps of one round of a ring take, whatever is sent.

    A round, of which an all-reduce has two, visits every rank: n - m steps inside nodes and
    m - 1 between them. NCCL's tuner counts the same.

    Examples
    --------
    >>> [f"{1e6 * ring_latency(8 * nodes, nodes):.0f} µs" for nodes in (1, 4, 256)]
    ['13 µs', '161 µs', '12585 µs']
    """
    _on_one(ranks, nodes)
    return float(_ring_steps(ranks, nodes, inside, between))


def tree_latency(
    ranks: int, nodes: int = 1, inside: Link = NVLINK, between: Link = NETWORK
) -> float:
    """Return the seconds that the way up a tree takes; an all-reduce comes down again.

    A chain of the k ranks of each node, and a binary tree over the m nodes: k - 1 steps and
    log₂ m. NCCL's tuner counts the same.

    Examples
    --------
    >>> [f"{1e6 * tree_latency(8 * nodes, nodes):.0f} µs" for nodes in (1, 4, 256)]
    ['13 µs', '85 µs', '301 µs']
    """
    _on_one(ranks, nodes)
    return float(_tree_steps(ranks, nodes, inside, between))


def seconds_of(
    operation: str, size: Number, ranks: Number, nodes: Number, inside: Link, between: Link
) -> Number:
    """Return the time of a collective, or of many at once: each number may be an array.

    Parameters
    ----------
    operation : {"all_reduce", "all_gather", "reduce_scatter", "all_to_all", "message"}
        Which. The others are documented at the functions that are called like them.
    size, ranks, nodes : float or ndarray
        As there. A group of one takes no time.
    inside, between : Link
        As there.
    """
    if operation == "message":
        latency = np.where(nodes > 1, between.latency, inside.latency)
        took = latency + size / np.where(nodes > 1, between.reached, inside.reached)
    elif operation == "all_to_all":
        took = _all_to_all(size, ranks, nodes, inside, between)
    else:
        sent = (ranks - 1) / ranks * size
        # The slowest link's, of rings through every rank: k of them share the k ports of a node.
        through = np.minimum(inside.reached, ranks / nodes * between.reached)
        bandwidth = np.where(nodes > 1, through, inside.reached)
        steps = _ring_steps(ranks, nodes, inside, between)
        took = steps + sent / bandwidth
        if operation == "all_reduce":
            tree = _tree_steps(ranks, nodes, inside, between)
            took = 2 * np.minimum(steps, tree) + 2 * sent / bandwidth
    return np.where(ranks > 1, LAUNCH_SECONDS + took, 0.0)[()]


def _all_to_all(size: Number, ranks: Number, nodes: Number, inside: Link, between: Link) -> Number:
    here = ranks / nodes
    latency = (here > 1) * inside.latency + (nodes > 1) * between.latency
    near, far = (here - 1) / ranks, 1 - here / ranks
    return latency + np.maximum(near * size / inside.reached, far * size / between.reached)


def _ring_steps(ranks: Number, nodes: Number, inside: Link, between: Link) -> Number:
    return (ranks - nodes) * inside.latency + (nodes - 1) * between.latency


def _tree_steps(ranks: Number, nodes: Number, inside: Link, between: Link) -> Number:
    return (ranks / nodes - 1) * inside.latency + np.log2(nodes) * between.latency


def _on_one(ranks: int, nodes: int) -> float:
    """Return how many ranks a node has, on average."""
    ranks, nodes = whole_number("ranks", ranks), whole_number("nodes", nodes)
    if nodes > ranks:
        raise ValueError(f"{ranks} ranks cannot be on {nodes} nodes; nodes may be 1 … {ranks}")
    return ranks / nodes


def _bytes(size: float) -> float:
    if not isinstance(size, Real) or not isfinite(size) or size < 0:
        raise ValueError(f"size must be a number of bytes, 0 or more, got {size!r}")
    return float(size)
