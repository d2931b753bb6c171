"""What the pictures of products and blocks show, in lines of text."""

from collections.abc import Callable, Sequence

from ...shards import Block, Cut, Product, times
from ..canvas.page import aligned
from .block_steps import columns_of, done_by, heads_of, part_name, split
from .matrices import drawn_ranks
from .numbers import Words, in_a_line, whole

_LONGEST_LINE = 88


def printed(layer: Block | Product) -> list[str]:
    """Return how it prints itself, its title first."""
    if isinstance(layer, Block):
        return repr(layer).splitlines()
    return [f"{layer!r}, tp={layer.output.parts}", *map(repr, [*layer.inputs, layer.output])]


def block_lines(block: Block) -> list[str]:
    """Return a line for each rank: the steps that it takes alone, and its heads."""
    _, steps, _ = split(block)

    def of_rank(rank: int) -> list[str]:
        words = [part_name(steps[0].inputs[0], rank)]
        for column in columns_of(steps):
            done = []
            for step in column:
                shape = f" {times(step.right.local_shape)}" if isinstance(step, Product) else ""
                done.append(done_by(step, rank) + shape)
            words.append(", ".join(done))
            words.append(", ".join(part_name(step.output, rank) for step in column))
        heads = heads_of(steps, rank)
        return [" → ".join(words) + (f" ({heads})" if heads else "")]

    return _per_rank(block.tp, of_rank)


def product_lines(step: Product, words: Words) -> list[str]:
    """Return what each rank multiplies, and with numbers what that gives."""
    cuts = (*step.inputs, step.output)

    def of_rank(rank: int) -> list[str]:
        left, right, result = (_part(cut, rank) for cut in cuts)
        lines = [f"{left} · {right} = {result}"]
        if words:
            x, a, y = (in_a_line(words[cut][rank]) for cut in cuts)
            line = f"{x} · {a} = {y}"
            lines += [line] if len(line) <= _LONGEST_LINE else [x, f"· {a}", f"= {y}"]
        return lines

    lines = _per_rank(step.output.parts, of_rank)
    if words and step.output.parts > 1:
        (total,) = words[whole(step.output)]
        lines.append(f"together {step.output.name} = {in_a_line(total)}")
    return lines


def _per_rank(ranks: int, of_rank: Callable[[int], Sequence[str]]) -> list[str]:
    """Return the lines about each rank, its name before the first."""
    lines: list[list[str]] = []
    for rank in drawn_ranks(ranks):
        if rank is None:
            lines.append(["⋮"])
        else:
            first, *more = of_rank(rank)
            lines += [[f"rank {rank}", first], *(["", line] for line in more)]
    return aligned(lines).splitlines()


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
