"""What would fit: the nearest layouts, when the sizes asked for make none."""

from collections.abc import Iterator, Mapping
from math import log
from typing import Any

from .layout import ParallelLayout
from .names import MEGATRON_ORDER

SIZES = ("tp", "pp", "cp", "ep", "nodes", "gpus_per_node")
_LARGEST = 4096


def nearest(
    sizes: Mapping[str, Any], *, moved: str | None = None, most_gpus: int = 1 << 20, most: int = 3
) -> list[tuple[str, Any]]:
    """Return single changes after which the sizes make a layout, the nearest first.

    Parameters
    ----------
    sizes : mapping
        Arguments of `ParallelLayout` that it refuses.
    moved : str, optional
        The size that was changed last: its own neighbours come first.
    most_gpus : int
        No layout of more GPUs is proposed.
    most : int
        How many changes to return.

    Returns
    -------
    list of (name, value)
        Empty where the sizes fit, or no change of one alone helps.

    Examples
    --------
    >>> nearest({"nodes": 2, "gpus_per_node": 8, "tp": 3, "pp": 4}, moved="tp")
    [('tp', 4), ('tp', 2), ('nodes', 3)]
    """
    if _fits(sizes, most_gpus):
        return []
    changes = [
        (name, value)
        for name in SIZES
        if isinstance(sizes.get(name, 1), int)
        for value in _neighbours(sizes, name, most_gpus)
    ]
    if _fits({**sizes, "order": MEGATRON_ORDER}, most_gpus):
        return [("order", MEGATRON_ORDER), *changes][:most]

    def distance(change: tuple[str, int]) -> tuple[bool, bool, float]:
        name, value = change
        # Other nodes are bought sooner than nodes of another size.
        return name != moved, name == "gpus_per_node", abs(log(value / max(1, sizes.get(name, 1))))

    return sorted(changes, key=distance)[:most]


def _neighbours(sizes: Mapping[str, Any], name: str, most_gpus: int) -> Iterator[int]:
    """Yield the nearest smaller and the nearest larger value of one size that fit."""
    here = sizes.get(name, 1)
    for values in (range(min(here, _LARGEST + 1) - 1, 0, -1), range(max(here, 0) + 1, _LARGEST)):
        fitting = (value for value in values if _fits({**sizes, name: value}, most_gpus))
        yield from [value for value in [next(fitting, None)] if value is not None]


def _fits(sizes: Mapping[str, Any], most_gpus: int) -> bool:
    world = sizes.get("nodes", 1) * sizes.get("gpus_per_node", 8)
    tp, pp = sizes.get("tp", 1), sizes.get("pp", 1)
    etp = sizes.get("expert_tp") or tp
    if world > most_gpus or world % (tp * pp * sizes.get("cp", 1)):
        return False
    if world % (etp * pp * sizes.get("ep", 1)):
        return False  # both checks only spare the dearer one below
    try:
        ParallelLayout(**sizes)
    except ValueError:
        return False
    return True
