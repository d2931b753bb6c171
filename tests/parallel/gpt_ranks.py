"""What the tests of the GPT run on every rank; read there, never imported here."""

from functools import cache, partial

import torch
import torch.distributed as dist

from mpviz import ParallelLayout, parallel, schedule
from mpviz.parallel import pipeline, training

PLANS = {
    "gpipe": schedule.gpipe,
    "1f1b": schedule.one_forward_one_backward,
    "interleaved": schedule.interleaved_1f1b,
    "zb-h1": schedule.zero_bubble_h1,
    "zb-v": schedule.zero_bubble_v,
}
MODELS = {
    "gpt-2": {},
    "llama": {
        "norm": "rms",
        "positions": "rotary",
        "activation": "swiglu",
        "num_kv_heads": 4,
        "bias": False,
        "tied": False,
    },
    "llama, tied": {
        "norm": "rms",
        "positions": "rotary",
        "activation": "swiglu",
        "num_kv_heads": 4,
        "bias": False,
        "vocab_size": 19,
        "vocab_multiple": 3,
    },
}
MICROBATCHES, EACH, SEQUENCE = 4, 1, 12


@cache
def groups_of(tp, pp):
    """This rank's groups when the same ranks are cut in another way."""
    layout = ParallelLayout(gpus_per_node=dist.get_world_size(), tp=tp, pp=pp)
    return parallel.init(layout).groups


def config_of(model, **options):
    small = {"num_layers": 8, "hidden_size": 32, "num_heads": 8, "vocab_size": 24, "sequence": 16}
    return parallel.GPTConfig(**small | MODELS[model] | options, dtype=torch.float64)


def batch_of(config, dp, microbatches=MICROBATCHES, seed=0):
    """Random tokens, a quarter of the targets masked: in each microbatch other ones."""
    generator = torch.Generator().manual_seed(seed)
    shape = (SEQUENCE, dp * microbatches * EACH)
    tokens, targets = torch.randint(config.vocab_size, (2, *shape), generator=generator)
    targets[torch.rand(shape, generator=generator) < 0.25] = parallel.MASKED
    return tokens, targets


def stages_of(config, plan, groups, **options):
    mine = plan.stages_of(groups["pp"].rank())
    return {n: parallel.gpt_stage(config, n, plan.stages, groups, **options) for n in mine}


def whole_loss(model, tokens, targets, parts):
    """The mean over the microbatches of the mean over the tokens that count; gradients too."""
    total = 0.0
    for x, y in zip(tokens.chunk(parts, 1), targets.chunk(parts, 1), strict=True):
        counted = (
            torch.nn.functional.cross_entropy(model(x)[y != -1], y[y != -1], reduction="sum")
            / (y != -1).sum()
        )
        (counted / parts).backward()
        total += counted.item() / parts
    return total


# ---- the same numbers


def part_by_name(name, whole, config, words, group):
    """This rank's part of a parameter of the whole model: by its name, not by the layer."""
    tp, rank = group.size(), group.rank()
    if name.endswith(("word_embeddings.weight", "output_layer.weight")):
        padded = whole.new_zeros(words, whole.shape[1])
        padded[: config.vocab_size] = whole[: config.vocab_size]
        return padded.chunk(tp)[rank]
    if "linear_qkv" in name:
        return whole.chunk(tp)[rank]
    if "linear_fc1" in name:
        stacks = whole.chunk(2 if config.activation == "swiglu" else 1)
        return torch.cat([one.chunk(tp)[rank] for one in stacks])
    if name.endswith(("linear_proj.weight", "linear_fc2.weight")):
        return whole.chunk(tp, 1)[rank]
    return whole


def apart(found, expected, scale):
    assert found.shape == expected.shape, (found.shape, expected.shape)
    return ((found - expected).abs().max() / scale).item()


def shake(whole):
    """Give biases and norms values that show what is done with them."""
    generator = torch.Generator().manual_seed(1)
    for parameter in whole.parameters():
        if parameter.ndim == 1:
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)


def cut_alike(stages, whole, group):
    """Copy this rank's parts of the whole model; it differs only in what was shaken."""
    uncut = dict(whole.named_parameters(remove_duplicate=False))
    for stage in stages.values():
        for name, parameter in stage.named_parameters():
            part = part_by_name(name, uncut[name].detach(), stage.config, stage.words, group)
            assert parameter.ndim == 1 or torch.equal(parameter, part), name
            parameter.data.copy_(part)


def key_rows(config):
    """The rows of linear_qkv that make K."""
    shared, d = config.num_heads // config.kv_heads, config.head_size
    kinds = torch.tensor(([0] * shared + [1, 2]) * config.kv_heads).repeat_interleave(d)
    return kinds == 1


