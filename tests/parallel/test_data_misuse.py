"""What is changed, copied or left out after wrapping: the right result, or all ranks refuse."""

from pathlib import Path

import pytest
import torch
from torch import nn

from mpviz import ParallelLayout
from mpviz.parallel import Adam, GPTConfig, clip_grad_norm
from mpviz.world import World

PROGRAM = (
    (Path(__file__).parent / "data_ranks.py").read_text()
    + """
import copy as copying
from torch.utils.checkpoint import checkpoint

group = groups["dp-cp"]
x = data(world_size)[0]

def ddp_of(module, **options):
    return parallel.DistributedDataParallel(module, group, **options)

def backward(model):
    loss_of(model(x[rank].to(next(model.parameters()).dtype))).backward()

def alone():
    model = make()
    for part in x:
        (loss_of(model(part)) / world_size).backward()
    return model
"""
)


@pytest.fixture(scope="module")
def world():
    # The deadline is the test that nobody waits for ever.
    with World(ParallelLayout(gpus_per_node=2), timeout=60) as world:
        world.cell(PROGRAM)
        yield world


def said(world, call, before=""):
    """What all ranks say to a call: one text, because they say the same."""
    texts = set(world.cell(f"{before}\nsaid(lambda: {call})"))
    assert len(texts) == 1, texts
    return texts.pop()


# ---- options that differ


@pytest.mark.parametrize("option", ["bucket_bytes=8 + 99 * rank", "overlap=rank > 0", "check=rank"])
def test_options_must_be_the_same_on_all_ranks(world, option):
    text = said(world, f"ddp_of(make(), {option})")
    assert text.startswith("the ranks of one group must agree, but rank 0: 0 float32, bucket_bytes")


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True])
def test_what_one_rank_gives_wrong_all_are_told(world, wrong):
    text = said(world, f"ddp_of(make(), bucket_bytes={wrong} if rank else 8)")
    assert f"; rank 1: bucket_bytes must be a whole number ≥ 1, got {wrong}" in text


def test_the_stage_must_be_the_same_on_all_ranks(world):
    call = "parallel.DistributedOptimizer(ddp_of(make()), parallel.Adam, stage={})"
    assert "stage=0; rank 1: 7×5 float32 with gradient, stage=1" in said(world, call.format("rank"))
    assert "; rank 1: stage may be 0, 1 or 2, got 7" in said(world, call.format("7 * rank"))
    text = said(world, "parallel.fully_shard(make(), group, check=rank > 0)")
    assert "check=False; rank 1: 7×5 float32 with gradient, check=True" in text


def test_a_note_that_is_too_long_is_an_error_on_all_ranks(world):
    before = "from mpviz.parallel.agreement import exchanged"
    text = said(world, "exchanged(group, 'ø' * (1024 if rank else 1023))", before)
    assert text == "a note has 2048 bytes; longer is that of 1"
    assert said(world, "exchanged(group, 'ø' * 1023)") == "nothing"


# ---- what changes after wrapping


def test_a_parameter_that_nobody_would_average_is_refused(world):
    end = " is new, or was frozen, since the module was wrapped: its gradient would not be averaged"
    before = "model = ddp_of(make())\nmodel.module[2] = nn.Linear(TALL, OUT)"
    assert said(world, "backward(model)", before).startswith(f"2.weight{end}")
    before = """
module = make()
module[0].bias.requires_grad_(False)
model = ddp_of(module)
module.requires_grad_()
"""
    assert said(world, "backward(model)", before).startswith(f"0.bias{end}")
    # Where nothing learns, nothing is drifting.
    assert said(world, "model.eval()(x[rank])") == "nothing"


@pytest.mark.parametrize("stage", [1, 2])
def test_weights_moved_out_of_their_buffer_are_refused(world, stage):
    before = f"""
model = ddp_of(make())
optimizer = parallel.DistributedOptimizer(model, parallel.Adam, stage={stage})
model.double()
backward(model)
"""
    text = said(world, "optimizer.step()", before)
    assert text.startswith("2.bias was moved out of the buffer that is cut into shards")


@pytest.mark.parametrize(("first", "second"), [(1, 0), (2, 0), (2, 1), (1, 2)])
def test_a_second_optimizer_replaces_the_first(world, first, second):
    world.cell(f"""
model, plain = ddp_of(make()), alone()
parallel.DistributedOptimizer(model, OPTIMIZERS["SGD"], stage={first})
backward(model)
optimizer = parallel.DistributedOptimizer(model, OPTIMIZERS["SGD"], stage={second})
backward(model)
optimizer.step()
OPTIMIZERS["SGD"](plain.parameters()).step()
worst = difference(model.module.state_dict(), plain.state_dict())
assert worst < 1e-6, worst
""")


