"""How a block reads from left to right: an operator, what each rank does alone, an operator."""

import re
from collections.abc import Sequence

from ...shards import Block, Cut, Local, Operator, Product, subscript

Inner = Product | Local


def parted(block: Block) -> tuple[Operator | None, list[Inner], Operator | None]:
    """Return the operator before, the steps that each rank takes alone, and the operator after.

    Raises
    ------
    ValueError
        When an operator stands elsewhere, or there is nothing between.
    """
    steps = list(block.steps)
    first = steps.pop(0) if steps and isinstance(steps[0], Operator) else None
    last = steps.pop() if steps and isinstance(steps[-1], Operator) else None
    alone = [step for step in steps if not isinstance(step, Operator)]
    if not alone or len(alone) < len(steps):
        raise ValueError(
            "a block can be drawn when it is at most one operator, then products and local "
            "functions, then at most one operator; its steps are "
            f"{'; '.join(map(repr, block.steps)) or 'none'}"
        )
    before = first if isinstance(first, Operator) else None
    after = last if isinstance(last, Operator) else None
    return before, alone, after


def stages_of(inner: Sequence[Inner]) -> list[list[Inner]]:
    """Return the steps one after the other; products of the same left matrix are side by side."""
    stages: list[list[Inner]] = []
    for step in inner:
        if stages and isinstance(step, Product) and stages[-1][0].inputs[0] == step.left:
            stages[-1].append(step)
        else:
            stages.append([step])
    return stages


def named(cut: Cut, rank: int) -> str:
    """Return what a rank's part is called: A₁ on rank 0; what is whole keeps its name.

    >>> named(Cut("A", (6, 8), 2, dim=1), 0), named(Cut("X", (4, 6), 2), 0)
    ('A₁', 'X')
    """
    same = cut.parts == 1 or cut.state == "whole"
    return cut.name if same else cut.name + subscript(rank + 1)


def done_by(step: Inner, rank: int) -> str:
    """Return what a rank multiplies by, or the function of its own parts.

    >>> from mpviz.shards import mlp
    >>> [done_by(step, 1) for step in mlp(4, 6, 24, tp=2).steps[1:-1]]
    ['A₂', 'GeLU(XA₂)', 'B₂']
    """
    if isinstance(step, Product):
        return named(step.right, rank)
    own = {cut.name: named(cut, rank) for cut in step.inputs}
    return re.sub("|".join(map(re.escape, own)), lambda name: own[name[0]], step.name)


def heads_of(inner: Sequence[Inner], rank: int) -> str:
    """Return the attention heads of a rank, in words; nothing where there are none.

    >>> from mpviz.shards import attention
    >>> heads_of(attention(4, 6, heads=6, tp=2).steps[1:-1], 1)
    'heads 3–5'
    """
    for step in inner:
        if isinstance(step, Local) and step.heads:
            each = step.heads // step.output.parts
            first, last = rank * each, (rank + 1) * each - 1
            return f"head {first}" if each == 1 else f"heads {first}–{last}"
    return ""
