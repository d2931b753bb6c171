"""How a block reads from left to right: an operator, what each rank does alone, an operator."""

import re
from collections.abc import Sequence

from ...shards import Block, Cut, Local, Operator, Product, subscript

LocalStep = Product | Local


def split(block: Block) -> tuple[Operator | None, list[LocalStep], Operator | None]:
    """Return the operator before, the steps that each rank takes alone, and the operator after.

    Raises
    ------
    ValueError
        When an operator stands elsewhere, or there is nothing between.
    """
    operators = {n: step for n, step in enumerate(block.steps) if isinstance(step, Operator)}
    alone = [step for step in block.steps if not isinstance(step, Operator)]
    last = len(block.steps) - 1
    if not alone or not operators.keys() <= {0, last}:
        raise ValueError(
            "a block can be drawn when it is at most one operator, then products and local "
            "functions, then at most one operator; its steps are "
            f"{'; '.join(map(repr, block.steps)) or 'none'}"
        )
    return operators.get(0), alone, operators.get(last)


def columns_of(steps: Sequence[LocalStep]) -> list[list[LocalStep]]:
    """Return the steps in columns: products of the same left matrix share one."""
    columns: list[list[LocalStep]] = []
    for step in steps:
        if columns and isinstance(step, Product) and columns[-1][0].inputs[0] == step.left:
            columns[-1].append(step)
        else:
            columns.append([step])
    return columns


def part_name(cut: Cut, rank: int) -> str:
    """Return what a rank's part is called: A₁ on rank 0; what is whole keeps its name.

    >>> part_name(Cut("A", (6, 8), 2, dim=1), 0), part_name(Cut("X", (4, 6), 2), 0)
    ('A₁', 'X')
    """
    same = cut.parts == 1 or cut.state == "whole"
    return cut.name if same else cut.name + subscript(rank + 1)


def done_by(step: LocalStep, rank: int) -> str:
    """Return what a rank multiplies by, or the function of its own parts.

    >>> from mpviz.shards import mlp
    >>> [done_by(step, 1) for step in mlp(4, 6, 24, tp=2).steps[1:-1]]
    ['A₂', 'GeLU(XA₂)', 'B₂']
    """
    if isinstance(step, Product):
        return part_name(step.right, rank)
    own = {cut.name: part_name(cut, rank) for cut in step.inputs}
    return re.sub("|".join(map(re.escape, own)), lambda name: own[name[0]], step.name)


def heads_of(steps: Sequence[LocalStep], rank: int) -> str:
    """Return the attention heads of a rank, in words; nothing where there are none.

    >>> from mpviz.shards import attention
    >>> heads_of(attention(4, 6, heads=6, tp=2).steps[1:-1], 1)
    'heads 3–5'
    """
    for step in steps:
        if isinstance(step, Local) and step.heads:
            each = step.heads // step.output.parts
            first, last = rank * each, (rank + 1) * each - 1
            return f"head {first}" if each == 1 else f"heads {first}–{last}"
    return ""
