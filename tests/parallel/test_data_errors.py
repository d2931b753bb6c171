"""What differs between copies is an error on every rank, or does not matter."""

from pathlib import Path

import pytest

from mpviz import ParallelLayout
from mpviz.world import World

PROGRAM = (
    (Path(__file__).parent / "data_ranks.py").read_text()
    + """
import torch.distributed as dist
"""
)
AGREE = "the ranks of one group must agree, but "

HELPERS = """
group, last = groups["dp-cp"], world_size - 1

class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.always, self.sometimes, self.never = (nn.Linear(5, 1) for _ in range(3))

    def forward(self, x, both):
        return self.always(x) + self.sometimes(x) if both else self.always(x)

def ddp_of(module, **options):
    return parallel.DistributedDataParallel(module, group, bucket_bytes=8, **options)

def parts_of_all():
    return data(world_size)[0]
"""


@pytest.fixture(scope="module", params=[1, 2, 4])
def world(request):
    # The deadline is the test that nobody waits for ever.
    with World(ParallelLayout(gpus_per_node=request.param), timeout=60) as world:
        world.cell(PROGRAM + HELPERS)
        yield world


def said(world, call, before=""):
    """What all ranks say to a call: one text, because they say the same."""
    texts = set(world.cell(f"{before}\nsaid(lambda: {call})"))
    assert len(texts) == 1, texts
    return texts.pop()


# ---- what does not matter


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_a_parameter_without_a_gradient_on_some_ranks(world, stage):
    world.cell(f"""
torch.manual_seed(rank)
copy, alone = Branches(), Branches()
model = ddp_of(copy)
optimizer = parallel.DistributedOptimizer(model, OPTIMIZERS["AdamW"], stage={stage})
plain = OPTIMIZERS["AdamW"](alone.parameters())
for step, x in enumerate(data(world_size)):
    optimizer.zero_grad(); plain.zero_grad()
    loss_of(model(x[rank], both=step % world_size == rank)).backward()
    for r in range(world_size):
        (loss_of(alone(x[r], both=step % world_size == r)) / world_size).backward()
    optimizer.step(); plain.step()
worst = difference(copy.state_dict(), alone.state_dict())
assert worst < 1e-6, worst
# What no rank uses has no gradient, so weight decay leaves it alone.
assert torch.equal(copy.never.weight, Branches().never.weight)
assert copy.never.weight.grad is None
parallel.copies_agree(model, group)
""")


@pytest.mark.parametrize("way", ["DDP", "stage 1", "stage 2", "fully_shard"])
def test_frozen_and_shared_parameters_and_integer_buffers(world, way):
    world.cell(f"""
class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.first, self.second, self.frozen = (nn.Linear(5, 5) for _ in range(3))
        self.second.weight = self.first.weight
        self.frozen.requires_grad_(False)
        self.register_buffer("count", torch.tensor(rank + 7))
        self.register_buffer("flags", torch.tensor([rank == 0, True]))

    def forward(self, x):
        return self.frozen(self.second(self.first(x)))

def way(module, group, make_optimizer):
    if {way!r} != "fully_shard":
        return OURS[{way!r}](module, group, make_optimizer)
    parallel.fully_shard(module, group)
    return module, make_optimizer(module.parameters()), lambda: parallel.full_state_dict(module)

copy, alone = Tied(), Tied()
model, optimizer, whole = way(copy, group, OPTIMIZERS["SGD"])
plain = OPTIMIZERS["SGD"](alone.parameters())
for x in data(world_size):
    optimizer.zero_grad(); plain.zero_grad()
    loss_of(model(x[rank])).backward()
    for part in x:
        (loss_of(alone(part)) / world_size).backward()
    optimizer.step(); plain.step()
expected = {{n: p.detach() for n, p in alone.named_parameters(remove_duplicate=False)}}
found = {{n: t for n, t in whole().items() if n in expected}}
assert set(found) == set(expected)
worst = max((found[n] - expected[n]).abs().max().item() for n in expected)
assert worst < 1e-6, worst
assert torch.equal(found["first.weight"], found["second.weight"])
assert copy.count.item() == 7 and copy.flags.tolist() == [True, True]  # of the first rank
""")


