"""Steps of training on the slide's sixteen ranks: their losses, their bytes, their errors."""

import os
import signal
import threading
from collections import Counter
from pathlib import Path

import pytest

from mpviz import ParallelLayout
from mpviz.world import RanksInterrupted, World

PROGRAM = (Path(__file__).parent / "gpt_ranks.py").read_text()
SLIDE = ParallelLayout(nodes=2, tp=2, pp=4)
# The losses of two orders of summing; after 100 steps the benchmark finds 5e-15.
TOLERANCE = 1e-12


@pytest.fixture(scope="module")
def world():
    with World(SLIDE, timeout=60) as world:
        world.cell(PROGRAM)
        yield world


@pytest.fixture(scope="module")
def in_one_process():
    program = {}
    exec(PROGRAM, program)
    return program


# ---- losses


@pytest.mark.parametrize(
    ("plan", "sequence_parallel", "zero"),
    [
        *(("1f1b", False, None), ("interleaved", True, None), ("zb-v", False, None)),
        *(("1f1b", False, 0), ("zb-h1", True, 1)),
    ],
)
def test_the_losses_are_those_of_one_process(world, in_one_process, plan, sequence_parallel, zero):
    steps = 3
    model = "parallel.GPTConfig(num_layers=8, hidden_size=32, dtype=torch.float64)"
    expected = in_one_process["whole_curve"](eval(model, in_one_process), steps)
    options = f"zero={zero}, sequence_parallel={sequence_parallel}"
    call = f"curve({model}, {steps}, {plan!r}, groups, {options})"
    for losses in world.cell(call):
        assert losses == pytest.approx(expected, abs=TOLERANCE, rel=0)
    assert len(set(expected)) == steps


def test_a_gpt_learns_in_100_steps(in_one_process):
    config = in_one_process["parallel"].GPTConfig(num_layers=2)
    losses = in_one_process["whole_curve"](config, 100, parts=1)
    assert losses[0] > 3.3  # of 32 words, chosen blindly: ln 32 = 3.47
    assert losses[-1] < 0.3


# ---- bytes

S, B, H, V, M, E = 12, 1, 32, 24, 4, 8  # of config_of and batch_of, in float64
T, HEADER = 2, 12 * 8
LLAMA = {"cut": 15 * H * H, "whole": 2 * H, "places": 0, "last": H}  # g = n/2, f = 4 h, no biases
# Parameters of a layer that tp cuts, and that it does not; of places, and of the last norm.
PARAMETERS = {
    "gpt-2": {"cut": 12 * H * H + 7 * H, "whole": 6 * H, "places": 16 * H, "last": 2 * H},
    "llama": LLAMA,
    "llama, tied": LLAMA,
}


def expected_bytes(model, plan, pp_rank, sequence_parallel):
    """What a rank puts into the collectives and messages of one step, by kind of group."""
    size, words, stages = PARAMETERS[model], V // T * H, plan.stages
    activation, part = M * S * B * H * E, M * S * B * H * E // T
    elements = {"tp": 0, "dp": 0}
    tp = pp = 0
    mine = plan.stages_of(pp_rank)
    for stage in mine:
        layers, first, last = 8 // stages, stage == 0, stage == stages - 1
        whole = layers * size["whole"] + first * size["places"] + last * size["last"]
        elements["dp"] += layers * size["cut"] // T + whole + (first + last) * words
        tp += last * M * 3 * S * B * E  # the largest logit of each token; the target's, and a sum
        if sequence_parallel:
            # f and g of attention and MLP, there and back; f gathers once more for the weight.
            tp += layers * (6 * part + 4 * activation)
            tp += first * (activation + part) + last * (2 * part + activation)
            elements["tp"] += whole
        else:
            tp += (layers * 4 + first + last) * activation
        for neighbour in {stage - 1, stage + 1} & set(range(stages)) - set(mine):
            assert plan.placement[neighbour] != pp_rank
            pp += (part if sequence_parallel else activation) + HEADER
    both = {0, stages - 1} <= set(mine)
    tied = model != "llama" and not both and bool({0, stages - 1} & set(mine))
    return {
        "tp": tp + elements["tp"] * E + E,  # the last for the norm
        "pp": pp + E,
        "embedding": tied * words * E,
        "dp": elements["dp"] * E,
    }


@pytest.mark.parametrize(
    ("model", "name", "sequence_parallel"),
    [
        *(("gpt-2", "1f1b", False), ("gpt-2", "1f1b", True), ("llama", "zb-h1", True)),
        *(("gpt-2", "zb-v", False), ("llama, tied", "interleaved", True)),
    ],
)
def test_the_bytes_of_a_step_are_those_of_the_formulas(
    world, in_one_process, model, name, sequence_parallel
):
    options = f"groups, sequence_parallel={sequence_parallel}"
    world.cell(f"one_step(config_of({model!r}), {name!r}, {options})", record=True)
    recorded = Counter()
    kinds = {
        (rank, tuple(members)): kind
        for kind in ("dp", "tp", "pp", "embedding")
        for members in SLIDE.groups(kind).tolist()
        for rank in members
    }
    for event in world.events:
        if event.name not in ("recv", "irecv"):
            recorded[event.rank, kinds[event.rank, event.group]] += event.bytes
    plan = in_one_process["PLANS"][name](pp=SLIDE.pp, microbatches=M)
    for rank in range(16):
        expected = expected_bytes(model, plan, SLIDE.coordinates(rank)["pp"], sequence_parallel)
        assert {kind: recorded[rank, kind] for kind in expected} == expected, rank
    assert sum(recorded.values()) > 0


