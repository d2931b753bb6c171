"""What the pictures of products and blocks show, in lines of text."""

from collections.abc import Callable, Sequence

from ...shards import Block, Cut, Product, times
from ..canvas.page import aligned
from .equation import Words
from .matrices import drawn_ranks
from .numbers import in_a_line, uncut
from .steps import Inner, done_by, heads_of, named, parted, stages_of

_LONGEST_LINE = 88


def printed(layer: Block | Product) -> list[str]:
    """Return how it prints itself, its title first."""
    if isinstance(layer, Block):
        return repr(layer).splitlines()
    return [f"{layer!r}, tp={layer.output.parts}", *map(repr, [*layer.inputs, layer.output])]


def lanes(block: Block) -> list[str]:
    """Return the steps that each rank takes alone."""
    _, inner, _ = parted(block)
    return _per_rank(block.tp, lambda rank: [_stations(inner, rank)])


def _per_rank(ranks: int, told: Callable[[int], Sequence[str]]) -> list[str]:
    """Return the lines about each rank, its name before the first."""
    lines: list[list[str]] = []
    for rank in drawn_ranks(ranks):
        if rank is None:
            lines.append(["⋮"])
            continue
        first, *more = told(rank)
        lines += [[f"rank {rank}", first], *(["", line] for line in more)]
    return aligned(lines).splitlines()


def products(step: Product, words: Words) -> list[str]:
    """Return what each rank multiplies, and with numbers what that gives."""

    def told(rank: int) -> list[str]:
        *factors, result = (_part(cut, rank) for cut in (*step.inputs, step.output))
        lines = [f"{' · '.join(factors)} = {result}"]
        if words:
            x, a, y = (in_a_line(words[cut][rank]) for cut in (*step.inputs, step.output))
            line = f"{x} · {a} = {y}"
            lines += [line] if len(line) <= _LONGEST_LINE else [x, f"· {a}", f"= {y}"]
        return lines

    lines = _per_rank(step.output.parts, told)
    if words and step.output.parts > 1:
        (whole,) = words[uncut(step.output)]
        lines.append(f"together {step.output.name} = {in_a_line(whole)}")
    return lines


def _part(cut: Cut, rank: int) -> str:
    """Say what a rank holds: A 6×4 (columns 0–3)."""
    held = f"{cut.name} {times(cut.local_shape)}"
    if cut.partial and cut.parts > 1:
        return f"addend of {held}"
    if cut.dim is None or cut.parts == 1:
        return held
    span = cut.slices[rank][cut.dim]
    what = ("row", "column")[cut.dim]
    if span.stop - span.start == 1:
        return f"{held} ({what} {span.start})"
    return f"{held} ({what}s {span.start}–{span.stop - 1})"


def _stations(inner: Sequence[Inner], rank: int) -> str:
    """Return the steps of one rank, and its heads."""
    stations = [named(inner[0].inputs[0], rank)]
    for stage in stages_of(inner):
        stations.append(", ".join(_does(step, rank) for step in stage))
        stations.append(", ".join(named(step.output, rank) for step in stage))
    heads = heads_of(inner, rank)
    return " → ".join(stations) + (f" ({heads})" if heads else "")


def _does(step: Inner, rank: int) -> str:
    done = done_by(step, rank)
    return f"{done} {times(step.right.local_shape)}" if isinstance(step, Product) else done
