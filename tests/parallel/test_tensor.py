"""Layers cut over 1, 2, 4 and 8 real ranks, beside the same layers uncut."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mpviz import ParallelLayout
from mpviz.shards import attention, column_parallel, mlp, row_parallel
from mpviz.world import World

PROGRAM = (Path(__file__).parent / "tensor_ranks.py").read_text()
TOKENS, BATCH, HIDDEN, FFN, HEADS, WORDS = 8, 3, 16, 32, 8, 24

# Only the order of sums differs. A sum of n numbers is wrong by at most n roundings of its largest
# part; here n < 100, and a rounding is 1.1e-16 or 6e-8. Measured: 7e-16 and 4e-7.
TOLERANCE = {"float64": 1e-13, "float32": 1e-5}

LAYERS = [
    *("column", "column, output gathered", "row", "row, input whole"),
    *("mlp", "attention", "causal attention", "embedding"),
]


@pytest.fixture(scope="module", params=[1, 2, 4, 8])
def world(request):
    with World(ParallelLayout(gpus_per_node=request.param, tp=request.param), timeout=60) as world:
        world.cell(PROGRAM + "\ngroup = groups['tp']")
        yield world


# ---- numbers


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("sequence_parallel", [False, True])
def test_outputs_and_gradients_are_those_of_the_layer_uncut(world, sequence_parallel, bias, dtype):
    options = (sequence_parallel, bias, dtype)
    calls = [f"{name!r}: differences({name!r}, *{options}, group)" for name in LAYERS]
    for found in world.cell("{" + ", ".join(calls) + "}"):
        seen = {name: sorted(errors) for name, errors in found.items() if errors}
        biases = ["dbias"] * bias
        assert seen["row"] == sorted(["dweight", "dx", "y", *biases])
        assert seen["embedding"] == ["dweight", "y"]
        assert len(seen) == (6 if sequence_parallel else 8)
        largest = {name: max(errors.values()) for name, errors in found.items() if errors}
        assert {name: e for name, e in largest.items() if not e <= TOLERANCE[dtype]} == {}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_the_loss_of_cut_logits_is_that_of_whole_ones(world, dtype, scale):
    # Times 10,000, exponentials overflow unless the largest logit of all ranks is taken off first.
    for found in list(world.cell(f"loss_differences({dtype!r}, group, {scale})")):
        assert max(found.values()) <= TOLERANCE[dtype]


def test_cut_and_gathered_is_the_same_layer_bit_for_bit(world):
    for name in LAYERS:
        assert list(world.cell(f"roundtrip({name!r}, group)")) == [[]] * world.layout.tp


@pytest.mark.parametrize("name", ["column", "stacked", "row", "mlp", "attention", "embedding"])
def test_a_seed_gives_the_same_model_whatever_tp_is(world, name):
    assert list(world.cell(f"drawn_differently({name!r}, group)")) == [[]] * world.layout.tp


# ---- communication

# torch 2.13 renames two; a plan has the field's words.
IN_WORDS = {
    "all_reduce": "all-reduce",
    "all_gather_single": "all-gather",
    "all_gather_into_tensor": "all-gather",
    "reduce_scatter_single": "reduce-scatter",
    "reduce_scatter_tensor": "reduce-scatter",
}


def recorded(world, call):
    """What each rank communicates in a call: in order, and how many bytes it puts in."""
    events = world.cell(call, record=True).events
    everyone = tuple(range(world.layout.tp))
    assert {event.group for event in events} <= {everyone}
    return [
        [(IN_WORDS[event.name], event.bytes) for event in events if event.rank == rank]
        for rank in everyone
    ]


def planned(calls, itemsize):
    return [(call.name, call.bytes(itemsize)) for call in calls]


@pytest.mark.parametrize(("dtype", "itemsize"), [("float64", 8), ("float32", 4)])
@pytest.mark.parametrize("sequence_parallel", [False, True])
def test_a_transformer_layer_communicates_as_planned(world, sequence_parallel, dtype, itemsize):
    tokens, tp = TOKENS * BATCH, world.layout.tp
    first = attention(tokens, HIDDEN, HEADS, tp, sequence_parallel=sequence_parallel)
    second = mlp(tokens, HIDDEN, FFN, tp, sequence_parallel=sequence_parallel)
    plan = planned(first.forward + second.forward + second.backward + first.backward, itemsize)
    if tp > 1 and not sequence_parallel:
        # Shoeybi et al. 2019, section 3: two all-reduces forward, two backward.
        assert plan == 4 * [("all-reduce", tokens * HIDDEN * itemsize)]
    seen = recorded(world, f"transformer_layer({sequence_parallel}, {dtype!r}, group)")
    assert seen == [plan] * tp


def test_each_layer_alone_communicates_as_planned(world):
    tokens, tp = TOKENS * BATCH, world.layout.tp
    of_words = row_parallel(tokens, WORDS, HIDDEN, tp)
    plans = {
        ("column", False): column_parallel(tokens, HIDDEN, FFN, tp),
        ("column", True): column_parallel(tokens, HIDDEN, FFN, tp, sequence_parallel=True),
        ("column, output gathered", False): column_parallel(
            tokens, HIDDEN, FFN, tp, gather_output=True
        ),
        ("row", False): row_parallel(tokens, FFN, HIDDEN, tp),
        ("row", True): row_parallel(tokens, FFN, HIDDEN, tp, sequence_parallel=True),
        ("row, input whole", False): row_parallel(tokens, FFN, HIDDEN, tp, input_is_parallel=False),
        ("embedding", False): of_words,
    }
    for (name, sequence_parallel), plan in plans.items():
        seen = recorded(world, f"alone({name!r}, {sequence_parallel}, group)")
        assert seen == [planned(plan.forward + plan.backward, itemsize=4)] * tp, name


HALVES = """
from mpviz.parallel.pipeline import backward_of_input

