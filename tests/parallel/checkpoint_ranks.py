"""What the tests of checkpoints run on every rank; read there, never collected."""

import resource
import signal
from functools import partial

import torch
import torch.distributed as dist
from parallel.gpt_ranks import (
    MICROBATCHES,
    PLANS,
    batch_of,
    config_of,
    groups_of,
    part_by_name,
    stages_of,
)

from mpviz import parallel
from mpviz.parallel import checkpoint


def trained(kind, model, plan_name, groups, seed=0, **options):
    """Stages and optimizer of a layout; ``kind``: plain, zero 1, zero 2, fully_shard."""
    config = config_of(model, seed=seed, **options)
    plan = PLANS[plan_name](pp=groups["pp"].size(), microbatches=MICROBATCHES)
    stages = stages_of(config, plan, groups)
    if kind == "fully_shard":
        stages = {n: parallel.fully_shard(s, groups["dp-cp"]) for n, s in stages.items()}
    if not kind.startswith("zero"):
        parameters = [p for stage in stages.values() for p in stage.parameters()]
        return plan, stages, parallel.Adam(parameters)
    ((n, stage),) = stages.items()
    copy = parallel.DistributedDataParallel(stage, groups["dp-cp"])
    zero = parallel.DistributedOptimizer(copy, parallel.Adam, stage=int(kind[-1]))
    return plan, {n: copy}, zero


def steps(kind, plan, stages, optimizer, groups, numbers):
    """Train; the losses."""
    losses = []
    for number in numbers:
        (*_, stage) = stages.values()
        config = getattr(stage, "module", stage).config
        tokens, targets = batch_of(config, groups["dp"].size(), seed=number)
        if kind != "fully_shard":
            done = parallel.train_step(plan, stages, tokens, targets, groups, optimizer)
            losses.append(done.loss)
            continue
        optimizer.zero_grad()  # a step of one stage, whose gradients are scattered by backward
        mine = [parallel.microbatches(one, plan, groups["dp"]) for one in (tokens, targets)]
        parts = [
            parallel.masked_cross_entropy(stage(x), y, groups["tp"])
            for x, y in zip(*mine, strict=True)
        ]
        loss = torch.stack(parts).mean()
        loss.backward()
        parallel.clip_grad_norm(stage, 1.0, tp=groups["tp"])
        optimizer.step()
        dist.all_reduce(loss.detach(), group=groups["dp"])
        losses.append(loss.item() / groups["dp"].size())
    return losses


def state_of(stages, optimizer):
    """Of each parameter here, by name: what is updated, and its span in the flattened part."""
    inner = getattr(optimizer, "optimizer", optimizer)
    for stage in stages.values():
        model = getattr(stage, "module", stage)
        for name, parameter in model.named_parameters():
            unit = getattr(parameter, "unit", None)
            if unit is not None:
                span = unit.plan.owned(unit.group.rank()).get(name, slice(0, 0))
                yield model, name, parameter, span, inner, parameter
            elif getattr(optimizer, "stage", 0):
                rank = stage.group.rank()
                owned = {k: v for b in stage.buckets for k, v in b.plan.owned(rank).items()}
                mine = optimizer.shards.get(name)
                yield model, name, parameter, owned.get(name, slice(0, 0)), inner, mine
            else:
                yield model, name, parameter, slice(None), inner, parameter


def unequal(whole, stages, optimizer, groups, after_load=True):
    """What is not, bit for bit, its part of the whole, whose tensors a plain process has loaded."""
    (*_, stage) = stages.values()
    config = getattr(stage, "module", stage).config
    weights, states, done = torch.load(whole)
    wrong = []
    for model, name, parameter, span, inner, updated in state_of(stages, optimizer):
        mine = partial(part_by_name, name, config=config, words=model.words, group=groups["tp"])
        part = mine(weights[name]).flatten()
        if hasattr(parameter, "unit"):
            part = part[span]
        if getattr(parameter, "shared", False) and not after_load:
            # Both copies of a tied embedding learn the same, but for the order of sums over dp.
            assert torch.allclose(part, parameter.flatten(), rtol=0, atol=1e-15)
            continue
        if not torch.equal(part, parameter.detach().flatten()):
            wrong.append(name)
        if updated is None:
            continue
        if inner.steps[updated] != done[name]:
            wrong.append(f"steps of {name}")
        for key, state in inner.state[updated].items():
            part = mine(states[name][key]).flatten()[span]
            if not torch.equal(part, state.flatten()):
                wrong.append(f"{key} of {name}")
    return wrong


