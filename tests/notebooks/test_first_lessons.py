"""What lessons 00 and 01 say in prose is true, and 00 does not answer 01's exercises."""

import re
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest

from mpviz import ParallelLayout, draw, presets, shards

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
NUMBERS = sorted(path.name.partition("_")[0] for path in NOTEBOOKS.glob("*.ipynb"))
SLIDE = presets.SLIDE.layout


def cells(number):
    (path,) = NOTEBOOKS.glob(f"{number}_*.ipynb")
    return nbformat.read(path, as_version=4).cells


def prose(number):
    return "\n".join(cell.source for cell in cells(number) if cell.cell_type == "markdown")


def exercises_of(number):
    source = "\n".join(cell.source for cell in cells(number) if cell.cell_type == "code")
    return set(re.findall(r"exercises\.(\w+)\(answer\)", source))


def test_no_two_lessons_ask_the_same_exercise():
    asked = [name for number in NUMBERS for name in exercises_of(number)]
    assert len(asked) == len(set(asked))
    assert exercises_of("00") == {"gpus_with_star"}


def test_the_first_page_gives_the_minutes_of_each_lesson():
    listed = dict(re.findall(r"^\| \[(\d\d\w?) · .*\| (\d+) \|$", prose("00"), re.M))
    needed = {n: re.findall(r"You need:\*\* (\d+) min", prose(n)) for n in NUMBERS[1:]}
    assert {number: [minutes] for number, minutes in listed.items()} == needed


def test_no_exercise_of_lesson_01_is_answered_by_an_output_of_it():
    four_nodes = replace(SLIDE, nodes=4)
    answers = [four_nodes.groups("model")[1], four_nodes.groups("dp").of(13)]
    outputs = "\n".join(
        str(output.get("data", {}).get("text/plain", output.get("text", "")))
        for cell in cells("01")
        if cell.cell_type == "code"
        for output in cell.outputs
    )
    assert not [ranks for ranks in answers if " ".join(map(str, ranks)) in outputs]


def test_the_lecture_is_named():
    assert "Xianchao Wu's lecture *Model parallel in Megatron*" in prose("01")


def test_the_copies_at_each_cut():
    assert replace(SLIDE, pp=1).dp == 8 and "Eight. `tp 0` and `tp 1`" in prose("01")
    assert SLIDE.dp == 2 and "so there is room for two" in prose("01")
    assert replace(SLIDE, nodes=4).dp == 4 and "so four copies" in prose("01")


def test_every_change_of_the_symbols_is_announced_before_the_picture():
    # What ★ stands for: all, the upper half, the upper half of stage 0.
    assert "★ stands for the whole model" in prose("01")
    assert "★ is no longer the whole model, but its upper half; ⊕ is the lower half" in prose("01")
    assert "★ is now only the upper half of layers 1–4" in prose("01")
    held = shards.held_by(SLIDE, rank=0, num_layers=16)
    assert str(held) == "rank 0 holds ★₁: layers 1–4, part 1 of 2 of each matrix"
    halves = draw.pieces(ParallelLayout(nodes=2, tp=2), 16).text.splitlines()
    assert halves[1:3] == ["tp 0    ★", "tp 1    ⊕"]


def test_the_rectangle_is_drawn_before_its_grid():
    code = [cell.source for cell in cells("01") if cell.cell_type == "code"]
    kinds = [kind for cell in code for kind in re.findall(r"^draw\.(pieces|grid)\(", cell, re.M)]
    assert kinds[:4] == ["pieces", "grid", "pieces", "grid"]


def test_a_large_model_does_not_fit_uncut():
    assert 10e9 * 16 / 1e9 == 160 > 80
    assert "A common GPU has 80 GB" in prose("01") and "For 10 billion parameters" in prose("01")


def test_llama():
    llama = presets.LLAMA3_405B["8k"].layout
    assert (llama.tp, llama.pp, llama.dp) == (8, 16, 128)
    assert "8 × 16 = 128 pieces" in prose("01") and "128 as well." in prose("01")
    first = llama.groups("model")[0]
    assert first == tuple(range(128)) and set(first) == set(range(16 * llama.gpus_per_node))
    assert "Copy 1 is ranks 0–127, so it fills 16 nodes of its own" in prose("01")
    assert llama.order != SLIDE.order


@pytest.mark.parametrize("said", ["by 1/dp", "by dp × cp"])
def test_where_megatron_divides_is_said(said):
    distributed = pytest.importorskip("megatron.core.distributed.distributed_data_parallel")
    source = Path(distributed.__file__).read_text(encoding="utf-8")
    assert "gradient_scaling_factor = 1.0 / data_parallel_world_size" in source
    assert said in prose("01")
