"""A GPT cut over real ranks: the numbers of the same GPT in one process, whatever the layout."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mpviz import ParallelLayout, parallel
from mpviz.parallel import GPT, GPTConfig
from mpviz.world import World

PROGRAM = (Path(__file__).parent / "gpt_ranks.py").read_text()

# Only the order of sums differs: a sum of n numbers is wrong by at most n roundings, of 1.1e-16
# each, of the largest part. Here n < 1,000, and 12 layers of sums lie behind each other; measured:
# 1.3e-15 of the largest gradient of a parameter.
TOLERANCE = 1e-12

# How 8 ranks are cut, tp, pp, dp; then what they run: plan, model, sequence parallelism.
CASES = {
    (1, 1, 8): [("gpipe", "gpt-2", False), ("zb-h1", "llama", True)],
    (2, 1, 4): [("1f1b", "gpt-2", True)],
    (4, 1, 2): [("gpipe", "llama, tied", True), ("1f1b", "llama", False)],
    (1, 2, 4): [("zb-v", "gpt-2", False)],
    (1, 4, 2): [("1f1b", "llama, tied", False), ("interleaved", "gpt-2", False)],
    (2, 2, 2): [
        *(("gpipe", "gpt-2", True), ("1f1b", "llama", False), ("zb-h1", "llama, tied", True)),
        *(("interleaved", "llama, tied", False), ("zb-v", "llama, tied", True)),
    ],
    (4, 2, 1): [("interleaved", "llama", True), ("zb-h1", "gpt-2", False)],
    (2, 4, 1): [("zb-v", "gpt-2", True), ("1f1b", "llama, tied", True)],
}


@pytest.fixture(scope="module")
def world():
    with World(ParallelLayout(gpus_per_node=8), timeout=60) as world:
        world.cell(PROGRAM)
        yield world


@pytest.mark.parametrize("sizes", CASES, ids=lambda sizes: "tp{}-pp{}-dp{}".format(*sizes))
def test_loss_and_every_gradient_are_those_of_one_process(world, sizes):
    tp, pp, _ = sizes
    for plan, model, sequence_parallel in CASES[sizes]:
        call = f"differences({model!r}, {plan!r}, groups_of({tp}, {pp}), {sequence_parallel})"
        results = list(world.cell(call))
        compared = set().union(*results)
        weights = {name for name in compared if name.startswith("layers.")}
        assert len(weights) == 8 * (12 if model == "gpt-2" else 6)
        assert {"loss", "norm", "embedding.word_embeddings.weight"} <= compared
        wrong = {n: e for errors in results for n, e in errors.items() if not e < TOLERANCE}
        assert wrong == {}, (plan, model, sequence_parallel)


# ---- one seed, whatever the layout


@pytest.mark.parametrize(("tp", "pp", "plan"), [(4, 2, "interleaved"), (2, 4, "zb-v")])
def test_dropout_of_what_ranks_hold_whole_is_that_of_one_process(world, tp, pp, plan):
    call = f"differences('gpt-2', {plan!r}, groups_of({tp}, {pp}), False, hidden_dropout=0.3)"
    for errors in world.cell(call):
        assert {name: e for name, e in errors.items() if not e < TOLERANCE} == {}


@pytest.mark.parametrize("sequence_parallel", [False, True])
def test_masks_are_the_same_where_ranks_hold_the_same(world, sequence_parallel):
    found = list(world.cell(f"dropped(groups_of(4, 1), {sequence_parallel})"))
    for name in ("embedding", "layer", "heads"):
        masks = [tuple(of_rank[name]) for of_rank in found]
        assert masks[:4] == masks[4:]  # the copies of the model, as in Megatron
        is_cut = sequence_parallel or name == "heads"
        assert len(set(masks[:4])) == (4 if is_cut else 1), name
        assert all(0.0 in mask for mask in masks)


def test_with_a_wrong_seed_copies_drift_apart(world):
    for sequence_parallel in (False, True):
        call = f"copies_apart(groups_of(2, 2), {sequence_parallel}, wrong_seed=False)"
        assert list(world.cell(call)) == [0.0] * 8
    assert min(world.cell("copies_apart(groups_of(2, 2), False, wrong_seed=True)")) > 1e-6


# ---- layouts that do not fit


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"num_heads": 6}, "hidden=64 cannot be cut into 6 heads; heads may be 1, 2, 4"),
        ({"num_kv_heads": 3}, "8 heads cannot share 3 KV heads evenly; num_kv_heads may be 1, 2"),
        ({"num_heads": 64, "positions": "rotary"}, "turn pairs; a head has 1 features"),
        ({"norm": "batch"}, "norm must be 'layer' or 'rms', got 'batch'"),
        ({"activation": "relu"}, "activation must be 'gelu' or 'swiglu', got 'relu'"),
        ({"hidden_dropout": 1.0}, "hidden_dropout must be a number ≥ 0 and < 1, got 1.0"),
        ({"vocab_size": 0}, "vocab_size must be a whole number ≥ 1, got 0"),
        ({"norm": []}, "norm must be 'layer' or 'rms', got []"),
        ({"tied": "no"}, "tied must be True or False, got 'no'"),
        ({"hidden_dropout": "0.1"}, "hidden_dropout must be a number ≥ 0 and < 1, got '0.1'"),
        ({"init_std": float("nan")}, "init_std must be a number ≥ 0 and < inf, got nan"),
        ({"seed": -1}, "seed must be a whole number ≥ 0, got -1"),
        ({"seed": 2**64}, "seed must be below 1,099,511,627,776, got 18,446,744,073,709,551,616"),
        ({"dtype": torch.int64}, "dtype must be a floating-point torch.dtype, got torch.int64"),
    ],
)
def test_a_config_that_does_not_fit_itself(options, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        GPTConfig(**options)


@pytest.mark.parametrize(
    ("options", "tp", "text"),
    [
        ({"num_heads": 4}, 8, "4 heads cannot be dealt evenly to tp=8; tp may be 1, 2 or 4"),
        ({"num_kv_heads": 2}, 4, "2 KV heads cannot be dealt evenly to tp=4; tp may be 1 or 2"),
        ({"ffn_hidden_size": 30}, 4, "30 features of the MLP cannot be dealt evenly to tp=4"),
    ],
)
def test_a_layout_that_does_not_divide_the_model(options, tp, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        GPTConfig(**options).check_tp(tp)


def test_stages_that_the_layers_do_not_fill():
    with pytest.raises(ValueError, match="8 layers cannot be dealt evenly to 3 stages; there may"):
        GPT(GPTConfig(), stage=0, of=3)
    with pytest.raises(ValueError, match=re.escape("stage must be 0 … 3, got 4")):
        GPT(GPTConfig(), stage=4, of=4)


def test_a_stage_says_what_does_not_fit_on_every_rank(world):
    caught = """