@pytest.mark.parametrize("way", ["DDP", "stage 2"])
def test_batches_of_different_sizes_give_the_mean_over_the_ranks(world, way):
    world.cell(f"""
copy, alone = make(), make()
model, optimizer, _ = OURS[{way!r}](copy, group, OPTIMIZERS["SGD"])
x = parts_of_all()
loss_of(model(x[rank, : 1 + rank])).backward()
optimizer.step()
for r in range(world_size):
    (loss_of(alone(x[r, : 1 + r])) / world_size).backward()
OPTIMIZERS["SGD"](alone.parameters()).step()
worst = difference(copy.state_dict(), alone.state_dict())
assert worst < 1e-6, worst
parallel.copies_agree(model, group)
""")


@pytest.mark.parametrize("stage", [0, 2])
def test_gradients_of_several_backwards_add_up(world, stage):
    world.cell(f"""
copy, alone = make(), make()
model = ddp_of(copy)
optimizer = parallel.DistributedOptimizer(model, OPTIMIZERS["SGD"], stage={stage})
plain = OPTIMIZERS["SGD"](alone.parameters())
for x in data(world_size)[:3]:
    loss_of(model(x[rank])).backward()
    for part in x:
        (loss_of(alone(part)) / world_size).backward()
optimizer.step(); plain.step()
worst = difference(copy.state_dict(), alone.state_dict())
assert worst < 1e-6, worst
""")


@pytest.mark.parametrize("stage", [0, 1, 2])
@pytest.mark.parametrize("block", ["no_sync()", "sync_after(4)"])
def test_microbatches_are_sent_once(world, block, stage):
    once = """
with model.BLOCK:
    for part in x:
        (loss_of(model(part[rank])) / 4).backward()
FINISH
""".replace("BLOCK", block).replace("FINISH", "model.finish()" if "no" in block else "")
    world.cell(f"""
copy, alone = make(), make()
model = ddp_of(copy)
optimizer = parallel.DistributedOptimizer(model, OPTIMIZERS["SGD"], stage={stage})
plain = OPTIMIZERS["SGD"](alone.parameters())
x = data(world_size)[:4]
""")
    events = world.cell(once, record=True).events
    collectives = [event for event in events if event.rank == 0]
    assert len(collectives) == (0 if world.layout.dp == 1 else 4)  # a bucket each parameter
    world.cell("""
for part in x.flatten(0, 1):
    (loss_of(alone(part)) / world_size / 4).backward()
optimizer.step(); plain.step()
worst = difference(copy.state_dict(), alone.state_dict())
assert worst < 1e-6, worst
""")


def test_a_backward_that_raised_does_not_spoil_the_next(world):
    world.cell("""
copy = make()
model = ddp_of(copy)
handle = copy[0].bias.register_hook(lambda gradient: 1 / 0)
x = parts_of_all()
try:
    loss_of(model(x[rank])).backward()
except ZeroDivisionError:
    handle.remove()
copy.zero_grad()
loss_of(model(x[rank])).backward()
alone = make()
for part in x:
    (loss_of(alone(part)) / world_size).backward()
worst = difference(gradients_of(copy), gradients_of(alone))
assert worst < 1e-6, worst
""")


def test_a_model_that_is_wrapped_again_is_averaged_once(world):
    world.cell("copy = make()\nmodel = ddp_of(copy)\nmodel = ddp_of(copy)")
    events = world.cell("loss_of(model(parts_of_all()[rank])).backward()", record=True).events
    assert len(events) == (0 if world.layout.dp == 1 else 4 * world.layout.dp)


IN_BACKWARD = """
class Watch(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        at_the_end.append(len(sent))
        return gradient

at_the_end, sent, all_reduce = [], [], dist.all_reduce

def noted(*args, **options):
    sent.append(1)
    return all_reduce(*args, **options)

dist.all_reduce = noted
try:
    model = ddp_of(make(), overlap=OVERLAP)
    x = parts_of_all()[rank].requires_grad_()
    loss_of(model(Watch.apply(x))).backward()
finally:
    dist.all_reduce = all_reduce
(at_the_end[0], len(sent))
"""


@pytest.mark.parametrize(("overlap", "before_the_end"), [(True, 2), (False, 0)])
def test_buckets_leave_while_backward_goes_on(world, overlap, before_the_end):
    seen = list(world.cell(IN_BACKWARD.replace("OVERLAP", str(overlap))))
    if world.layout.dp > 1:
        for early, late in seen:  # the last two may be there before the input's own gradient
            assert (early >= before_the_end if overlap else early == 0) and late == 4


