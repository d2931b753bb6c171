"""Numbers in the prose of lessons that none of their cells asserts."""

import re
from pathlib import Path

import nbformat
import pytest
from measured_collectives import GIB, MIB, ROWS

from mpviz import GROUP_KINDS, ParallelLayout, cost, presets, schedule, shards
from mpviz.timeline import simulate

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def prose(number):
    (path,) = NOTEBOOKS.glob(f"{number}_*.ipynb")
    cells = nbformat.read(path, as_version=4).cells
    return "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def ends(timeline):
    """For each rank, when it begins and when it is done."""
    times = [[event for event in timeline.work if event.rank == r] for r in range(timeline.pp)]
    return [(mine[0].start, max(event.end for event in mine)) for mine in times]


def test_copies_follow_from_the_pieces():
    copies = {tp: ParallelLayout(nodes=2, tp=tp, pp=4).dp for tp in (2, 4, 1)}
    assert copies == {2: 2, 4: 1, 1: 4}
    assert "cut into tp 2 × pp 4 = 8 pieces" in prose("03")
    assert "With tp 4 there is one copy" in prose("03") and "With tp 1 there are four." in prose(
        "03"
    )


def gigabytes_per_second(link):
    return link.bytes_per_second / 1e9, link.reached / 1e9


def test_the_network_beside_nvlink():
    (sheet, reached), (port, of_port) = map(gigabytes_per_second, (cost.NVLINK, cost.NETWORK))
    assert (sheet, port) == (450, 50) and sheet == 9 * port
    assert "450 GB/s from each GPU in each direction" in prose("02")
    assert "a network port of 50 GB/s, a ninth of that" in prose("02")
    assert (round(8 * of_port), round(reached, 1)) == (368, 364.5)
    assert "as fast as NVLink: 368 GB/s reached, against 365." in prose("02")
    assert f"reaches {of_port:.0f} GB/s, an eighth of NVLink's {reached + 0.1:.0f}" in prose("03")


def test_a_gigabyte_is_nearly_free_and_two_megabytes_are_not():
    large, small = (
        [cost.all_reduce_seconds(size, 8 * nodes, nodes) for nodes in (1, 2, 4)]
        for size in (1e9, 2e6)
    )
    assert f"over two nodes it takes {100 * (large[1] / large[0] - 1):.0f} % longer" in prose("02")
    two, four = (small[i] / small[0] for i in (1, 2))
    said = f"2 MB take {two:.1f} times as long over two nodes, and {four:.1f} times over four"
    assert said in prose("02")


def test_what_is_said_of_the_errors_of_the_cost_model():
    def errors(chosen):
        return [row.error for row in ROWS if chosen(row)]

    assert f"beside {len(ROWS)} measured times" in prose("02")
    large = errors(lambda row: row.size >= GIB and not row.why)
    assert max(map(abs, large)) < 6 and "within 6 % from 1 GB on" in prose("02")
    helped = errors(lambda row: "SHARP" in row.why)
    # The model takes a third more; what is measured, up to a quarter less.
    assert max(100 - 100 / (1 + error / 100) for error in helped) < 25
    assert {row.nodes for row in ROWS if "SHARP" in row.why} == {1, 2}
    assert "on one or two nodes NCCL then takes up to a quarter less" in prose("02")
    assert round(min(errors(lambda row: row.size == 16 * MIB))) == -40
    assert "at 16 MB up to 40 % too fast" in prose("02")
    small = errors(lambda row: row.size == 2 * MIB and row.gpu != "A100")
    assert round(max(map(abs, small))) == 22 and "At 2 MB it is within 22 %" in prose("02")
    assert all(80 < error < 105 for error in errors(lambda row: row.size < MIB))
    assert "far below 1 MB it takes about twice the measured time" in prose("02")


def test_tokens_per_second_with_tp_8_and_16():
    # Hugging Face 2025, The Ultra-Scale Playbook: tokens per second and GPU, measured.
    inside, across = 10_903, 6_246
    said = f"a GPU trained {100 - 100 * across / inside:.0f} % fewer tokens a second with tp 16"
    assert said in prose("02")


def test_kinds_of_groups_are_eleven_and_five():
    expert = {kind for kind in GROUP_KINDS if {"ep", "etp", "edp"} & set(kind.split("-"))}
    assert (len(GROUP_KINDS) - len(expert), len(expert)) == (11, 5)
    assert "eleven kinds that every model needs; five more" in prose("02")


def test_with_context_parallelism_copies_are_those_of_dp():
    long = ParallelLayout(nodes=1, gpus_per_node=8, tp=2, cp=2)
    assert (long.dp, long.groups("dp-cp").size) == (2, 4)
    said = "With cp 2 and dp 2 there are two copies, model₁ and model₂, and four GPUs hold each"
    assert said in prose("02")