def differences(model, schedule_name, groups, sequence_parallel, **options):
    """Run a batch cut and whole; by how much loss, weights and gradients differ, relatively."""
    config = config_of(model, **options)
    pp, dp = groups["pp"].size(), groups["dp"].size()
    plan = PLANS[schedule_name](pp=pp, microbatches=MICROBATCHES)
    stages = stages_of(config, plan, groups, sequence_parallel=sequence_parallel)
    whole = parallel.GPT(config)
    shake(whole)
    cut_alike(stages, whole, groups["tp"])
    tokens, targets = batch_of(config, dp)
    run = pipeline.execute(
        plan,
        stages,
        inputs=parallel.microbatches(tokens, plan, groups["dp"]),
        targets=parallel.microbatches(targets, plan, groups["dp"]),
        loss=partial(parallel.masked_cross_entropy, group=groups["tp"]),
        group=groups["pp"],
    )
    loss = training.everywhere(groups, loss=run.loss)
    parallel.reduce_embedding_gradients(stages, groups)
    for stage in stages.values():
        parallel.reduce_sequence_parallel_gradients(stage, groups["tp"])
    parallel.average_gradients(stages, groups["dp-cp"])

    expected = whole_loss(whole, tokens, targets, dp * MICROBATCHES)
    norm = parallel.clip_grad_norm(list(stages.values()), 1e9, tp=groups["tp"], pp=groups["pp"])
    length = torch.nn.utils.clip_grad_norm_(whole.parameters(), 1e9).item()
    errors = {"loss": abs(loss - expected) / expected, "norm": abs(norm - length) / length}
    uncut = dict(whole.named_parameters(remove_duplicate=False))
    for stage in stages.values():
        for name, parameter in stage.named_parameters():
            mine = partial(part_by_name, name, config=config, words=stage.words, group=groups["tp"])
            gradient = uncut[name].grad
            if name.endswith("linear_qkv.bias"):
                # Mathematically that of K is zero: each query's scores move alike.
                gradient = gradient.masked_fill(key_rows(config), 0.0)
                assert uncut[name].grad[key_rows(config)].abs().max() < 1e-12 * gradient.abs().max()
                keep = mine(~key_rows(config))
                parameter.grad.mul_(keep)
            errors[name] = apart(parameter.grad, mine(gradient), gradient.abs().max())
    return errors


# ---- learning


def learning_rate(step):
    return 3e-3 * min(1, (step + 1) / 10)


def curve(config, steps, plan_name, groups, batch=16, microbatches=4, zero=None, **options):
    """The loss of each step on these ranks; ``zero`` wraps the one stage of each."""
    plan = PLANS[plan_name](pp=groups["pp"].size(), microbatches=microbatches)
    stages = stages_of(config, plan, groups, **options)
    if zero is None:
        optimizer = parallel.Adam(p for stage in stages.values() for p in stage.parameters())
    else:
        copies = {
            n: parallel.DistributedDataParallel(s, groups["dp-cp"]) for n, s in stages.items()
        }
        (copy,), stages = copies.values(), copies
        optimizer = parallel.DistributedOptimizer(copy, parallel.Adam, stage=zero)
    losses = []
    for step in range(steps):
        getattr(optimizer, "optimizer", optimizer).lr = learning_rate(step)
        tokens, targets = parallel.repeated_words(batch, seed=step)
        done = parallel.train_step(plan, stages, tokens, targets, groups, optimizer, step=step)
        losses.append(done.loss)
    return losses


def whole_curve(config, steps, batch=16, parts=8):
    """The same in one process, with torch's own Adam and clipping."""
    model = parallel.GPT(config)
    optimizer = torch.optim.Adam(model.parameters())
    losses = []
    for step in range(steps):
        for settings in optimizer.param_groups:
            settings["lr"] = learning_rate(step)
        optimizer.zero_grad()
        losses.append(whole_loss(model, *parallel.repeated_words(batch, seed=step), parts))
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return losses


# ---- dropout


def dropped(groups, sequence_parallel):
    """What masks leave of ones; and what heads find when all words are alike."""
    config = config_of("gpt-2", hidden_dropout=0.5, attention_dropout=0.5)
    stage = parallel.gpt_stage(config, 0, 1, groups, sequence_parallel=sequence_parallel)
    layer = stage.layers["0"]
    seen = []
    layer.self_attention.linear_proj.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    with torch.no_grad():
        layer.self_attention.linear_qkv.weight.zero_()
        layer.self_attention.linear_qkv.bias.fill_(1.0)
        layer.self_attention(torch.ones(4, 1, config.hidden_size, dtype=torch.float64))
    ones = torch.ones(64)
    masks = {"embedding": stage.embedding.dropout(ones), "layer": layer.dropout(ones)}
    return {name: x.flatten().tolist() for name, x in (masks | {"heads": seen[0]}).items()}


