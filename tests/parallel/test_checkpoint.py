"""Checkpoints: saved at one layout and loaded at another, bit for bit; refused, or killed."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from parallel.gpt_ranks import config_of
from parallel.killed_saves import ONCE_NAMED, steps_left

from mpviz import ParallelLayout, parallel
from mpviz.parallel import checkpoint
from mpviz.world import World

PROGRAM = (Path(__file__).parent / "checkpoint_ranks.py").read_text()
TOLERANCE = 1e-12  # of losses, in float64: other layouts add in another order


@pytest.fixture(scope="module")
def world():
    with World(ParallelLayout(gpus_per_node=8, tp=2, pp=4), timeout=60) as world:
        world.cell(PROGRAM)
        yield world


# Model; optimizer, plan, tp and pp before and after; dp is what is left of 8 ranks.
PAIRS = [
    ("gpt-2", ("plain", "1f1b", 2, 4), ("plain", "1f1b", 4, 2)),
    ("gpt-2", ("zero 1", "1f1b", 2, 2), ("plain", "gpipe", 1, 8)),
    ("gpt-2", ("plain", "zb-v", 1, 2), ("zero 2", "1f1b", 1, 2)),
    ("llama, tied", ("plain", "interleaved", 4, 2), ("plain", "zb-v", 2, 2)),
    ("llama, tied", ("zero 2", "1f1b", 2, 2), ("fully_shard", "1f1b", 2, 1)),
    ("llama", ("plain", "1f1b", 2, 4), ("zero 0", "zb-h1", 4, 1)),
    ("llama", ("fully_shard", "1f1b", 4, 1), ("zero 1", "1f1b", 1, 4)),
]


@pytest.mark.parametrize(("model", "first", "second"), PAIRS)
def test_another_layout_holds_the_same_bits_and_goes_on(world, tmp_path, model, first, second):
    layers = {"num_layers": 8 if 8 in (*first, *second) else 4}
    folder, whole = str(tmp_path / "saved"), str(tmp_path / "whole.pt")
    world.cell(f"saved({folder!r}, *{(first[0], model, *first[1:])}, **{layers})")
    plain = parallel.GPT(config_of(model, seed=6, **layers))
    adam = parallel.Adam(plain.parameters())
    assert checkpoint.load(folder, plain, adam) == 1
    named_ones = dict(plain.named_parameters(remove_duplicate=False))
    state = {name: adam.state[p] for name, p in named_ones.items()}
    done = {name: adam.steps[p] for name, p in named_ones.items()}
    torch.save(({n: p.detach() for n, p in named_ones.items()}, state, done), whole)
    call = f"loaded({folder!r}, *{(second[0], model, *second[1:], whole)}, **{layers})"
    found = world.cell(call)
    for step, wrong, losses in found:
        assert (step, wrong) == (1, ([], []))
        if first[2] * first[3] == second[2] * second[3]:  # the same dp, and so the same batch
            assert losses[1] == pytest.approx(losses[0], abs=TOLERANCE, rel=0)


# ---- what is refused


@pytest.fixture(scope="module")
def good(world, tmp_path_factory):
    """A folder with a checkpoint of step 3, which nothing here may change."""
    folder = tmp_path_factory.mktemp("good")
    world.cell(f"checkpoint.save({str(folder)!r}, *small(groups), step=3)")
    return folder


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


SPOILT = {
    "not_a_number": "rank 3: model.layers.2.input_layernorm.weight is not finite; nothing was",
    "on(5, step=8)": "the ranks of one group must agree, but ranks 0, 1, 2, 3, 4, 6 and 7: save",
    "on(5, folder='/proc/elsewhere')": "; rank 5: save /proc/elsewhere/step-9 with an optim",
    "lambda stages: {'step': -1}": "step must be a whole number ≥ 0, got -1",
    "lambda stages: {'stages': {}}": "a checkpoint is of stages of a GPT; got none",
    "lambda stages: {'folder': '/dev/null/x'}": "rank 0: NotADirectoryError",
    "without_the_last": "no rank has saved layers.6, layers.7 and output: save all stages",
    "no_room": "the checkpoint could not be written on rank 2: ",
    "interrupted": "interrupted",
}


@pytest.mark.parametrize("spoil", SPOILT)
def test_a_save_that_is_refused_leaves_the_last_checkpoint(world, good, spoil):
    before = contents(good)
    for text in world.cell(f"save_spoilt({str(good)!r}, groups, {spoil})"):
        assert SPOILT[spoil] in text
    assert contents(good) == before


def remove_a_file(folder):
    (folder / "step-3" / "__2_0.distcp").unlink()


def cut_a_file_off(folder):
    path = folder / "step-3" / "__2_0.distcp"
    path.write_bytes(path.read_bytes()[:1000])


def cut_the_metadata_off(folder):
    path = folder / "step-3" / ".metadata"
    path.write_bytes(path.read_bytes()[:1000])


def cut_the_name_off(folder):
    path = folder / checkpoint.NAME
    path.write_text(path.read_text()[:40])


def overwrite_the_middle(folder):
    path = folder / "step-3" / "__2_0.distcp"
    path.write_bytes(b"x" * path.stat().st_size)


def other_fields(folder):
    path = folder / checkpoint.NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | {"config": {"dtype": "float64"}}))


BROKEN = {
    remove_a_file: "__2_0.distcp is missing, one of 8 files",
    cut_a_file_off: "__2_0.distcp is cut off: it has 1,000 of",
    cut_the_metadata_off: ".metadata cannot be read",
    cut_the_name_off: "checkpoint.json is not what save writes",
    overwrite_the_middle: "the checkpoint could not be read on rank ",
    shutil.rmtree: "holds no checkpoint: there is no checkpoint.json in it",
    other_fields: "is of another model: hidden_size=64 in the checkpoint, 32 in this model;",
}


@pytest.mark.parametrize("spoil", BROKEN, ids=lambda spoil: spoil.__name__)
def test_a_broken_checkpoint_is_refused_by_every_rank(world, good, tmp_path, spoil):
    folder = tmp_path / "broken"
    shutil.copytree(good, folder)
    spoil(folder)
    for text, unchanged in world.cell(f"load_into({str(folder)!r}, groups)"):
        assert BROKEN[spoil] in text
        assert unchanged or spoil is overwrite_the_middle


def test_a_checkpoint_of_another_model_or_folder_is_refused(world, good, tmp_path):
    shutil.copytree(good, tmp_path / "copy")
    other = f"{str(tmp_path / 'copy')!r} if rank == 6 else {str(good)!r}"
    found = {
        f"load_into({other}, groups)": "but ranks 0, 1, 2, 3, 4, 5 and 7: load",
        f"load_into({str(good)!r}, groups, num_kv_heads=4, tied=False)": (
            "is of another model: num_kv_heads=8 in the checkpoint, 4 in this model; "
            "tied=True in the checkpoint, False in this model"
        ),
        f"load_into({str(good)!r}, groups, sequence=16 - rank // 7)": "rank 7: the checkpoint is",
    }
    for call, words in found.items():
        for text, unchanged in world.cell(call):
            assert words in text and unchanged
    model = parallel.GPT(checkpoint.read(good).config)
    with pytest.raises(ValueError, match="holds no state of an optimizer"):
        checkpoint.save(tmp_path / "weights", model)
        checkpoint.load(tmp_path / "weights", model, parallel.Adam(model.parameters()))


def test_dropout_goes_on_where_it_was(world, tmp_path):
    name = str(tmp_path / "saved")
    before = list(world.cell(f"save_between_masks({name!r}, groups_of(2, 2))"))
    for rank, (masks, new) in enumerate(world.cell(f"next_masks({name!r}, groups_of(2, 2))")):
        assert masks == before[rank]
        assert masks["cut"] != new["cut"] and masks["replicated"] != new["replicated"]
    for masks, new in world.cell(f"next_masks({name!r}, groups_of(4, 1))"):
        assert masks["replicated"] == before[0]["replicated"]
        assert masks["cut"] == new["cut"]


def test_torchs_own_adam_goes_on_too(tmp_path):
    config = parallel.GPTConfig(num_layers=1, hidden_size=8, num_heads=2)
    losses = []
    model, other = parallel.GPT(config), parallel.GPT(config)
    first = torch.optim.Adam(model.parameters(), lr=0.1)
    second = parallel.Adam(other.parameters(), lr=0.1)
    for step in range(4):
        if step == 2:
            checkpoint.save(tmp_path, model, first, step=step)
            assert checkpoint.load(tmp_path, other, second) == 2
        for one, optimizer in ((model, first), (other, second))[: 1 + (step >= 2)]:
            tokens, targets = parallel.repeated_words(2, sequence=12, seed=step)
            optimizer.zero_grad()
            loss = parallel.masked_cross_entropy(one(tokens), targets)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert losses[2::2] == pytest.approx(losses[3::2], rel=1e-5)  # float32
    assert len(set(losses[::2])) == 3


# ---- killed


def test_a_save_that_is_killed_leaves_the_last_checkpoint(tmp_path):
    kills = [(0, number) for number in range(1, 13)] + [(1, number) for number in range(1, 9)]
    assert steps_left(tmp_path / "before", kills) == [1] * 20
    assert steps_left(tmp_path / "after", [(0, ONCE_NAMED)]) == [2]
