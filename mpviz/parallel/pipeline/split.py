"""A backward in two halves: the gradient of the input first, those of the weights later.

The graph of a stage has a trunk, the nodes on the way from its output back to its input, and
branches that leave the trunk at forks and lead to the weights. The first half goes down the trunk
and notes what comes to the forks; the second goes from there into the branches.

Of torch's own layers nothing is computed twice, but for the trunk between two forks that lead to
one weight. A Python ``autograd.Function`` that gives gradients to both runs whole in both halves,
unless it asks the engine which of them is wanted, as the layers of `mpviz.parallel` do.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge

Gradients = tuple[Tensor | None, ...]


@dataclass
class WeightGradients:
    """What the second half of a backward needs.

    Attributes
    ----------
    parts : list of callable
        Each adds the gradients of some weights, none of them in two parts.
    """

    parts: list[Callable[[], None]] = field(default_factory=list)

    def accumulate(self) -> None:
        """Add the gradients of the weights to their ``.grad``; once."""
        while self.parts:
            self.parts.pop(0)()


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

    Notes
    -----
    A hook on a tensor of the trunk may be called in both halves; what it returns counts once.

    Source: the split of Qi et al. 2023 (arXiv 2401.10241), section 2; the second half goes by
    groups of weights as in PyTorch's ``torch/distributed/pipelining/_backward.py``.

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
    graph = _Graph(get_gradient_edge(output).node, x)
    if not graph.trunk:
        return None, WeightGradients([partial(torch.autograd.backward, output, gradient)])
    parts: list[Callable[[], None]] = []
    hooks = []
    for forks, weights in graph.groups():
        arrived: dict[Node, Gradients] = {}
        hooks += [fork.register_prehook(partial(arrived.__setitem__, fork)) for fork in forks]
        parts.append(partial(_into_branches, arrived, weights))
    try:
        (of_input,) = torch.autograd.grad(output, x, gradient, retain_graph=True)
    finally:
        for hook in hooks:
            hook.remove()
    return of_input, WeightGradients(parts)


@cache
def warm_up() -> None:
    """Do what a process does with its first backward: load hundreds of modules of torch.

    That takes a third of a second, once, and is no part of any bubble.
    """
    x, weight = (torch.ones(1, 1, requires_grad=True) for _ in range(2))
    _, later = backward_of_input(x @ weight, torch.ones(1, 1), x)
    later.accumulate()


class _Graph:
    """The nodes below a root. In one order on every rank: branches may communicate."""

    def __init__(self, root: Node, x: Tensor) -> None:
        self._parents: defaultdict[Node, list[Node]] = defaultdict(list)
        nodes, ahead = {root: None}, [root]
        while ahead:
            node = ahead.pop()
            for child, _ in node.next_functions:
                if child is not None:
                    self._parents[child].append(node)
                    if child not in nodes:
                        nodes[child] = None
                        ahead.append(child)
        above = self._above(get_gradient_edge(x).node) if x.requires_grad else set()
        self.trunk = {node: None for node in nodes if node in above}

    def groups(self) -> Iterator[tuple[list[Node], list[Tensor]]]:
        """Yield forks whose branches meet, and the weights that these branches lead to."""
        seen: set[Node] = set()
        for fork in self.trunk:
            if fork not in seen and self._branches(fork):
                group = self._joined(fork)
                seen.update(group)
                forks = [node for node in group if node in self.trunk]
                leaves = (node for node in group if node.name().endswith("::AccumulateGrad"))
                yield forks, [leaf.variable for leaf in leaves]  # type: ignore[attr-defined]

    def _above(self, leaf: Node) -> set[Node]:
        above, ahead = {leaf}, [leaf]
        while ahead:
            for parent in self._parents[ahead.pop()]:
                if parent not in above:
                    above.add(parent)
                    ahead.append(parent)
        return above

    def _joined(self, fork: Node) -> dict[Node, None]:
        """Return all that hangs together with a fork, but for the trunk."""
        group, ahead = {fork: None}, [fork]
        while ahead:
            node = ahead.pop()
            above = [] if node in self.trunk else self._parents[node]
            for near in (*self._branches(node), *above):
                if near not in group:
                    group[near] = None
                    ahead.append(near)
        return group

    def _branches(self, node: Node) -> list[Node]:
        return [child for child, _ in node.next_functions if child and child not in self.trunk]


def _into_branches(arrived: dict[Node, Gradients], weights: list[Tensor]) -> None:
    """Go on from some forks, with what came to them in the first half, to their weights alone."""
    edges, gradients = [], []
    for fork, given in arrived.items():
        for n, gradient in enumerate(given):
            if gradient is not None:
                edges.append(GradientEdge(fork, n))
                gradients.append(gradient)
    if not edges or not weights:
        return
    # What comes once more to a fork, from another above it, is in its gradient already; and so is
    # what the hooks on its tensors did.
    hooks = [fork.register_prehook(partial(_instead, given)) for fork, given in arrived.items()]
    try:
        # Kept, because another part may go the same way.
        torch.autograd.backward(edges, gradients, retain_graph=True, inputs=weights)
    finally:
        for hook in hooks:
            hook.remove()


def _instead(given: Gradients, _: Gradients) -> Gradients:
    return given
