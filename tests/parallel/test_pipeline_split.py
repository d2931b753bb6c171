"""The two halves of a backward: together the whole, and neither does what the other did."""

import weakref

import pytest
import torch
import torch.utils.checkpoint
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mpviz.parallel.pipeline import EmulatedStage, WeightGradients, backward_of_input

# In float64; sums in another order differ by some 1e-16.
CLOSE = {"rtol": 0.0, "atol": 1e-12}


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        return x + self.inner(x, x, x, need_weights=False)[0]


class Tied(nn.Module):
    """One weight in three places between input and output, twice by way of another node."""

    def __init__(self):
        super().__init__()
        self.weight, self.unused = nn.Parameter(torch.randn(8, 8)), nn.Parameter(torch.randn(8))

    def forward(self, x):
        return torch.tanh(x @ self.weight) @ self.weight.t() @ (self.weight * self.weight).relu()


class Splits(nn.Module):
    """A node with several outputs on the way to the input, one of them unused."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(8, 12), nn.Linear(4, 8)

    def forward(self, x):
        one, _, three = self.first(x).chunk(3, dim=-1)
        return self.second(one * three.sigmoid())


class Twice(nn.Module):
    """One operation that takes the same weight twice."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8))

    def forward(self, x):
        return torch.addcmul(x, self.weight, self.weight)


class Uses(nn.Module):
    """A stage of one line, with a vector and a matrix to use more than once, and a layer."""

    def __init__(self, line, layer=None):
        super().__init__()
        self.line, self.layer = line, layer
        self.b, self.w = nn.Parameter(torch.randn(8)), nn.Parameter(torch.randn(8, 8))

    def forward(self, x):
        return self.line(self, x)


def one_for_all(m, x):
    """Three intermediates in a row, of which only the outer two lead to the same weight."""
    return torch.tanh((x + m.b) @ m.w) * m.b


def made_of_another(m, x):
    """A weight above, and below it what is computed of it."""
    return (x @ (m.w * m.b).exp()).tanh() * m.b


def in_turn(m, x):
    """Two weights that take turns: to go on for one is to pass the intermediates of both."""
    for _ in range(2):
        x = torch.tanh((x * m.b) @ m.w)
    return x


def hooked(m, x):
    """What hooks return on tensors between input and output, of a branch and of both at once."""
    h, t = x * m.b, m.b.exp()
    for tensor, factor in ((h, 3), (t, 5)):
        tensor.register_hook(lambda gradient: gradient * factor)  # noqa: B023
    return torch.tanh(h) * t * m.b


def checkpointed(m, x):
    return torch.utils.checkpoint.checkpoint(m.layer, x + m.b, use_reentrant=False)


class Ignores(nn.Module):
    def __init__(self):
        super().__init__()
        self.value = nn.Parameter(torch.randn(2, 3, 8))

    def forward(self, x):
        return self.value.exp()


class Frozen(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8).requires_grad_(False))

    def forward(self, x):
        return self.inner(x)


MODULES = {
    "linear": lambda: nn.Linear(8, 8),
    "chain": lambda: nn.Sequential(nn.Linear(8, 5), nn.Tanh(), nn.Linear(5, 8), nn.LayerNorm(8)),
    "transformer": lambda: nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True),
    "attention": Attention,
    "tied": Tied,
    "splits": Splits,
    "twice": Twice,
    "ignores its input": Ignores,
    "partly frozen": Frozen,
    "frozen": lambda: nn.Linear(8, 8).requires_grad_(False),
    "no weights": nn.Sigmoid,
    "nothing": nn.Identity,
    "emulated": lambda: EmulatedStage(0, 0),
    "added twice": lambda: Uses(lambda m, x: (x + m.b) + m.b),
    "added around": lambda: Uses(lambda m, x: nn.functional.gelu(x + m.b) + m.b),
    "multiplied twice": lambda: Uses(lambda m, x: x * m.b * m.b),
    "another view of it": lambda: Uses(lambda m, x: (lambda t: x @ t @ t)(m.w.t())),
    "itself and its exp": lambda: Uses(lambda m, x: torch.addcmul(x, m.b, m.b.exp())),
    "side by side": lambda: Uses(lambda m, x: x * m.b + x.sin() * m.b),
    "a linear twice": lambda: Uses(lambda m, x: m.layer(m.layer(x).tanh()), nn.Linear(8, 8)),
    "a norm twice": lambda: Uses(lambda m, x: m.layer(m.layer(x).sin()), nn.LayerNorm(8)),
    "recurrent": lambda: Uses(lambda m, x: m.layer(x)[0], nn.RNN(8, 8)),
    "one for all": lambda: Uses(one_for_all),
    "made of another": lambda: Uses(made_of_another),
    "in turn": lambda: Uses(in_turn),
    "hooked": lambda: Uses(hooked),
    "checkpointed": lambda: Uses(checkpointed, nn.Linear(8, 8)),
}


def gradients(module):
    return [None if p.grad is None else p.grad.clone() for p in module.parameters()]