# ---- errors

REFUSED = {
    "put(0, (3, 5), 24)": "tokens: index 24 is none of the 24 words 0 … 23",
    "put(0, (3, 5), -1, only=6)": "tokens: index -1 is none of the 24 words 0 … 23",
    "put(1, (3, 5), 99, only=15)": "targets: index 99 is none of the 24 words",
    "put(0, (3, 5), 1, only=9)": "ranks 8 and 9 were given different batches; all take the whole",
    "put(1, (3, 5), -100)": (
        "targets: index -100 is none of the 24 words 0 … 23; a target that does not count is "
        "MASKED, -1"
    ),
    "put(1, (slice(None), 5), -1)": (
        "all targets of microbatch 1 of copy 1 are masked: it has no loss"
    ),
    "cut_to(12, 7)": ("a batch of 7 cannot be dealt to dp=2 × 4 microbatches; a multiple of 8 can"),
    "lengthened": "the model sees 16 tokens at most, got a sequence of 24",
    "lambda x, y, _: (x.float(), y)": "tokens: words are whole numbers (int64), got 12×8 float32",
    "lambda x, y, _: (x, y[:-1])": (
        "tokens and targets are (sequence, batch) both, got 12×8 int64 and 11×8 int64"
    ),
    "lambda x, y, _: (x.tolist() if dist.get_rank() == 9 else x, y)": "tokens must be a Tensor",
    "cut_to(12, 0)": "a batch must have tokens, got 12×0 int64",
    "lambda x, y, stages: (x, y, stages.clear())[:2]": "as gpt_stage makes them; got none",
    "of_last_stage(float('nan'), only=14)": (
        "step 7: the loss of microbatch 0 is nan on rank 14; no parameter changed"
    ),
    "of_first_stage(float('inf'))": "step 7: the norm of the gradient is nan; no parameter changed",
}


@pytest.mark.parametrize("spoil", REFUSED)
def test_every_rank_raises_what_one_of_them_found(world, spoil):
    for text, unchanged in world.cell(f"refused(groups, {spoil})"):
        assert REFUSED[spoil] in text
        assert unchanged


# What one rank of sixteen is given in place of the right thing, and what all then say.
WRONG = {
    "optimizer=None": "an optimizer has step() and zero_grad(), got None",
    "optimizer=parallel.Adam": "an optimizer has step() and zero_grad(), got <class",
    "plan='1f1b'": "plan must be a Plan, as those of schedule are, got '1f1b'",
    "plan=PLANS['interleaved'](pp=4, microbatches=4)": (
        "stage 2 of the plan's 8 was made as stage 2 of 4"
    ),
    "stages=[]": "stages are a dict by number, got list",
    "max_norm='1'": "max_norm must be a number above 0, got '1'",
    "max_norm=0": "max_norm must be a number above 0, got 0",
    "stages=stages_of(config_of('gpt-2', seed=1), PLANS['1f1b'](pp=4, microbatches=4), groups)": (
        "ranks 8 and 9 were given different models"
    ),
    "stages={2: parallel.GPT(config_of('gpt-2'), stage=2, of=4)}": (
        "stage 2 was made for tp=1, and the group has 2"
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_every_rank_refuses_what_one_was_given_and_the_next_step_works(world, wrong):
    for text, loss, expected in world.cell(f"refused_on(9, groups, {wrong})"):
        assert WRONG[wrong] in text
        assert loss == expected


def test_a_sequence_that_tp_does_not_divide(world):
    for text, unchanged in world.cell("refused(groups, cut_to(11, 8), sequence_parallel=True)"):
        assert text == "a sequence of 11 cannot be cut for tp=2; tp may be 1 or 11"
        assert unchanged
    for text, _ in world.cell("refused(groups, cut_to(11, 8))"):
        assert text == ""


# ---- stopped


def test_after_an_interrupt_in_the_middle_of_a_step_the_next_one_works(world, in_one_process):
    def interrupt():
        os.kill(os.getpid(), signal.SIGINT)

    config = "parallel.GPTConfig(num_layers=8, hidden_size=32, dtype=torch.float64)"
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(1.5, interrupt)
    try:
        timer.start()
        with pytest.raises(RanksInterrupted, match=r"^Interrupted\."):
            world.cell(f"curve({config}, 1000, '1f1b', groups)")
    finally:
        timer.cancel()
        signal.signal(signal.SIGINT, before)
    world.cell(PROGRAM)
    expected = in_one_process["whole_curve"](eval(config, in_one_process), 2)
    for losses in world.cell(f"curve({config}, 2, '1f1b', groups)"):
        assert losses == pytest.approx(expected, abs=TOLERANCE, rel=0)