def forward(sequence_parallel, bias, first):
    options = {"sequence_parallel": sequence_parallel, "bias": bias}
    cut = nn.Sequential(
        *([] if first else [nn.LayerNorm(HIDDEN)]),
        parallel.ParallelAttention(HIDDEN, HEADS, group, **options),
        parallel.ParallelMLP(HIDDEN, FFN, group, **options),
    )
    tokens = TOKENS // group.size() if sequence_parallel else TOKENS
    x = torch.randn(tokens, BATCH, HIDDEN).requires_grad_()
    return cut, x, cut(x)

def compare():
    cut, x, y = stage
    halves = [parameter.grad.clone() for parameter in cut.parameters()]
    cut.zero_grad()
    cut(x).sum().backward()
    torch.testing.assert_close(of_input, x.grad)
    torch.testing.assert_close(halves, [parameter.grad for parameter in cut.parameters()])
"""


@pytest.mark.parametrize("first", [True, False], ids=["on the input", "after a layer"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("sequence_parallel", [False, True])
def test_a_backward_in_two_halves_communicates_no_more_than_a_whole_one(
    world, sequence_parallel, bias, first
):
    tokens, tp = TOKENS * BATCH, world.layout.tp
    layers = [
        mlp(tokens, HIDDEN, FFN, tp, sequence_parallel=sequence_parallel),
        attention(tokens, HIDDEN, HEADS, tp, sequence_parallel=sequence_parallel),
    ]
    whole = planned([call for layer in layers for call in layer.backward], itemsize=4)
    # X is gathered once more for the gradients of the weights alone; all else by the first half.
    gathered = [("all-gather", tokens // tp * HIDDEN * 4)] * 2
    of_weights = gathered if sequence_parallel and tp > 1 else []
    world.cell(f"{HALVES}\nstage = forward({sequence_parallel}, {bias}, {first})")
    halves = "of_input, later = backward_of_input(stage[2], torch.ones_like(stage[2]), stage[1])"
    for of_x, of_w in zip(
        recorded(world, halves), recorded(world, "later.accumulate()"), strict=True
    ):
        assert of_w == of_weights
        assert sorted(of_x + of_w) == sorted(whole)
    world.cell("compare()")


def test_a_loss_needs_three_numbers_of_each_token(world):
    expected = [("all-reduce", TOKENS * 4), ("all-reduce", 2 * TOKENS * 4)]
    for seen in recorded(world, "loss_alone(group)"):
        assert seen == (expected if world.layout.tp > 1 else [])


def test_with_sequence_parallelism_a_rank_keeps_its_own_tokens_only(world):
    tp = world.layout.tp
    x, inside = TOKENS * BATCH * HIDDEN, TOKENS * BATCH * FFN // tp
    # For backward: X, and inside the MLP what GeLU takes and what it gives.
    assert list(world.cell("kept('mlp', False, group)")) == [x + 2 * inside] * tp
    assert list(world.cell("kept('mlp', True, group)")) == [x // tp + 2 * inside] * tp


# ---- without a notebook

TORCHRUN = """
import os, sys
import torch, torch.distributed as dist
from mpviz.parallel import MLP, ParallelMLP
torch.manual_seed(1)
whole, x = MLP(8, 16), torch.randn(3, 8)
dist.init_process_group("gloo")
cut = ParallelMLP.from_reference(whole, dist.group.WORLD)
assert cut.linear_fc1.weight.shape == (8, 8) and torch.allclose(cut(x), whole(x), atol=1e-6)
assert not any(name.startswith(("mpviz.world", "matplotlib")) for name in sys.modules)
open(f"{sys.argv[1]}/{dist.get_rank()}", "w").write("right")
dist.barrier()
dist.destroy_process_group()
os._exit(0)  # what torch does at an interpreter's end has aborted a process once
"""


def test_the_same_code_runs_under_torchrun(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(TORCHRUN)
    loopback = "lo0" if sys.platform == "darwin" else "lo"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*launcher, "--nproc-per-node=2", program, tmp_path],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"GLOO_SOCKET_IFNAME": loopback, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [(tmp_path / rank).read_text() for rank in "01"] == ["right", "right"]
