"""A backward in two halves: the gradient of the input first, those of the weights later.

The graph of a stage has a trunk, the nodes on the way from its output back to its input, and
branches that leave the trunk for the weights. The first half goes down the trunk and notes the
gradient wherever a branch leaves; the second goes into the branches from there. Nothing is computed
twice, whatever the module is made of.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge

Gradients = tuple[Tensor | None, ...]


@dataclass
class WeightGradients:
    """What the second half of a backward needs.

    Attributes
    ----------
    forks : list of (Node, gradients)
        Nodes of the trunk with branches, and the gradients that came to them.
    """

    forks: list[tuple[Node, list[Gradients]]] = field(default_factory=list)
    trunk: set[Node] = field(default_factory=set)

    def accumulate(self) -> None:
        """Add the gradients of the weights to their ``.grad``; once."""
        edges, gradients = [], []
        for node, arrived in self.forks:
            for at_node in arrived:
                for edge, gradient in self._into_branches(node, at_node):
                    edges.append(edge)
                    gradients.append(gradient)
        self.forks, self.trunk = [], set()
        if edges:
            torch.autograd.backward(edges, gradients)

    def _into_branches(self, node: Node, arrived: Gradients) -> list[tuple[GradientEdge, Tensor]]:
        """Go one step from a node of the trunk, into its branches alone."""
        branches = [GradientEdge(*edge) for edge in dict.fromkeys(_branches(node, self.trunk))]
        outputs = [(GradientEdge(node, n), g) for n, g in enumerate(arrived) if g is not None]
        found = torch.autograd.grad(
            [edge for edge, _ in outputs],
            branches,
            [gradient for _, gradient in outputs],
            allow_unused=True,
        )
        return [(edge, g) for edge, g in zip(branches, found, strict=True) if g is not None]


def backward_of_input(
    output: Tensor, gradient: Tensor | None, x: Tensor
) -> tuple[Tensor | None, WeightGradients]:
    """Return the gradient of the input of a stage, and what the gradients of its weights need.

    Parameters
    ----------
    output : Tensor
        Of the stage, or its loss.
    gradient : Tensor or None
        Of the output, in its shape; None for a loss.
    x : Tensor
        The input, a leaf. If it requires no gradient, the whole backward is left to the second
        half.

    Returns
    -------
    Tensor or None
        None if the input requires no gradient, or the output does not depend on it.
    WeightGradients
        Its ``accumulate()`` is the second half.

    Source: the split of Qi et al. 2023 (arXiv 2401.10241), section 2.

    Examples
    --------
    >>> x = torch.ones(1, 2, requires_grad=True)
    >>> layer = torch.nn.Linear(2, 2, bias=False)
    >>> of_input, later = backward_of_input(layer(x).sum(), None, x)
    >>> of_input.shape, layer.weight.grad is None
    (torch.Size([1, 2]), True)
    >>> later.accumulate()
    >>> layer.weight.grad
    tensor([[1., 1.],
            [1., 1.]])
    """
    if not output.requires_grad:
        return None, WeightGradients()
    root = get_gradient_edge(output)
    trunk = _trunk(root.node, get_gradient_edge(x).node) if x.requires_grad else set()
    if root.node not in trunk:
        start = torch.ones_like(output) if gradient is None else gradient
        return None, WeightGradients([(root.node, [_at(root.output_nr, start)])])
    forks: list[tuple[Node, list[Gradients]]] = [
        (node, []) for node in trunk if any(_branches(node, trunk))
    ]
    hooks = [node.register_prehook(_noting(arrived)) for node, arrived in forks]
    try:
        (of_input,) = torch.autograd.grad(output, x, gradient, retain_graph=True)
    finally:
        for hook in hooks:
            hook.remove()
    return of_input, WeightGradients(forks, trunk)


@cache
def warm_up() -> None:
    """Do what a process does with its first backward: load hundreds of modules of torch.

    That takes a third of a second, once, and is no part of any bubble.
    """
    x, weight = (torch.ones(1, 1, requires_grad=True) for _ in range(2))
    _, later = backward_of_input(x @ weight, torch.ones(1, 1), x)
    later.accumulate()


def _trunk(root: Node, leaf: Node) -> set[Node]:
    """Return the nodes on the ways from the root to the leaf, with both; or the leaf alone."""
    parents: defaultdict[Node, list[Node]] = defaultdict(list)
    seen, ahead = {root}, [root]
    while ahead:
        node = ahead.pop()
        for child, _ in node.next_functions:
            if child is not None:
                parents[child].append(node)
                if child not in seen:
                    seen.add(child)
                    ahead.append(child)
    trunk, ahead = {leaf}, [leaf]
    while ahead:
        for parent in parents[ahead.pop()]:
            if parent not in trunk:
                trunk.add(parent)
                ahead.append(parent)
    return trunk


def _branches(node: Node, trunk: set[Node]) -> list[tuple[Node, int]]:
    return [(child, n) for child, n in node.next_functions if child and child not in trunk]


def _noting(arrived: list[Gradients]) -> Callable[[Gradients], None]:
    def note(gradients: Gradients) -> None:
        arrived.append(gradients)

    return note


def _at(number: int, gradient: Tensor) -> Gradients:
    return (*[None] * number, gradient)
