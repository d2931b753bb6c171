"""A collective as a picture: what its arrows, cells and words say."""

import pytest

from mpviz import draw, schedule
from mpviz.draw.canvas.scene import Box, Curve, Label
from mpviz.draw.canvas.theme import edge, fill


def rows(plan, step, **options):
    return draw.collective(plan, step, **options).text.splitlines()


def test_the_ring_in_words():
    plan = schedule.collective("all_reduce", 4)
    assert rows(plan, 1, size=6_400) == [
        "all-reduce of 4 ranks, ring: after step 1 of 6",
        "        chunk 0  chunk 1  chunk 2  chunk 3  added in this step  sent so far",
        "rank 0  0        0        0        0+3 ←    chunk 0 to rank 1   1600 B",
        "rank 1  0+1 ←    1        1        1        chunk 1 to rank 2   1600 B",
        "rank 2  2        1+2 ←    2        2        chunk 2 to rank 3   1600 B",
        "rank 3  3        3        2+3 ←    3        chunk 3 to rank 0   1600 B",
        "0+1: the sum of what ranks 0 and 1 brought · ←: received in this step",
    ]
    assert rows(plan, 4)[1].split("  ")[-2].strip() == "copied in this step"


def test_an_all_to_all_has_what_is_for_whom_and_from_whom():
    head, *ranks = rows(schedule.collective("all_to_all", 2), 1)[1:4]
    assert head.split("  ")[4:8] == ["for rank 0", "for rank 1", "from rank 0", "from rank 1"]
    assert ranks == [
        "rank 0  0→0         0→1         0→0          1→0 ←        to rank 1            1/2 tensor",
        "rank 1  1→0         1→1         0→1 ←        1→1          to rank 0            1/2 tensor",
    ]


def test_without_a_step_the_last_is_drawn():
    plan = schedule.collective("all_gather", 4)
    assert draw.collective(plan).text == draw.collective(plan, 3).text


@pytest.mark.parametrize("name", schedule.ALGORITHMS)
def test_one_rank_has_nothing_to_send(name):
    said = rows(schedule.collective(name, 1), 0)
    assert said[0].endswith("1 rank, ring: nothing to send") or name == "all_to_all"
    assert said[2].split()[-1] == "0"


@pytest.mark.parametrize("step", range(7))
def test_colours_and_borders_say_the_same_as_the_data(step):
    plan = schedule.collective("all_reduce", 4)
    boxes = draw.collective(plan, step).scene.of(Box)
    cells = [box for box in boxes if box.rank is not None]
    held, thick = plan.held(step), set()
    for number, cell in enumerate(cells):
        rank, chunk = divmod(number, 4)
        assert cell.rank == rank
        inside = [
            b
            for b in boxes
            if b is not cell
            and cell.x <= b.x < cell.x + cell.width
            and cell.y <= b.y < cell.y + cell.height
        ]
        assert [box.face for box in inside] == [fill(origin) for origin in held[rank][chunk]]
        if cell.line > 1:
            thick.add((rank, chunk))
    sends = plan.steps[step - 1] if step else ()
    assert thick == {(send.receiver, chunk) for send in sends for chunk in send.chunks}


@pytest.mark.parametrize(("name", "algorithm"), [("all_reduce", "ring"), ("broadcast", "tree")])
def test_an_arrow_for_each_message_ends_at_its_receiver(name, algorithm):
    plan = schedule.collective(name, 8, algorithm)
    for step, sends in enumerate(plan.steps, 1):
        scene = draw.collective(plan, step).scene
        height = {label.text: label.y for label in scene.of(Label) if label.bold}
        # Each arrow is an arc and two strokes of its head.
        arcs = scene.of(Curve)[::3]
        assert len(arcs) == len(sends) and len(scene.of(Curve)) == 3 * len(sends)
        for arc, send in zip(arcs, sends, strict=True):
            assert abs(arc.points[0][1] - height[f"rank {send.sender}"]) < 10
            assert abs(arc.points[-1][1] - height[f"rank {send.receiver}"]) < 10
            assert arc.color == edge(send.sender)


@pytest.mark.parametrize(
    ("ranks", "options", "said"),
    [
        (9, {}, "the chunks of 9 ranks cannot be read; at most 8 are drawn"),
        (4, {"step": 7}, "step must be 0 … 6, got 7"),
        (4, {"size": 10}, "10 bytes cannot be cut into 4 equal chunks; 8 or 12 can"),
    ],
)
def test_what_cannot_be_drawn_is_refused(ranks, options, said):
    with pytest.raises(ValueError, match=said):
        draw.collective(schedule.collective("all_reduce", ranks), **options)
