"""A layout in words: its groups, what leaves their node, and what a training step costs there."""

from ..cost import Model, machine_for, traffic
from ..layout import ParallelLayout
from ..presets import EXAMPLE

HEAD = ("groups", "size", "leave their node", "carry", "bytes a step", "takes")
COMPARED = "⇄: groups whose members are on several nodes."

_CARRIED = {
    "tp": "sums, in each layer",
    "cp": "keys and values, in each layer",
    "dp": "gradients, once",
    "dp-cp": "gradients, once",
    "pp": "activations, one stage on",
    "ep": "tokens, in each layer",
    "edp": "experts' gradients, once",
}
_EXPERTS = ("ep", "edp")


def table(layout: ParallelLayout, model: Model = EXAMPLE) -> list[tuple[str, ...]]:
    """Return a row for each kind of group that communicates in a training step, and a head.

    Bytes and times are those of `mpviz.cost.traffic`, for a rank of a middle stage.

    >>> for row in table(ParallelLayout(nodes=2, tp=2, pp=4)):
    ...     print(" | ".join(row))
    groups | size | leave their node | carry | bytes a step | takes
    8 tp | 2 | none | sums, in each layer | 550 GB: 8,192 × 67 MB | 1.6 s
    8 dp | 2 | none | gradients, once | 3.5 GB | 9.6 ms
    4 pp | 4 | ⇄ all 4 | activations, one stage on | 34 GB: 512 × 67 MB | 0.77 s
    """
    rows: list[tuple[str, ...]] = [HEAD]
    for kind, part in traffic(model, layout).items():
        groups = layout.groups(kind)
        crossing = int(layout.crosses(groups).sum())
        carried = _CARRIED[kind] if part.count else "nothing"
        if kind in _EXPERTS and not model.expert_layers:
            carried = "nothing: no experts in the model"
        rows.append(
            (
                f"{len(groups):,} {kind}",
                f"{groups.size:,}",
                _leaving(crossing, len(groups)),
                carried,
                _volume(part.count, part.size) if part.count else "–",
                _time(part.seconds) if part.count else "–",
            )
        )
    return rows


def note(layout: ParallelLayout, model: Model = EXAMPLE) -> str:
    """Return what the bytes and times of the table assume.

    >>> print(note(ParallelLayout(nodes=2, tp=2, pp=4)))
    A step of Llama 3 8B: 512 sequences of 8,192 tokens, for a rank of a middle stage, nothing \
hidden behind computing. H100: NVLink 450 GB/s inside a node, 400 Gbit/s network 50 GB/s for each \
GPU between nodes, one way.
    """
    machine = machine_for(model.gpu, layout.gpus_per_node)
    inside, between = machine.inside, machine.between
    return (
        f"A step of {model.name}: {model.batch:,} sequences of {model.sequence:,} tokens, for a "
        f"rank of a middle stage, nothing hidden behind computing. "
        f"{machine.name}: {inside.name} {inside.bytes_per_second / 1e9:.0f} GB/s inside a node, "
        f"{between.name} {between.bytes_per_second / 1e9:.0f} GB/s for each GPU between nodes, "
        f"one way."
    )


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


def _leaving(crossing: int, count: int) -> str:
    if not crossing:
        return "none"
    return f"⇄ all {count:,}" if crossing == count else f"⇄ {crossing:,} of {count:,}"


def _volume(count: float, size: float) -> str:
    """Return bytes as a total, and as its parts where there are several.

    >>> _volume(512, 67.1e6), _volume(1, 8.699e9)
    ('34 GB: 512 × 67 MB', '8.7 GB')
    """
    total = in_bytes(count * size)
    return total if count == 1 else f"{total}: {count:,.0f} × {in_bytes(size)}"


def in_bytes(size: float, digits: int = 2) -> str:
    """Return a number of bytes with its unit.

    >>> in_bytes(31_406_250_000), in_bytes(31_406_250_000, digits=3), in_bytes(16e12)
    ('31 GB', '31.4 GB', '16 TB')
    """
    units = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "KB"))
    scale, unit = next((unit for unit in units if size >= unit[0]), (1, "bytes"))
    return f"{_rounded(size / scale, digits)} {unit}"


def _time(seconds: float) -> str:
    """Return a time with its unit.

    >>> _time(1.62), _time(0.77), _time(0.0096), _time(42e-6)
    ('1.6 s', '0.77 s', '9.6 ms', '42 µs')
    """
    if seconds >= 0.1:
        return f"{_rounded(seconds)} s"
    scale, unit = (1e3, "ms") if seconds >= 1e-3 else (1e6, "µs")
    return f"{_rounded(scale * seconds)} {unit}"


def _rounded(value: float, digits: int = 2) -> str:
    return f"{float(f'{value:.{digits}g}'):,g}"
