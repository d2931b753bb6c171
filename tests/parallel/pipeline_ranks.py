"""What the tests of the pipeline run on every rank; read there, never imported here."""

import gc

import torch
from torch import nn

from mpviz import schedule
from mpviz.parallel import pipeline


class Residual(nn.Module):
    def __init__(self, *inner):
        super().__init__()
        self.inner, self.norm = nn.Sequential(*inner), nn.LayerNorm(6)

    def forward(self, x):
        return self.norm(x) + self.inner(x) * x


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 6))
        self.unused = nn.Parameter(torch.randn(6))

    def forward(self, x):
        return torch.tanh(x @ self.weight) @ self.weight.t() @ self.weight.relu()


class Constant(nn.Module):
    def __init__(self):
        super().__init__()
        self.value = nn.Parameter(torch.randn(3, 6))

    def forward(self, x):
        return self.value * 2


class Sine(nn.Module):
    def forward(self, x):
        return x.sin()


BUILDS = {
    "linear": lambda: nn.Linear(6, 6),
    "chain": lambda: nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 6), nn.GELU()),
    "residual": lambda: Residual(nn.Linear(6, 6), nn.ReLU(), Residual(nn.Linear(6, 6))),
    "tied": Tied,
    "no weights": Sine,
    "constant": Constant,
    "frozen": lambda: nn.Linear(6, 6).requires_grad_(False),
    "embedding": lambda: nn.Embedding(11, 6),
}


def stages_of(kinds, number):
    """The stages of a whole model, the last kind as often as needed; the same on every rank."""
    torch.manual_seed(0)
    return [BUILDS[kinds[min(stage, len(kinds) - 1)]]().double() for stage in range(number)]


def of_one_process(stages, x, y):
    """The losses, one microbatch after the other; the gradients go to the stages."""
    losses = []
    for one, target in zip(x, y, strict=True):
        for stage in stages:
            one = stage(one)
        losses.append(nn.functional.mse_loss(one, target))
    mean = torch.stack(losses).mean()
    if mean.requires_grad:
        mean.backward()
    return [loss.item() for loss in losses]


def apart(mine, theirs):
    """How far two gradients are apart; none is as good as zero."""
    mine, theirs = (torch.zeros(1) if g is None else g for g in (mine, theirs))
    return (mine - theirs).abs().max().item()


def compare(text, kinds, groups, pp_rank, times=1):
    """Execute a plan, and all of it in this process; return how far they are apart."""
    plan = schedule.parse(text)
    stages, whole = stages_of(kinds, plan.stages), stages_of(kinds, plan.stages)
    y = torch.randn(plan.microbatches, 3, 6, dtype=torch.float64)
    x = torch.randint(11, (plan.microbatches, 3)) if kinds[0] == "embedding" else y.cos()
    mine = {number: stages[number] for number in plan.stages_of(pp_rank)}
    given = {"inputs": x, "targets": y, "loss": nn.functional.mse_loss}
    for _ in range(times):
        run = pipeline.execute(plan, mine, **given, group=groups["pp"], timeout=20)
        losses = of_one_process(whole, x, y)
    differences = [
        apart(p.grad, q.grad)
        for number in mine
        for p, q in zip(stages[number].parameters(), whole[number].parameters(), strict=True)
    ]
    if run.losses is not None:
        differences += [abs(a - b) for a, b in zip(run.losses, losses, strict=True)]
        differences.append(abs(run.loss - sum(losses) / len(losses)))
    return max(differences, default=0.0), run.losses is not None, run.events


def emulate(text, groups, pp_rank):
    """Execute a plan of stages that wait; return the events."""
    plan = schedule.parse(text)
    stages = {stage: pipeline.EmulatedStage(0.01, 0.05, 0.03) for stage in plan.stages_of(pp_rank)}
    x = torch.ones(plan.microbatches, 1)
    given = {"inputs": x, "loss": torch.Tensor.mean, "group": groups["pp"]}
    return pipeline.execute(plan, stages, **given, timeout=20).events


class Counting(nn.Linear):
    """Counts the tensors in this process that look like what crosses between two stages."""

    most = 0

    def forward(self, x):
        """Count those that were there before."""
        there = [o for o in gc.get_objects() if type(o) is torch.Tensor and o.shape == (5, 7)]
        self.most = max(self.most, len(there))
        return super().forward(x)


def messages_alive(text, groups, pp_rank):
    """How many outputs of the first stage, or gradients of them, there ever are at once."""
    plan = schedule.parse(text)
    stage = Counting(7, 1) if pp_rank else Counting(6, 7)
    given = {"inputs": torch.ones(plan.microbatches, 5, 6), "loss": torch.Tensor.mean}
    pipeline.execute(plan, {pp_rank: stage}, **given, group=groups["pp"], timeout=20)
    return stage.most
