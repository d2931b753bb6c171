"""What ZeRO sends and what it holds: recorded and measured, to the byte."""

from math import ceil, prod
from pathlib import Path

import pytest

from mpviz import ParallelLayout, cost
from mpviz.world import World

PROGRAM = (
    (Path(__file__).parent / "data_ranks.py").read_text()
    + """
import sys, time
from contextlib import nullcontext
"""
)
SHAPES = {"0.weight": (7, 5), "0.bias": (7,), "2.weight": (3, 7), "2.bias": (3,)}
PARAMETERS = sum(map(prod, SHAPES.values()))
WAYS = {"DDP": 0, "stage 0": 0, "stage 1": 1, "stage 2": 2, "fully_shard": 3}
BYTES = {"float32": 4, "bfloat16": 2}
# Adam's two moments in float32, and of a bfloat16 weight also itself.
STATE = {"float32": 8, "bfloat16": 12}


@pytest.fixture(scope="module", params=[1, 2, 4])
def world(request):
    with World(ParallelLayout(gpus_per_node=request.param), timeout=60) as world:
        world.cell(PROGRAM + "\ngroup = groups['dp-cp']")
        yield world


def padded(way, dtype, dp):
    """Elements of all buffers: buckets that 20 bytes fill, from behind, or one for each layer."""
    buckets = {"float32": [3 + 21, 7, 35], "bfloat16": [3 + 21, 7 + 35]}[dtype]
    if way == "fully_shard":
        buckets = [7 * 5 + 7, 3 * 7 + 3]
    assert sum(buckets) == PARAMETERS
    return sum(dp * ceil(numbers / dp) for numbers in buckets)