def test_without_a_check_an_unused_parameter_has_a_gradient_of_0(world):
    world.cell("""
copy = Branches()
model = ddp_of(copy, check=False)
loss_of(model(parts_of_all()[rank], both=rank == last)).backward()
assert copy.never.weight.grad.eq(0).all()
alone = Branches()
for r, part in enumerate(parts_of_all()):
    (loss_of(alone(part, both=r == last)) / world_size).backward()
torch.testing.assert_close(copy.sometimes.weight.grad, alone.sometimes.weight.grad)
""")


# ---- what does: before anything is sent


@pytest.mark.parametrize("wrap", ["ddp_of(MODULE)", "parallel.fully_shard(MODULE, group)"])
def test_parameters_must_be_the_same_in_number_order_and_shape(world, wrap):
    if world.layout.dp == 1:
        return
    others = "rank 0" if world.layout.dp == 2 else "ranks 0, 1 and 2"
    last = world.layout.dp - 1
    first, second = "2×2 float32 with gradient, weight, first of ", " parameters and buffers"
    cases = {
        "nn.Linear(2, 2, bias=rank != last)": (f"{first}2{second}", f"{first}1{second}"),
        "nn.Linear(2, 3 if rank == last else 2)": (
            f"{first}2{second}",
            f"{first}2{second}".replace("2×2", "3×2"),
        ),
        "nn.Linear(2, 2).to(torch.float64 if rank == last else torch.float32)": (
            f"{first}2{second}",
            f"{first}2{second}".replace("float32", "float64"),
        ),
        "nn.Linear(2, 2).requires_grad_(rank != last)": (
            f"{first}2{second}",
            f"{first}2{second}".replace(" with gradient", ""),
        ),
        "nn.ModuleDict({n: nn.Linear(2, 2) for n in ('abc', 'acb')[rank == last]})": (
            "number 3 is b.weight 2×2 float32 with gradient",
            "number 3 is c.weight 2×2 float32 with gradient",
        ),
    }
    for module, (usual, unusual) in cases.items():
        expected = f"{AGREE}{others}: {usual}; rank {last}: {unusual}"
        assert said(world, wrap.replace("MODULE", module)) == expected


def test_a_backward_that_one_rank_leaves_out_is_an_error_on_all(world):
    if world.layout.dp == 1:
        return
    before = """
model = ddp_of(make())
def two_steps():
    for step, x in enumerate(data(world_size)[:2]):
        loss = loss_of(model(x[rank]))
        if step or rank != last:
            loss.backward()
    if rank == last:
        loss_of(model.module(x[rank])).backward()
"""
    # The last rank's first backward meets the others' first, of a step before.
    assert said(world, "two_steps()", before).startswith(
        "between two sums of gradients the ranks have made 1 to 2 forward passes in training"
    )


def test_stage_1_refuses_a_backward_before_zero_grad(world):
    before = (
        "step = Step('stage 1', 'float32', group)\nstep.forward_and_backward()\n"
        "again = lambda: loss_of(step.model(step.x)).backward()"
    )
    assert "came before zero_grad(), and of the last one this rank has kept its shard" in said(
        world, "again()", before
    )


def test_more_backwards_than_said_are_refused(world):
    before = """
model = ddp_of(make())
def too_many():
    with model.sync_after(1):
        for part in data(world_size)[:2]:
            loss_of(model(part[rank])).backward()
"""
    assert "came after its last: more backwards than sync_after was told" in said(
        world, "too_many()", before
    )


def test_other_misuse(world):
    refused = {
        "parallel.DistributedOptimizer(make(), parallel.Adam)": "takes a DistributedDataParallel",
        "parallel.DistributedOptimizer(ddp_of(make()), parallel.Adam, stage=3)": "fully_shard",
        "parallel.DistributedDataParallel(make(), None)": "this rank is in no such group",
        "parallel.DistributedDataParallel(make(), group, bucket_bytes=0)": "bucket_bytes must be",
        "ddp_of(make()).sync_after(0).__enter__()": "backwards must be a whole number",
        "parallel.copies_agree(parallel.fully_shard(make(), group), group)": "fully sharded",
        "parallel.clip_grad_norm(make(), 0)": "max_norm must be above 0, got 0",
        "parallel.fully_shard(nn.Sequential(make(), make('float64')), group)": "of one dtype",
    }
    for call, words in refused.items():
        assert words in said(world, call), call
    tied = "a, b = nn.Linear(2, 2), nn.Linear(2, 2); b.weight = a.weight\n"
    tied += "parallel.fully_shard(a, group)"
    assert said(world, "parallel.fully_shard(b, group)", tied) == (
        "weight is shared with Linear, which is sharded already; shard the module that holds both, "
        "before its layers"
    )