def saved(folder, kind, model, plan_name, tp, pp, **options):
    """Train a step and save."""
    global now
    groups = groups_of(tp, pp)
    plan, stages, optimizer = trained(kind, model, plan_name, groups, **options)
    steps(kind, plan, stages, optimizer, groups, range(1))
    checkpoint.save(folder, stages, optimizer, step=1)
    now = kind, plan, stages, optimizer, groups


def loaded(folder, kind, model, plan_name, tp, pp, whole, **options):
    """Load; the step, what differs from the whole before and now, and the next losses of both."""
    groups = groups_of(tp, pp)
    plan, stages, optimizer = trained(kind, model, plan_name, groups, seed=5, **options)
    step = checkpoint.load(folder, stages, optimizer)
    wrong = unequal(whole, *now[2:], after_load=False), unequal(whole, stages, optimizer, groups)
    here = kind, plan, stages, optimizer, groups
    return step, wrong, [steps(*each, range(1, 2))[0] for each in (now, here)]


# ---- what may go wrong


def small(groups, **options):
    """A small model on these ranks, after a step of Adam."""
    _, stages, optimizer = trained("plain", "gpt-2", "1f1b", groups, **options)
    for parameter in optimizer.parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return stages, optimizer


def first_weight(stages):
    return next(next(iter(stages.values())).parameters())


def told(attempt, *arguments, **options):
    """What this rank is told."""
    try:
        attempt(*arguments, **options)
    except ValueError as error:
        return str(error)
    except KeyboardInterrupt:
        return "interrupted"
    return "nothing"


def save_spoilt(folder, groups, spoil):
    stages, optimizer = small(groups)
    given = {"folder": folder, "stages": stages, "optimizer": optimizer, "step": 9}
    try:
        return told(checkpoint.save, **given | (spoil(stages) or {}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, [resource.RLIM_INFINITY] * 2)
        checkpoint.FileSystemWriter.write_data = write_data


write_data = checkpoint.FileSystemWriter.write_data


def on(rank, **given):
    """On one rank, give `save` something else."""
    return lambda stages: given if dist.get_rank() == rank else {}


def not_a_number(stages):
    if dist.get_rank() == 3:
        first_weight(stages).data.view(-1)[-1] = float("nan")


def no_room(stages):
    """No file of rank 2 may have more than 10 kB."""
    if dist.get_rank() == 2:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))


def without_the_last(stages):
    """Have the first stage twice, and the last nowhere."""
    ((number, stage),) = stages.items()
    groups = groups_of(2, 4)
    return {"stages": {0: parallel.gpt_stage(stage.config, 0, 4, groups)}} if number == 3 else {}


def interrupted(stages):
    def interrupt(*_):
        raise KeyboardInterrupt

    if dist.get_rank() == 1:
        checkpoint.FileSystemWriter.write_data = interrupt


def load_into(folder, groups, **options):
    """What this rank is told, and whether its weights are as they were."""
    stages, optimizer = small(groups, **options)
    before = first_weight(stages).detach().clone()
    said = told(checkpoint.load, folder, stages, optimizer)
    return said, torch.equal(before, first_weight(stages))


# ---- dropout


def streams(stages):
    """Of the first layer here: what a mask would be."""
    layer = next(iter(next(iter(stages.values())).layers.values()))
    masks = {}
    for stream, state in layer.rng.states.items():
        with layer.rng.fork(stream):
            masks[stream] = torch.rand(2).tolist()
        layer.rng.states[stream] = state
    return masks


def save_between_masks(folder, groups):
    """Save when some masks were drawn; the next ones."""
    stages, optimizer = small(groups, hidden_dropout=0.5, num_layers=4)
    for layer in next(iter(stages.values())).layers.values():
        for stream in layer.rng.states:
            with layer.rng.fork(stream):
                torch.rand(3)
    checkpoint.save(folder, stages, optimizer)
    return streams(stages)


def next_masks(folder, groups):
    """The next masks after a load, and those of a new model."""
    stages, _ = small(groups, hidden_dropout=0.5, num_layers=4)
    new = streams(stages)
    checkpoint.load(folder, stages)
    return streams(stages), new
