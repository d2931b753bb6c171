"""One model, by torch.distributed.pipelining and by mpviz; read on every rank, never imported."""

import torch
from torch import nn
from torch.distributed.pipelining import PipelineStage, schedules

from mpviz import schedule
from mpviz.parallel import pipeline


def stages_of(number):
    torch.manual_seed(0)
    return [nn.Sequential(nn.Linear(6, 6), nn.Tanh()).double() for _ in range(number)]


def by_torch(name, plan, x, y, group, pp_rank):
    """Losses and gradients of this rank's stages; torch returns losses on the last rank."""
    stages = stages_of(plan.stages)
    mine = [
        PipelineStage(stages[n], n, plan.stages, torch.device("cpu"), group=group)
        for n in plan.stages_of(pp_rank)
    ]
    kind = getattr(schedules, name)
    single = issubclass(kind, schedules.PipelineScheduleSingle)
    order = kind(
        mine[0] if single else mine,
        n_microbatches=plan.microbatches,
        loss_fn=nn.functional.mse_loss,
    )
    first, last = (n in plan.stages_of(pp_rank) for n in (0, plan.stages - 1))
    losses = []
    order.step(*([x] if first else []), target=y if last else None, losses=losses if last else None)
    return losses, [p.grad for n in plan.stages_of(pp_rank) for p in stages[n].parameters()]


def by_mpviz(plan, x, y, group, pp_rank):
    stages = stages_of(plan.stages)
    mine = {n: stages[n] for n in plan.stages_of(pp_rank)}
    given = {"inputs": x.chunk(plan.microbatches), "targets": y.chunk(plan.microbatches)}
    loss = nn.functional.mse_loss
    run = pipeline.execute(plan, mine, **given, loss=loss, group=group, timeout=20)
    return run.losses or [], [p.grad for module in mine.values() for p in module.parameters()]


def apart(name, text, group, pp_rank):
    """How far losses and gradients are apart, and how many there are."""
    plan = schedule.parse(text)
    torch.manual_seed(1)
    x, y = torch.randn(2, 2 * plan.microbatches, 6, dtype=torch.float64)
    pairs = zip(
        by_mpviz(plan, x, y, group, pp_rank),
        by_torch(name, plan, x, y, group, pp_rank),
        strict=True,
    )
    found = []
    for mine, theirs in pairs:
        found.append([float((a - b).abs().max()) for a, b in zip(mine, theirs, strict=True)])
    return found