def assert_same(mine, theirs):
    """No gradient is as good as zeros."""
    for one, other in zip(mine, theirs, strict=True):
        if one is not None or other is not None:
            one = torch.zeros_like(other) if one is None else one
            other = torch.zeros_like(one) if other is None else other
            torch.testing.assert_close(one, other, **CLOSE)


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("needs_gradient", [True, False])
@pytest.mark.parametrize("of_loss", [True, False])
def test_the_halves_are_the_whole(name, needs_gradient, of_loss):
    torch.manual_seed(0)
    module = MODULES[name]().double()
    x = torch.randn(2, 3, 8, dtype=torch.float64, requires_grad=needs_gradient)
    output = module(x)
    gradient = None if of_loss else torch.randn_like(output)
    root = output.square().mean() if of_loss else output

    found, later = backward_of_input(root, gradient, x)
    assert x.grad is None and all(g is None for g in gradients(module))
    later.accumulate()
    halves = gradients(module)

    module.zero_grad()
    output = module(x)
    root = output.square().mean() if of_loss else output
    if root.requires_grad:
        root.backward(gradient)
    assert_same(halves, gradients(module))
    assert_same([found], [x.grad])


def test_gradients_of_weights_add_up():
    layer = nn.Linear(2, 2)
    x = torch.ones(1, 2, requires_grad=True)
    for _ in range(3):
        _, later = backward_of_input(layer(x).sum(), None, x)
        later.accumulate()
        later.accumulate()  # nothing is left of it
    torch.testing.assert_close(layer.bias.grad, torch.full((2,), 3.0))


def test_several_microbatches_may_be_split_at_once():
    layer = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)).double()
    xs = [torch.randn(1, 2, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    losses = [layer(x).sum() for x in xs]
    pending = [backward_of_input(loss, None, x)[1] for loss, x in zip(losses, xs, strict=True)]
    for later in reversed(pending):
        later.accumulate()
    halves = gradients(layer)
    layer.zero_grad()
    sum(layer(x).sum() for x in xs).backward()
    assert_same(halves, gradients(layer))


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_nothing_is_multiplied_twice(layers):
    module = nn.Sequential(*(nn.Sequential(nn.Linear(8, 8), nn.Tanh()) for _ in range(layers)))
    x = torch.randn(4, 8, requires_grad=True)
    flops = []

    def counted(work):
        with FlopCounterMode(display=False) as counter:
            result = work()
        flops.append(counter.get_total_flops())
        return result

    output = counted(lambda: module(x))
    _, later = counted(lambda: backward_of_input(output, torch.ones_like(output), x))
    counted(later.accumulate)
    assert flops == 3 * [layers * 2 * 4 * 8 * 8]


def test_a_hook_on_a_weight_is_called_in_the_second_half():
    layer, called = nn.Linear(2, 2), []
    layer.weight.register_post_accumulate_grad_hook(called.append)
    x = torch.ones(1, 2, requires_grad=True)
    _, later = backward_of_input(layer(x).sum(), None, x)
    assert not called
    later.accumulate()
    assert called == [layer.weight]


def test_no_hook_is_left_behind():
    layer = nn.Linear(2, 2)
    x = torch.ones(1, 2, requires_grad=True)
    output = layer(x).sum()
    with pytest.raises(RuntimeError):
        backward_of_input(output, torch.ones(3), x)
    _, later = backward_of_input(output, None, x)
    torch.autograd.grad(10 * output, x, retain_graph=True)  # not seen by the halves
    later.accumulate()
    torch.testing.assert_close(layer.bias.grad, torch.ones(2))
    # Nor has the second half left one: it would put its own gradient in place of this.
    torch.autograd.backward(10 * output)
    torch.testing.assert_close(layer.bias.grad, torch.full((2,), 11.0))


def test_a_hook_on_a_weight_of_several_intermediates_is_called_once_with_all_of_the_gradient():
    module, called = MODULES["added around"](), []
    module.b.register_hook(called.append)
    x = torch.randn(3, 8, requires_grad=True)
    backward_of_input(module(x).sum(), None, x)[1].accumulate()
    assert len(called) == 1
    torch.testing.assert_close(called[0], module.b.grad)


class Noting(torch.autograd.Function):
    """Multiplies, and notes whose gradient is computed: what communicates there does so then."""

    @staticmethod
    def forward(ctx, x, weight, number, order):
        ctx.save_for_backward(x, weight)
        ctx.number, ctx.order, ctx.variable = number, order, "no leaf for all that"
        return x * weight

    @staticmethod
    def backward(ctx, gradient):
        ctx.order.append(ctx.number)
        x, weight = ctx.saved_tensors
        return gradient * weight, gradient * x, None, None


def test_both_halves_go_from_the_last_layer_to_the_first():
    # On every rank the same: else layers that communicate there would meet with others.
    x = h = torch.ones(1, requires_grad=True)
    order = []
    for number in range(12):
        h = Noting.apply(h, torch.ones(1, requires_grad=True), number, order)
    _, later = backward_of_input(h, None, x)
    later.accumulate()
    assert order == 2 * list(reversed(range(12)))


def test_the_second_half_keeps_nothing():
    x = h = torch.ones(1, requires_grad=True)
    saved = []
    for number in range(3):
        h = Noting.apply(h, torch.ones(1, requires_grad=True), number, [])
        saved.append(weakref.ref(h))
    _, later = backward_of_input(h, None, x)
    del h
    assert all(kept() is not None for kept in saved[:-1])
    later.accumulate()
    assert not any(kept() for kept in saved)


def test_an_empty_second_half_does_nothing():
    WeightGradients().accumulate()


@pytest.mark.parametrize("seconds", [(-1, 1), (1, -1), (0, 1, 2), (0, 1, -1), (float("nan"), 1)])
def test_what_is_no_time_to_wait_is_refused(seconds):
    with pytest.raises(ValueError, match="seconds must be ≥ 0"):
        EmulatedStage(*seconds)