def sent(events, ranks):
    """Bytes that each rank sends, by what: a ring sends (n-1)/n of a tensor, all-reduce twice."""
    whole = {"reduce_scatter": 1, "all_gather": ranks, "all_reduce": 2}
    found = {}
    for event in events:
        name = event.name.removesuffix("_single").removesuffix("_into_tensor")
        name = name.removesuffix("_tensor")
        size = event.bytes * whole[name] * (ranks - 1)
        assert size % ranks == 0
        found[event.rank, name] = found.get((event.rank, name), 0) + size // ranks
    return found


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("way", WAYS)
def test_a_step_sends_2_2_2_and_3_times_the_parameters(world, way, dtype):
    dp = world.layout.dp
    world.cell(f"step = Step({way!r}, {dtype!r}, group); step()")
    once = padded(way, dtype, dp) * BYTES[dtype] * (dp - 1) // dp
    parts = {
        0: {"all_reduce": 2 * once},
        1: {"reduce_scatter": once, "all_gather": once},
        2: {"reduce_scatter": once, "all_gather": once},
        3: {"reduce_scatter": once, "all_gather": 2 * once},
    }[WAYS[way]]
    expected = {(rank, name): size for rank in range(dp) for name, size in parts.items()}
    assert sent(world.cell("step()", record=True).events, dp) == (expected if dp > 1 else {})


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("way", WAYS)
def test_a_rank_holds_what_the_formula_says(world, way, dtype):
    dp, stage = world.layout.dp, WAYS[way]
    world.cell(f"step = Step({way!r}, {dtype!r}, group); step(); step.forward_and_backward()")
    held = list(world.cell("step.held()"))
    buffers, each = padded(way, dtype, dp) * BYTES[dtype], BYTES[dtype]
    # In stages 0 and ddp weights stay where they were, without padding.
    weights = {0: PARAMETERS * each, 1: buffers, 2: buffers, 3: buffers // dp}[stage]
    gradients = {0: buffers, 1: buffers, 2: buffers // dp, 3: buffers // dp}[stage]
    assert [(of["weights"], of["gradients"]) for of in held] == [(weights, gradients)] * dp
    state = [of["optimizer"] for of in held]
    if stage == 0:
        assert state == [STATE[dtype] * PARAMETERS] * dp
    else:  # padding has no state
        assert sum(state) == STATE[dtype] * PARAMETERS
        assert max(state) <= STATE[dtype] * (buffers // each) // dp


@pytest.fixture
def even(world):
    """A model whose every parameter 4 divides, so that nothing is padded: its size."""
    before = world.cell("(WIDE, TALL, OUT)")[0]
    world.cell("WIDE, TALL, OUT = 8, 16, 4")
    yield 16 * 8 + 16 + 4 * 16 + 4
    world.cell(f"WIDE, TALL, OUT = {before}")


@pytest.mark.parametrize(("dtype", "precision"), [("float32", "fp32"), ("bfloat16", "mixed")])
@pytest.mark.parametrize("way", WAYS)
def test_cost_counts_what_real_ranks_hold_and_send(world, even, way, dtype, precision):
    dp = world.layout.dp
    state = cost.zero(even, dp, WAYS[way], precision)
    world.cell(f"step = Step({way!r}, {dtype!r}, group); step()")
    events = world.cell("step()", record=True).events
    counted = {(rank, name): n for rank in range(dp) for name, n in state.sent_bytes.items() if n}
    assert sent(events, dp) == counted
    world.cell("step.forward_and_backward()")
    for held in world.cell("step.held()"):
        assert held == {kind: getattr(state, kind) for kind in held} and len(held) == 3


def test_stage_2_sends_each_backward_and_stage_1_once_a_step(world):
    once = padded("stage 1", "float32", world.layout.dp) * 4
    counts = {}
    for way, block in {"stage 1": "step.model.no_sync()", "stage 2": "nullcontext()"}.items():
        world.cell(f"step = Step({way!r}, 'float32', group)\nstep.optimizer.zero_grad()")
        events = world.cell(
            f"with {block}:\n"
            f"    loss_of(step.model(step.x)).backward()\n"
            f"loss_of(step.model(step.x)).backward()",
            record=True,
        ).events
        counts[way] = sum(event.bytes for event in events if event.rank == 0)
        held = world.cell("step.held()['gradients']")[0]
        assert held == once if way == "stage 1" else once // world.layout.dp
    assert counts == (
        {"stage 1": once, "stage 2": 2 * once}
        if world.layout.dp > 1
        else {"stage 1": 0, "stage 2": 0}
    )


WATCHED = """
from torch.multiprocessing.reductions import StorageWeakRef
from mpviz.parallel.fully_sharded import ShardedUnit

live, most, gathered = [], [0], ShardedUnit.gathered

def alive():
    return len({ref.cdata for ref in live if not ref.expired()})

def left(expected):  # once gloo's own thread has let go of what is done
    until = time.monotonic() + 10
    while alive() > expected and time.monotonic() < until:
        time.sleep(0.001)
    return alive()

def watched(unit, purpose):
    found = gathered(unit, purpose)
    live.append(StorageWeakRef(found.untyped_storage()))
    most[0] = max(most[0], left(1))
    return found

ShardedUnit.gathered = watched
try:
    x = torch.ones(2, 8, requires_grad=True)
    net = nn.Sequential(*(parallel.fully_shard(nn.Linear(8, 8), group) for _ in range(4)))
    y = net(x).sum()
    after_forward = left(0)
    y.backward()
    after_backward = left(0)
finally:
    ShardedUnit.gathered = gathered
(most[0], after_forward, after_backward, len(live))
"""


def test_one_layer_is_whole_at_a_time(world):
    if world.layout.dp == 1:
        return  # whose shard is the whole
    # Four gathered in forward, four in backward, each looked up once.
    assert list(world.cell(WATCHED)) == [(1, 0, 0, 8)] * world.layout.dp


def test_no_weight_outlives_a_backward_that_needs_no_gradient_of_it(world):
    world.cell("""
layer = parallel.fully_shard(nn.Linear(5, 5), group)
x = torch.ones(1, 5, requires_grad=True)
torch.autograd.grad(layer(x).sum(), x)
for shard in layer.parameters():
    shard.data.zero_()
assert layer(x).abs().max() == 0
layer.weight.unit.free()
torch.autograd.grad(layer(x).sum(), x)
assert layer.weight.unit._full is None
""")


def test_adam_of_ten_lines_does_not_load_a_compiler(plain_server):
    with World(ParallelLayout(gpus_per_node=1), timeout=60) as world:
        world.cell(PROGRAM + "\nstep = Step('stage 1', 'float32', groups['dp-cp']); step()")
        assert world.cell("'torch._dynamo' in sys.modules")[0] is False
        world.cell("torch.optim.Adam([nn.Parameter(torch.ones(1))])")
        assert world.cell("'torch._dynamo' in sys.modules")[0] is True
