"""A layout in words: its arithmetic, its groups, and what it costs when they leave their node."""

from collections.abc import Callable

import numpy as np

from ..cost import (
    NETWORK,
    NVLINK,
    all_gather_seconds,
    all_reduce_seconds,
    all_to_all_seconds,
    message_seconds,
)
from ..layout import ParallelLayout
from ..rankgrid import Groups

HEAD = ("groups", "size", "leave their node", "carry", "1 GB takes")
NOTE = (
    f"At best, on H100s: {NVLINK.name} {NVLINK.bytes_per_second / 1e9:.0f} GB/s inside a node, "
    f"{NETWORK.name} {NETWORK.bytes_per_second / 1e9:.0f} GB/s for each GPU between nodes."
)

_GIGABYTE = 1e9


def table(layout: ParallelLayout) -> list[tuple[str, ...]]:
    """Return a row for each kind of group that communicates in a training step, and a head.

    Times are the best for a gigabyte per rank, in the group that is spread over most nodes (see
    `mpviz.cost`). Along tp, dp and edp runs an all-reduce, along cp an all-gather, along ep an
    all-to-all, along pp one message.

    >>> for row in table(ParallelLayout(nodes=2, tp=2, pp=4)):
    ...     print(" | ".join(row))
    groups | size | leave their node | carry | 1 GB takes
    8 tp | 2 | none | sums, in each layer | 2.2 ms
    8 dp | 2 | none | gradients, each step | 2.2 ms
    4 pp | 4 | ⇄ all 4 | activations | 20 ms
    """
    rows: list[tuple[str, ...]] = [HEAD]
    for kind, carried, seconds in _kinds(layout):
        groups = layout.groups(kind)
        crossing = int(layout.crosses(groups).sum())
        rows.append(
            (
                f"{len(groups):,} {kind}",
                f"{groups.size:,}",
                _leaving(crossing, len(groups)),
                carried if groups.size > 1 else "nothing",
                _milliseconds(seconds(_GIGABYTE, groups.size, _most_nodes(layout, groups))),
            )
        )
    return rows


def comparison(left: ParallelLayout, right: ParallelLayout) -> list[tuple[str, ...]]:
    """Return how many groups of each kind leave their node in two layouts of the same sizes.

    >>> default = ParallelLayout(nodes=2, tp=2, pp=4)
    >>> other = ParallelLayout(nodes=2, tp=2, pp=4, order="tp-cp-ep-pp-dp")
    >>> for row in comparison(default, other):
    ...     print(" | ".join(row))
    groups | size | leave on the left | leave on the right
    8 tp | 2 | none | none
    8 dp | 2 | none | ⇄ all 8
    4 pp | 4 | ⇄ all 4 | none
    """
    head = ("groups", "size", "leave on the left", "leave on the right")
    rows: list[tuple[str, ...]] = [head]
    for (groups, size, on_left, *_), (_, _, on_right, *_) in zip(
        table(left)[1:], table(right)[1:], strict=True
    ):
        rows.append((groups, size, on_left, on_right))
    return rows


Cost = Callable[[float, int, int], float]


def _kinds(layout: ParallelLayout) -> list[tuple[str, str, Cost]]:
    """Name the kinds of groups, what they carry, and the function that says what it costs."""
    kinds: list[tuple[str, str, Cost]] = [("tp", "sums, in each layer", all_reduce_seconds)]
    if layout.cp > 1:
        kinds.append(("cp", "keys and values", all_gather_seconds))
    data = "dp-cp" if layout.cp > 1 else "dp"
    kinds += [(data, "gradients, each step", all_reduce_seconds), ("pp", "activations", _handed_on)]
    if layout.has_experts:
        kinds += [
            ("ep", "tokens, in each layer", all_to_all_seconds),
            ("edp", "experts' gradients", all_reduce_seconds),
        ]
    return kinds


def _handed_on(size: float, ranks: int, nodes: int) -> float:
    return message_seconds(size, NETWORK if nodes > 1 else NVLINK) if ranks > 1 else 0.0


def _most_nodes(layout: ParallelLayout, groups: Groups) -> int:
    """Return on how many nodes the group lies that is spread most."""
    nodes = np.sort(layout.node(groups.ranks), axis=1)
    return 1 + int((np.diff(nodes, axis=1) > 0).sum(axis=1).max(initial=0))


def _leaving(crossing: int, count: int) -> str:
    if not crossing:
        return "none"
    return f"⇄ all {count:,}" if crossing == count else f"⇄ {crossing:,} of {count:,}"


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.2g} ms" if seconds else "–"