def test_bytes_of_a_step_on_the_slide():
    tp, dp, pp = cost.traffic(presets.SLIDE.layout, presets.EXAMPLE).values()
    said = (
        f"in a step tp sends {tp.bytes / pp.bytes:.0f} times as much as pp, and "
        f"{tp.bytes / dp.bytes:.0f} times as much as dp, and takes twice as long as both together"
    )
    assert said in prose("03")
    assert 2 < tp.seconds / (dp.seconds + pp.seconds) < 2.2
    along = {"tp": cost.all_reduce_seconds(1e9, 2), "pp": cost.message_seconds(1e9, cost.NETWORK)}
    assert max(along, key=along.get) == "pp"
    assert "A single gigabyte takes longest along pp" in prose("03")


def test_gradients_of_a_whole_model_on_four_nodes():
    times = [8 / tp * cost.all_reduce_seconds(1e9, 32 // tp, 4) for tp in (8, 1)]
    assert 1.3 < times[1] / times[0] < 1.36 and "take a third more time" in prose("03")
    parts = cost.traffic(ParallelLayout(nodes=4, tp=8), presets.EXAMPLE)
    assert round(parts["tp"].bytes / 1e12, 1) == 1.1
    said = f"1.1 TB a step, {parts['tp'].bytes / parts['dp'].bytes:.0f} times those of dp"
    assert said in prose("03")


def test_nodes_of_72_gpus_are_those_of_a_gb200():
    gpus, h100 = cost.MACHINES["GB200"], cost.MACHINES["H100"]
    assert gpus.inside.bytes_per_second == 2 * h100.inside.bytes_per_second == 900e9
    assert cost.machine_for("H100", 72) is gpus
    said = "A GB200 NVL72 joins 72 GPUs by NVLink, at 900 GB/s in each direction, twice an H100's"
    assert said in prose("03")


def test_heads_of_llama_3():
    model = presets.LLAMA3_405B["8k"].model
    assert f"Llama 3 405B has {model.heads} heads, but only {model.kv_heads} KV heads" in prose(
        "03"
    )


def test_the_groups_that_all_cross():
    layouts = [ParallelLayout(nodes=4, tp=tp) for tp in (8, 4, 2, 1)]
    assert all(len(layout.crossings("dp")) == len(layout.groups("dp")) for layout in layouts)
    said = f"grow from {layouts[0].dp} GPUs to {layouts[-1].dp}, and all still cross"
    assert said in prose("03")


def test_one_group_of_nine_is_on_two_nodes():
    wide = ParallelLayout(nodes=2, gpus_per_node=72, tp=16)
    (crossing,) = wide.crossings("tp")
    assert len(wide.groups("tp")) == 9
    said = f"one group of nine is dashed: GPUs {crossing[0]}–{crossing[-1]} lie on both nodes"
    assert said in prose("03")


def test_the_largest_run_of_megatron():
    layout = presets.MEGATRON_TABLE_1["1008.0B"].layout
    said = f"Its {layout.world_size:,} GPUs hold only {layout.dp} copies."
    assert said in prose("03")
    assert f"where are its {layout.pp - 1} other stages" in prose("03")


def test_all_reduces_of_a_layer():
    blocks = (shards.attention(4, 8, heads=4, tp=2), shards.mlp(4, 8, 32, tp=2))
    assert sum(len(block.forward) + len(block.backward) for block in blocks) == 4
    assert "four all-reduces in every layer" in prose("02")
    assert "*four times in every layer*" in prose("02")


def test_the_last_rank_starts_late_and_is_done_early():
    for microbatches in (1, 8, 20):
        timeline = simulate(schedule.gpipe(pp=4, microbatches=microbatches), {"F": 1, "B": 2})
        start, end = ends(timeline)[3]
        assert (start, timeline.makespan - end) == (3 * 1, 3 * 2)
    assert "p − 1 = 3 forwards late, and at the end is done 3 backwards early" in prose("06")


def test_what_is_left_of_the_bubble_of_zb_v_lies_at_its_ends():
    thirds = {"F": 0.5, "I": 0.5, "W": 0.5}
    timeline = simulate(schedule.zero_bubble_v(pp=4, microbatches=8), thirds)
    assert [end - start for start, end in ends(timeline)] == [24.0] * 4 == list(timeline.busy)
    assert ends(timeline)[3][0] == timeline.makespan - ends(timeline)[0][1] == 1.5
    assert "rank 3 begins 1.5 s late, and rank 0 ends 1.5 s early" in prose("06")


@pytest.mark.parametrize(
    ("lesson", "section", "about"),
    [
        ("05", 4, "Backward: what f and g do"),  # named below the first picture
        ("05", 6, "Same bytes, less memory"),  # named beside --sequence-parallel
        ("06", 3, "1F1B"),  # whose plan is measured
        ("06", 6, "Zero bubble"),  # named by the check of exercise 2
    ],
)
def test_a_section_that_is_named_is_the_one_meant(lesson, section, about):
    headings = dict(re.findall(r"^## (\d) · (.*)$", prose(lesson), re.MULTILINE))
    assert about in headings[str(section)]


@pytest.mark.parametrize("lesson", ["03", "05"])
def test_a_lesson_has_four_to_seven_rounds(lesson):
    rounds = re.findall(r"^## (\d) ·", prose(lesson), re.MULTILINE)
    assert [int(number) for number in rounds] == [*range(1, len(rounds) + 1)]
    assert 4 <= len(rounds) <= 7
