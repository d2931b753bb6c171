"""A backward in two halves: the gradient of the input first, those of the weights later.

In the words of ``torch/distributed/pipelining/_backward.py``: the nodes between a stage's output
and its input are the closure of the input. Those of them from which a way leads to parameters are
intermediates; parameters whose ways meet are one parameter group, with their intermediates. The
first half computes the gradient of the input and keeps the gradients that reach the intermediates;
the second goes on from there to the parameters.

Of torch's own layers nothing is computed twice, but for what lies between two intermediates that
lead to one parameter. A Python ``autograd.Function`` that gives gradients to both input and
parameter runs whole in both halves, unless it asks the engine which of them is wanted, as the
layers of `mpviz.parallel` do.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
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
    A hook on a tensor between input and output may be called in both halves; what it returns counts
    once.

    Source: the split of Qi et al. 2023 (arXiv 2401.10241), section 2; the second half goes by
    parameter groups as in PyTorch's ``torch/distributed/pipelining/_backward.py``.

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
    if not graph.inputs_closure:
        return None, WeightGradients([partial(torch.autograd.backward, output, gradient)])
    parts: list[Callable[[], None]] = []
    hooks = []
    for intermediates, params in graph.param_groups():
        kept: dict[Node, Gradients] = {}
        hooks += [node.register_prehook(partial(kept.__setitem__, node)) for node in intermediates]
        parts.append(partial(_backward_of_params, kept, params))
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
    """The autograd graph of a stage. In one order on every rank: its nodes may communicate."""

    def __init__(self, output: Node, x: Tensor) -> None:
        nodes = _closure(output, _inputs)
        self._users: defaultdict[Node, list[Node]] = defaultdict(list)  # the edges, reversed
        for node in nodes:
            for child in _inputs(node):
                self._users[child].append(node)
        leaf = get_gradient_edge(x).node if x.requires_grad else None
        above = _closure(leaf, self._users.__getitem__) if leaf else {}
        self.inputs_closure = {node: None for node in nodes if node in above}

    def param_groups(self) -> Iterator[tuple[list[Node], list[Tensor]]]:
        """Yield the intermediates of each parameter group, and its parameters."""
        seen: set[Node] = set()
        for node in self.inputs_closure:
            if node not in seen and self._branches(node):
                group = _closure(node, self._connected)
                seen.update(group)
                intermediates = [node for node in group if node in self.inputs_closure]
                leaves = (node for node in group if node.name().endswith("::AccumulateGrad"))
                yield intermediates, [leaf.variable for leaf in leaves]  # type: ignore[attr-defined]

    def _connected(self, node: Node) -> list[Node]:
        """Return the neighbours in a parameter group: no way leads on through the closure."""
        users = [] if node in self.inputs_closure else self._users[node]
        return [*self._branches(node), *users]

    def _branches(self, node: Node) -> list[Node]:
        return [child for child in _inputs(node) if child not in self.inputs_closure]


def _inputs(node: Node) -> list[Node]:
    return [child for child, _ in node.next_functions if child is not None]


def _closure(start: Node, neighbours: Callable[[Node], Iterable[Node]]) -> dict[Node, None]:
    """Return all nodes that can be reached, in the order in which they are found."""
    found, ahead = {start: None}, [start]
    while ahead:
        for node in neighbours(ahead.pop()):
            if node not in found:
                found[node] = None
                ahead.append(node)
    return found


def _backward_of_params(kept: dict[Node, Gradients], params: list[Tensor]) -> None:
    """Go on from the intermediates of a group, with the gradients that reached them."""
    edges, gradients = [], []
    for node, given in kept.items():
        for n, gradient in enumerate(given):
            if gradient is not None:
                edges.append(GradientEdge(node, n))
                gradients.append(gradient)
    if not edges or not params:
        return
    # What reaches an intermediate once more, from another above it, is in its gradient already;
    # and so is what the hooks on its tensors did.
    hooks = [node.register_prehook(partial(_instead, given)) for node, given in kept.items()]
    try:
        # Retained, because another part may go the same way.
        torch.autograd.backward(edges, gradients, retain_graph=True, inputs=params)
    finally:
        for hook in hooks:
            hook.remove()


def _instead(given: Gradients, _: Gradients) -> Gradients:
    return given