CHANGES = {
    "module.double()": "0.weight was moved out of the buffer",
    "module[0].weight.data = torch.zeros_like(module[0].weight)": "0.weight was moved out",
    "module.load_state_dict(module.state_dict(), assign=True)": "are new since it was sharded: 0.w",
    "module[2] = nn.Linear(TALL, OUT)": "are new since it was sharded: 2.weight and 2.bias",
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_sharded_module_refuses_parameters_it_would_not_gather(world, change):
    before = f"module = parallel.fully_shard(make(), group)\n{change}"
    assert CHANGES[change] in said(world, "backward(module)", before)


def test_a_sharded_module_is_loaded_in_place_and_not_copied(world):
    world.cell("""
module = parallel.fully_shard(make(), group)
kept = {name: tensor.clone() for name, tensor in module.state_dict().items()}
for parameter in module.parameters():
    parameter.data.zero_()
module.load_state_dict(kept)
assert difference(parallel.full_state_dict(module), make().state_dict()) == 0
""")
    assert "cannot be copied" in said(world, "copying.deepcopy(module)")


# ---- backwards


@pytest.mark.parametrize("bucket_bytes", [8, 10**6])
@pytest.mark.parametrize("stage", [0, 2])
@pytest.mark.parametrize("reentrant", [False, True])
def test_a_backward_inside_a_backward(world, reentrant, stage, bucket_bytes):
    world.cell(f"""
class Checkpointed(nn.Sequential):
    def forward(self, x):
        y = checkpoint(self[0], x, use_reentrant={reentrant})
        return self[2](self[1](y))

plain = alone()
model = ddp_of(Checkpointed(*make()), bucket_bytes={bucket_bytes})
optimizer = parallel.DistributedOptimizer(model, OPTIMIZERS["SGD"], stage={stage})
loss_of(model(x[rank].clone().requires_grad_())).backward()
optimizer.step()
OPTIMIZERS["SGD"](plain.parameters()).step()
worst = difference(model.module.state_dict(), plain.state_dict())
assert worst < 1e-6, worst
""")


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_gradients_that_were_not_averaged_update_nothing(world, stage):
    before = f"""
model = ddp_of(make())
optimizer = parallel.DistributedOptimizer(model, parallel.Adam, stage={stage})
with model.no_sync():
    backward(model)
"""
    text = said(world, "optimizer.step()", before)
    assert text.startswith("the gradients are not averaged yet: call finish()")
    assert said(world, "(model.finish(), optimizer.step())") == "nothing"
    assert said(world, "parallel.copies_agree(model, group)") == "nothing"


@pytest.mark.parametrize("stage", [0, 2])
def test_a_gradient_that_was_cleared_is_no_gradient(world, stage):
    world.cell(f"""
model = ddp_of(make())
optimizer = parallel.DistributedOptimizer(model, OPTIMIZERS["AdamW"], stage={stage})
try:
    with model.no_sync():
        backward(model)
        raise KeyError
except KeyError:
    model.zero_grad()
loss_of(model.module[0](x[rank])).backward()  # the last layer has none
optimizer.step()
assert torch.equal(model.module[2].weight, make()[2].weight)  # not even decayed
assert not torch.equal(model.module[0].weight, make()[0].weight)
""")


def test_a_stage_without_a_wrapper_has_the_same_gradients_on_all_ranks(world):
    before = """
module = make()
loss_of((module if rank else module[0])(x[rank])).backward()
"""
    text = said(world, "parallel.average_gradients({0: module}, group)", before)
    assert "rank 0: 42 float32 of gradients, of all but 2.weight, 2.bias; rank 1: 66 float" in text
    world.cell("""
module, plain = make(), alone()
backward(module)
parallel.average_gradients({0: module, 1: nn.Identity()}, group)  # the last has none
worst = difference(gradients_of(module), gradients_of(plain))
assert worst < 1e-6, worst
""")


def test_what_a_check_raises_on_one_rank_all_ranks_raise(world):
    before = "from mpviz.parallel.training import everywhere"
    text = said(world, "everywhere(groups, lambda: {0: 0}[rank])", before)
    assert text == "what was given raises KeyError: 1"


# ---- numbers


def test_the_norm_counts_once_what_is_not_sharded(world):
    world.cell("""
module, plain = make(), alone()
parallel.fully_shard(module[0], group)
for part in x:  # the same on both ranks, so that what is not sharded is the same as well
    (loss_of(module(part)) / world_size).backward()
norm = parallel.clip_grad_norm(module, 1e9)
expected = nn.utils.clip_grad_norm_(plain.parameters(), 1e9).item()
assert abs(norm - expected) < 1e-6, (norm, expected)
""")


def test_the_norm_of_a_complex_gradient_counts_both_parts():
    layer = nn.ParameterList([nn.Parameter(torch.ones(1, dtype=torch.complex64))])
    layer[0].grad = torch.tensor([3 + 4j])
    assert clip_grad_norm(layer, 10.0) == 5.0


def test_adam_refuses_complex_parameters():
    with pytest.raises(ValueError, match="real parameters"):
        Adam([nn.Parameter(torch.ones(2, dtype=torch.complex64))])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"hidden_size": 0}, "hidden_size must be a whole number ≥ 1, got 0"),
        ({"num_heads": True}, "num_heads must be a whole number ≥ 1, got True"),
        ({"init_std": -1.0}, "init_std must be a number ≥ 0 and < inf, got -1.0"),
        ({"dtype": torch.int64}, "dtype must be a floating-point torch.dtype, got torch.int64"),
        ({"dtype": "float32"}, "dtype must be a floating-point torch.dtype, got 'float32'"),
    ],
)
def test_a_configuration_names_what_is_wrong(options, said):
    with pytest.raises(ValueError, match="^" + said.replace(".", r"\.")):
        GPTConfig(**options)