def test_sharded_layers_must_be_the_same_on_all_ranks(world):
    if world.layout.dp == 1:
        return
    world.cell("""
one, two = (parallel.fully_shard(nn.Linear(5, 5), group) for _ in range(2))
other = parallel.fully_shard(Branches(), group)
x = parts_of_all()[rank]
""")
    text = said(world, "other(x, both=rank == last).sum().backward()")
    assert "gradients but sometimes.weight, sometimes.bias, never.weight" in text
    text = said(world, "(one if rank == last else other)(x, *[True] * (rank != last))")
    assert text.startswith(AGREE) and "of Linear with weight 5×5" in text and "Branches" in text
    text = said(world, "one(x) if rank == last else parallel.fully_shard(nn.Linear(5, 3), group)")
    assert text.startswith(AGREE) and "first of 2 parameters and buffers" in text


def test_copies_that_drifted_are_named(world):
    if world.layout.dp == 1:
        assert world.cell("parallel.copies_agree(make(), group)")[0] is True
        return
    last = world.layout.dp - 1
    alike = "0" if last == 1 else "0, 1 and 2"
    before = "model = ddp_of(make())\nif rank == last:\n    model.module[2].bias.data[1] += 1e-6"
    assert said(world, "parallel.copies_agree(model, group)", before) == (
        f"1 of 4 tensors differ: module.2.bias (ranks {alike}; {last})"
    )


# ---- with a pipeline

PIPED = """
from contextlib import ExitStack
from mpviz import schedule
from mpviz.parallel import pipeline
group, dp = groups["dp-cp"], groups["dp-cp"].size()

class Residual(nn.Module):
    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.inner = make(seed=seed)
        self.out = nn.Linear(OUT, WIDE)
    def forward(self, x):
        return x + self.out(self.inner(x))

def piped(plan, stage, block):
    copies = {n: Residual(n) for n in plan.stages_of(pp_rank)}
    models, optimizers = {}, []
    for n, copy in copies.items():
        models[n] = parallel.DistributedDataParallel(copy, group, bucket_bytes=80)
        optimizers.append(parallel.DistributedOptimizer(models[n], OPTIMIZERS["Adam"], stage=stage))
    x = data(dp)[:plan.microbatches]
    with ExitStack() as stack:
        for model in models.values():
            stack.enter_context(model.sync_after(plan.microbatches) if block else model.no_sync())
        pipeline.execute(plan, models, inputs=x[:, group.rank()], loss=loss_of, group=groups["pp"])
    for model in models.values():
        if not block:
            model.finish()
    for optimizer in optimizers:
        optimizer.step()
    whole = nn.Sequential(*(Residual(n) for n in range(plan.stages)))
    plain = OPTIMIZERS["AdamW"](whole.parameters())
    for part in x.flatten(0, 1):
        (loss_of(whole(part)) / dp / plan.microbatches).backward()
    plain.step()
    return max(difference(m.state_dict(), whole[n].state_dict()) for n, m in copies.items())
"""
PLANS = ["one_forward_one_backward", "interleaved_1f1b", "zero_bubble_v"]


@pytest.fixture(scope="module")
def pipelines():
    with World(ParallelLayout(gpus_per_node=4, pp=2), timeout=60) as world:
        world.cell(PROGRAM + PIPED)
        yield world


@pytest.mark.parametrize("block", [True, False], ids=["sync_after", "no_sync"])
@pytest.mark.parametrize("stage", [0, 1, 2])
@pytest.mark.parametrize("plan", PLANS)
def test_stages_of_a_pipeline_are_averaged_over_its_copies(pipelines, plan, stage, block):
    call = f"piped(schedule.{plan}(pp=2, microbatches=4), {stage}, {block})"
    for worst in pipelines.cell(call):
        assert worst < 2e-6