def copies_apart(groups, sequence_parallel, wrong_seed, steps=2):
    """By how much what tp ranks hold whole differs after some steps with dropout."""
    config = config_of("gpt-2", hidden_dropout=0.1, attention_dropout=0.1)
    plan = PLANS["1f1b"](pp=groups["pp"].size(), microbatches=MICROBATCHES)
    stages = stages_of(config, plan, groups, sequence_parallel=sequence_parallel)
    for stage in stages.values() if wrong_seed else ():
        for part in (*stage.layers.values(), *filter(None, [stage.embedding])):
            states = part.dropout.rng.states
            states["replicated"] = states["cut"]
    optimizer = parallel.Adam(p for stage in stages.values() for p in stage.parameters())
    for step in range(steps):
        batch = batch_of(config, groups["dp"].size(), seed=step)
        parallel.train_step(plan, stages, *batch, groups, optimizer)
    apart = 0.0
    for parameter in (p for stage in stages.values() for p in stage.parameters()):
        if not parameter.tensor_model_parallel:
            copies = [torch.empty_like(parameter) for _ in range(groups["tp"].size())]
            dist.all_gather(copies, parameter.detach(), group=groups["tp"])
            apart = max(apart, *((one - copies[0]).abs().max().item() for one in copies))
    return apart


# ---- a step


def one_step(config, plan_name, groups, microbatches=MICROBATCHES, **options):
    """Do one step; what a recorder sees of it is of interest."""
    plan = PLANS[plan_name](pp=groups["pp"].size(), microbatches=microbatches)
    stages = stages_of(config, plan, groups, **options)
    optimizer = parallel.Adam(p for stage in stages.values() for p in stage.parameters())
    tokens, targets = batch_of(config, groups["dp"].size(), microbatches)
    parallel.train_step(plan, stages, tokens, targets, groups, optimizer)


def refused(groups, spoil, sequence_parallel=False):
    """Do a step that something spoils; what this rank says, and whether a parameter changed."""
    config = config_of("gpt-2")
    plan = PLANS["1f1b"](pp=groups["pp"].size(), microbatches=MICROBATCHES)
    stages = stages_of(config, plan, groups, sequence_parallel=sequence_parallel)
    parameters = [p for stage in stages.values() for p in stage.parameters()]
    tokens, targets = batch_of(config, groups["dp"].size())
    tokens, targets = spoil(tokens, targets, stages)
    before = [parameter.detach().clone() for parameter in parameters]
    try:
        parallel.train_step(
            plan, stages, tokens, targets, groups, parallel.Adam(parameters), step=7
        )
    except ValueError as error:
        same = all(
            torch.equal(p.detach(), b) or b.isnan().any()
            for p, b in zip(parameters, before, strict=True)
        )
        return str(error), same
    return "", None


def refused_on(rank, groups, **wrong):
    """Do a step with something wrong on one rank, then a right one: its loss, and the first."""
    config, plan = config_of("gpt-2"), PLANS["1f1b"](pp=4, microbatches=MICROBATCHES)
    stages = stages_of(config, plan, groups)
    parameters = [p for stage in stages.values() for p in stage.parameters()]
    right = {"plan": plan, "stages": stages, "groups": groups}
    right |= {"optimizer": parallel.Adam(parameters, lr=0.0)}
    right |= dict(zip(("tokens", "targets"), batch_of(config, groups["dp"].size()), strict=True))
    first = parallel.train_step(**right).loss
    text = ""
    try:
        parallel.train_step(**right | (wrong if dist.get_rank() == rank else {}))
    except ValueError as error:
        text = str(error)
    return text, parallel.train_step(**right).loss, first


def put(which, place, value, only=None):
    """Return what puts a number into tokens (0) or targets (1), on one rank or on all."""

    def spoil(tokens, targets, stages):
        if only is None or dist.get_rank() == only:
            (tokens, targets)[which][place] = value
        return tokens, targets

    return spoil


def cut_to(sequence, batch):
    return lambda tokens, targets, stages: (tokens[:sequence, :batch], targets[:sequence, :batch])


def lengthened(tokens, targets, stages):
    return torch.cat([tokens, tokens]), torch.cat([targets, targets])


def of_last_stage(value, only=None):
    """Return what gives the last norm a weight, on one rank or on all."""

    def spoil(tokens, targets, stages):
        for stage in stages.values():
            if stage.output is not None and (only is None or dist.get_rank() == only):
                stage.output.final_layernorm.weight.data[0] = value
        return tokens, targets

    return spoil


def of_first_stage(value):
    def spoil(tokens, targets, stages):
        for stage in stages.values():
            if stage.embedding is not None:
                stage.embedding.word_embeddings.weight.register_hook(lambda g: g * value)
        return tokens, targets

    return spoil