def caught(call):
    try:
        return call()
    except ValueError as error:
        return str(error)
"""
    world.cell(caught)
    call = "caught(lambda: parallel.gpt_stage({}, 0, 1, {}))"
    config = "parallel.GPTConfig(num_heads=4, hidden_size=32)"
    expected = "4 heads cannot be dealt evenly to tp=8; tp may be 1, 2 or 4"
    assert set(world.cell(call.format(config, "groups_of(8, 1)"))) == {expected}
    layout = "parallel.init(ParallelLayout(gpus_per_node=8, cp=2)).groups"
    expected = "each rank attends to the whole sequence: cp must be 1, got 2"
    assert set(world.cell(call.format(config, layout))) == {expected}
    # A word that only pads the vocabulary, on one rank of four.
    stage = (
        "parallel.gpt_stage(parallel.GPTConfig(num_layers=1, vocab_size=30), 0, 1, groups_of(4, 1))"
    )
    tokens = "torch.full((4, 2), 31 if rank == 1 else 29)"
    first, second = set(world.cell(f"caught(lambda: {stage}({tokens}).shape)"))
    whole, refused = sorted((first, second), key=lambda said: isinstance(said, str))
    assert whole == (4, 2, 8)
    assert "ranks 0, 2 and 3: 4×2 int64; rank 1: index 31 is none of the 30 words 0 … 29" in refused


GIVEN = {
    "parallel.GPT('small')": "a GPT is made of a GPTConfig, got 'small'",
    "parallel.GPT(CONFIG, tp=0)": "tp must be a whole number ≥ 1, got 0",
    "parallel.GPT(CONFIG, stage='first')": "stage must be a whole number ≥ 0, got 'first'",
    "parallel.GPT(replace(CONFIG, hidden_dropout=0.1), device='cuda')": (
        "the streams of dropout are of the CPU's random numbers; on cuda a GPT has"
    ),
    "parallel.GPT(CONFIG)(torch.tensor([[5]]))": "index 5 is none of the 5 words 0 … 4",
    "parallel.GPT(CONFIG)(torch.tensor([[0]] * 33))": "32 tokens at most, got a sequence of 33",
    "parallel.GPT(CONFIG)(torch.tensor([0]))": "tokens are (sequence, batch), got 1",
    "parallel.gpt_stage(CONFIG, 0, 1, None)": "must be a dict of process groups, got NoneType",
    "parallel.gpt_stage(CONFIG, 0, 1, {'pp': 1})": "groups has no 'tp', only pp; parallel.init",
    "parallel.RNGStatesTracker(-1)": "seed must be a whole number ≥ 0, got -1",
    "parallel.RNGStatesTracker(1).fork('none').__enter__()": (
        "the streams are replicated and cut, got 'none'"
    ),
    "LOSS(LOGITS, torch.tensor([[-1], [-100], [3]]))": (
        "index -100 is none of the 4 words 0 … 3; a target that does not count is MASKED, -1"
    ),
    "LOSS(LOGITS, torch.tensor([[0], [4], [3]]))": "index 4 is none of the 4 words 0 … 3",
    "LOSS(LOGITS, torch.full((3, 1), -1))": "all 3 targets are masked: there is no loss",
    "LOSS(LOGITS, torch.zeros(3, 1))": "words are whole numbers (int64), got 3 float32",
    "LOSS(LOGITS, torch.tensor([0, 1, 2]))": "(s, b, V) go with targets (s, b), got 3×1×4 and 3",
    "LOSS(LOGITS, [0, 1, 2])": "logits and targets are tensors, got Tensor and list",
    "parallel.repeated_words(0)": "batch must be a whole number ≥ 1, got 0",
    "parallel.repeated_words(1, sequence=2)": "sequence must be a whole number ≥ 3, got 2",
    "parallel.sorted_words(1, words=1.5)": "words must be a whole number ≥ 1, got 1.5",
}


@pytest.mark.parametrize("call", GIVEN)
def test_what_cannot_be_used_is_named(call):
    names = {"CONFIG": GPTConfig(num_layers=1, vocab_size=5, vocab_multiple=8), "torch": torch}
    names |= {"LOSS": parallel.masked_cross_entropy, "LOGITS": torch.zeros(3, 1, 4)}
    with pytest.raises(ValueError, match=re.escape(GIVEN[call])):
        eval(call, names | {"parallel": parallel, "replace": replace})


def test_each_number_of_a_stream_is_drawn_once_wherever_blocks_lie():
    flat, nested = parallel.RNGStatesTracker(3), parallel.RNGStatesTracker(3)
    drawn = {"cut": [], "replicated": []}

    def draw(stream):
        drawn[stream].append(torch.rand(2))

    outside = torch.get_rng_state()
    with nested.fork("cut"):
        draw("cut")
        with nested.fork("cut"):
            draw("cut")
        with nested.fork("replicated"):
            draw("replicated")
            with nested.fork("cut"):
                draw("cut")
            draw("replicated")
        draw("cut")
    assert torch.equal(torch.get_rng_state(), outside)
    for stream, numbers in drawn.items():
        with flat.fork(stream):
            assert torch.equal(torch.cat(numbers), torch.cat([torch.rand(2) for _ in numbers]))


def test_a_model_on_a_device_is_tied_there_and_begins_as_on_the_cpu():
    here, shapes = (GPT(GPTConfig(num_layers=1), device=device) for device in ("cpu", "meta"))
    assert here.state_dict().keys() == shapes.state_dict().keys()
    assert {parameter.device.type for parameter in shapes.parameters()} == {"meta"}
    for model in (here, shapes):
        tied = model.output.output_layer.weight
        assert tied is model.embedding.word_embeddings.weight
        assert len(list(model.parameters())) == 1 + 1 + 12 + 2  # words, places, a layer, a norm
    assert all(map(torch.equal, here.parameters(), GPT(GPTConfig(num_layers=1)).parameters()))


# ---- new weights


def test_every_matrix_begins_with_numbers_of_its_own():
    model = GPT(GPTConfig(num_layers=4, tied=False))
    matrices = {name: p for name, p in model.named_parameters() if p.ndim == 2}
    assert len({p.flatten()[0].item() for p in matrices.values()}) == len(matrices) == 4 * 4 + 3
    for name, matrix in matrices.items():
        before_sum = name.endswith(("linear_proj.weight", "linear_fc2.weight"))
        expected = 0.02 / 8**0.5 if before_sum else 0.02  # of 2 sums in each of 4 layers
        assert matrix.std().item() == pytest.approx(expected, rel=0.1), name
    for name, p in model.named_parameters():
        if p.ndim == 1:
            assert set(p.tolist()) == {0.0 if name.endswith("bias") else 1.0}, name


def test_a_seed_and_a_padding_change_what_they_say():
    def words(**options):
        return next(GPT(GPTConfig(vocab_size=30, **options)).parameters())

    assert not words().equal(words(seed=1))
    assert words(vocab_multiple=8).shape[0] == 32
    assert words(vocab_multiple=8)[:30].equal(words())
    assert words(vocab_multiple=8)[30:].count_nonzero() == 0


def test_making_a_model_imports_nothing_more_and_leaves_random_numbers_alone():
    program = """
import sys, torch
from mpviz.parallel import GPT, GPTConfig
state, before = torch.get_rng_state(), set(sys.modules)
GPT(GPTConfig(num_layers=1, dtype=torch.float64))
assert torch.equal(torch.get_rng_state(), state)
print(*sorted(set(sys.modules) - before))
"""
    made = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (made.returncode, made.stdout.strip()) == (0, ""), made.stdout[:300] + made.stderr
