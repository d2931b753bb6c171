"""Numbers in the prose of lessons that none of their cells asserts."""

import re
from pathlib import Path

import nbformat
import pytest

from mpviz import ParallelLayout, cost, presets, schedule, shards
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


def test_the_network_beside_nvlink():
    network, nvlink = (link.bytes_per_second / 1e9 for link in (cost.NETWORK, cost.NVLINK))
    assert nvlink == 9 * network
    said = f"at {network:.0f} GB/s instead of NVLink's {nvlink:.0f}: nine times slower"
    assert said in prose("03")


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
    assert "four in *every layer*" in prose("03")


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
