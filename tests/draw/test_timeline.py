"""The chart of a pipeline shows each action where and when it is, and its text says the same."""

import io
import re
from dataclasses import replace
from itertools import groupby, pairwise
from math import dist

import numpy as np
import pytest
from draw.pipelines import (
    HALVES,
    PIPELINES,
    WHOLE,
    interleaved,
    measured,
    one_f_one_b,
    plans,
    timelines,
)
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

from mpviz import draw, schedule
from mpviz.draw.canvas.glyphs import box_of
from mpviz.draw.canvas.scene import Box, Curve, Label, Raster
from mpviz.draw.canvas.theme import INK, SMALL, fill
from mpviz.draw.gantt import pixels
from mpviz.draw.gantt.action_table import KIND_ORDER, ActionTable
from mpviz.draw.gantt.axis import Axis, RankRows
from mpviz.draw.gantt.boxes import boxes, bricks
from mpviz.draw.gantt.frame import Frame, lettered
from mpviz.draw.gantt.style import ACTIVATION_FACE, BUBBLE, Style
from mpviz.timeline import Event, Timeline, simulate

AXIS = Axis(33.0, 40.0, 600.0)
ROOMY = Frame(AXIS, RankRows(4, 30.0, fine=False), Style(1, lettered=True))


def bars(timeline: Timeline, axis: Axis = AXIS, style: Style | None = None) -> list[Box]:
    """The box of each action, in the order of `ActionTable`."""
    table = ActionTable.of(timeline)
    rows = RankRows(table.pp, 30.0, fine=False)
    drawn = boxes(table, Frame(axis, rows, style or Style(table.chunks, lettered=True)), None)
    return [item for item in drawn if isinstance(item, Box) and item.face != BUBBLE]


def line_of(picture: draw.Picture, rank: int) -> list[str]:
    found = re.search(rf"^rank {rank} +(.*)$", picture.text, re.MULTILINE)
    return re.split(r" +", found[1])


# ---- where and when


@given(timelines())
def test_a_box_begins_and_lasts_as_its_action_in_one_scale_for_all_ranks(timeline):
    table = ActionTable.of(timeline)
    axis = Axis(table.seconds, 40.0, 600.0)
    drawn = bars(timeline, axis)
    assert len(drawn) == len(timeline.work)
    first = timeline.work[0].start
    ordered = sorted(timeline.work, key=lambda event: (event.start, event.end))
    scale = 600 / timeline.makespan
    for event, box in zip(ordered, drawn, strict=True):
        # Points; what differs is the rounding of a few sums.
        assert box.x == pytest.approx(40 + (event.start - first) * scale, abs=1e-6)
        assert box.width == pytest.approx(event.duration * scale, abs=1e-6)
        assert box.y // 30 == event.rank


@given(timelines())
def test_boxes_of_a_rank_do_not_overlap(timeline):
    table = ActionTable.of(timeline)
    drawn = bars(timeline, Axis(table.seconds, 40.0, 600.0))
    by_rank = sorted(drawn, key=lambda box: (box.y, box.x, box.width))
    for one, other in pairwise(by_rank):
        if one.y == other.y:
            assert one.x + one.width <= other.x + 1e-6


def test_the_bubble_is_what_no_box_covers():
    timeline = one_f_one_b(4, 8)
    tracks = [
        box
        for box in boxes(ActionTable.of(timeline), ROOMY, None)
        if isinstance(box, Box) and box.face == BUBBLE
    ]
    assert [(track.x, track.width) for track in tracks] == [(40.0, 600.0)] * 4
    covered = sum(box.width for box in bars(timeline))
    assert 1 - covered / sum(track.width for track in tracks) == pytest.approx(3 / 11)


def test_a_line_stands_wherever_a_rank_waits_for_a_message():
    timeline = one_f_one_b(4, 8, link=0.5)
    axis = Axis(timeline.makespan, 40.0, 600.0)
    drawn = boxes(ActionTable.of(timeline), replace(ROOMY, axis=axis), None)
    lines = {
        (item.points[0][0], item.points[-1][0], item.points[0][1] // 30)
        for item in drawn
        if isinstance(item, Curve)
    }
    waits = [event for event in timeline.events if event.name == "recv"]
    assert waits and lines == {(axis.x(e.start), axis.x(e.end), e.rank) for e in waits}


def test_waits_before_the_first_action_do_not_stick_out():
    """A measured rank waits from the moment its clock starts."""
    early = Event(1, "recv", 8.0, 10.2, (0, 1), peer=0, stage=1, microbatch=0)
    late = Event(1, "recv", 99.0, 100.0, (0, 1), peer=0, stage=1, microbatch=0)
    timeline = measured(one_f_one_b(2, 2))
    picture = draw.timeline(Timeline([*timeline.events, early, late]))
    track = next(box for box in picture.scene.of(Box) if box.face == BUBBLE)
    xs = [x for curve in picture.scene.of(Curve) for x, _ in curve.points]
    assert min(xs) >= track.x and max(xs) <= track.x + track.width + 1e-6


# ---- how it looks


@pytest.mark.parametrize("name", ["1F1B", "ZB-H1", "measured"])
def test_each_kind_has_one_colour_of_its_own(name):
    timeline = PIPELINES[name]()
    table = ActionTable.of(timeline)
    faces = {}
    for kind, box in zip(table.kind.tolist(), bars(timeline), strict=True):
        faces.setdefault(kind, set()).add(box.face)
    assert all(len(found) == 1 for found in faces.values())
    assert len(set.union(*faces.values())) == len(faces)


@pytest.mark.parametrize("name", ["interleaved, 4 chunks", "ZB-V"])
def test_tints_tell_the_stages_of_a_rank_apart(name):
    table = ActionTable.of(PIPELINES[name]())
    drawn = bars(PIPELINES[name]())
    tints = {}
    for rank, stage, kind, box in zip(table.rank, table.stage, table.kind, drawn, strict=True):
        tints.setdefault((rank, kind), {}).setdefault(stage, set()).add(box.face)
    for of_stage in tints.values():
        assert all(len(found) == 1 for found in of_stage.values())
        assert len(set.union(*of_stage.values())) == table.chunks


def test_chunks_are_counted_on_each_rank():
    table = ActionTable.of(PIPELINES["ZB-V"]())
    chunk_of = {(r, s): c for r, s, c in zip(table.rank, table.stage, table.chunk, strict=True)}
    assert chunk_of == {(r, s): c for r in range(4) for c, s in enumerate((r, 7 - r))}


def test_the_kind_is_told_without_colour():
    roomy, tight = draw.timeline(one_f_one_b(4, 8)), draw.timeline(one_f_one_b(8, 32))
    words = [label.text for label in roomy.scene.of(Label)]
    assert all(words.count(f"{kind}{m}") == 4 for kind in "FB" for m in range(8))
    assert not any(re.fullmatch(r"[FB]\d+", label.text) for label in tight.scene.of(Label))
    spans = {Style(1, lettered=False).span(kind) for kind in range(len(KIND_ORDER))}
    assert len(spans) == 4
    table, style = ActionTable.of(one_f_one_b(8, 32)), Style(1, lettered=False)
    for kind, box in zip(table.kind, bars(one_f_one_b(8, 32), style=style), strict=True):
        assert (box.y % 30 == 0) == (KIND_ORDER[kind] == "F")


def test_letters_stand_in_all_boxes_or_in_none():
    # Five letters of ten fit; a chart half with letters, half without would have to be guessed.
    assert lettered(ActionTable.of(one_f_one_b(4, 8)), Axis(33.0, 40.0, 600.0))
    assert not lettered(ActionTable.of(one_f_one_b(4, 8)), Axis(33.0, 40.0, 300.0))


@pytest.mark.parametrize("name", ["1F1B", "interleaved, 4 chunks", "narrow boxes", "measured"])
def test_the_number_in_a_box_is_its_microbatch(name):
    picture, table = draw.timeline(PIPELINES[name]()), ActionTable.of(PIPELINES[name]())
    drawn = [box for box in picture.scene.of(Box) if box.face != BUBBLE][: len(table.start)]
    labels, numbered = picture.scene.of(Label), 0
    for microbatch, box in zip(table.microbatch.tolist(), drawn, strict=True):
        middle = box.x + box.width / 2, box.y + box.height / 2
        inside = [each for each in labels if dist((each.x, each.y), middle) < 1e-6]
        assert [re.sub(r"\D", "", label.text) for label in inside] in ([], [str(microbatch)])
        assert all(label.size >= SMALL for label in inside)
        numbered += len(inside)
    assert numbered >= 64


# ---- activations


@given(timelines())
def test_bricks_are_as_many_as_activations_are_held(timeline):
    table, most = ActionTable.of(timeline), max(timeline.peak_in_flight)
    axis = Axis(table.seconds, 40.0, 600.0)
    # Rows so high that each activation has a brick of its own.
    rows = RankRows(table.pp, 20 + 2.5 * most, fine=False)
    frame = Frame(axis, rows, Style(table.chunks, lettered=True), most)
    thickness = (rows.pitch - rows.gap) / most
    lying = [item for item in bricks(table, frame) if isinstance(item, Box)]
    for rank, steps in enumerate(timeline.in_flight):
        mine = [box for box in lying if rank <= box.y / rows.pitch < rank + 1]
        held = sum(count * (later - since) for (since, count), (later, _) in pairwise(steps))
        assert sum(box.width for box in mine) / axis.scale == pytest.approx(held)
        floor = rank * rows.pitch + rows.pitch - rows.gap
        top = min((box.y for box in mine), default=floor)
        assert floor - top == pytest.approx(thickness * timeline.peak_in_flight[rank])


def test_bricks_stay_in_the_strip():
    scene = draw.timeline(one_f_one_b(4, 8)).scene
    ticks = max(label.y for label in scene.of(Label) if label.text == "20")
    assert min(box.y for box in scene.of(Box) if box.face == ACTIVATION_FACE) > ticks


@pytest.mark.parametrize("name", ["1F1B", "ZB-V", "narrow boxes", "pixels in 8 rows"])
def test_the_peak_of_each_rank_stands_beside_it(name):
    labels = draw.timeline(PIPELINES[name]()).scene.of(Label)
    rows = sorted((label for label in labels if label.text.startswith("rank ")), key=lambda x: x.y)
    said = {label.y: label.text for label in labels if label.text.startswith("peak ")}
    strip = rows[len(rows) // 2 :]
    peaks = PIPELINES[name]().peak_in_flight
    assert [said[row.y] for row in strip] == [f"peak {peak}" for peak in peaks]


def test_in_low_rows_a_brick_stands_for_several_and_says_so():
    words = [label.text for label in draw.timeline(one_f_one_b(16, 16)).scene.of(Label)]
    assert any(re.fullmatch(r"activations of \d+ microbatches", word) for word in words)


def test_two_strips_share_the_height_of_an_activation():
    gpipe = simulate(schedule.gpipe(pp=4, microbatches=8), WHOLE)
    named = {"GPipe": gpipe, "1F1B": one_f_one_b(4, 8)}
    both = draw.timelines(named, activations=True)
    # All but the legend's.
    bricks = [box for box in both.scene.of(Box) if box.face == ACTIVATION_FACE][:-1]
    assert len({round(brick.height, 6) for brick in bricks}) == 1
    assert not any(box.face == ACTIVATION_FACE for box in draw.timelines(named).scene.of(Box))


# ---- many


@pytest.mark.parametrize("name", ["pixels in 8 rows", "pixels in 64 rows", "measured"])
def test_each_pixel_has_the_colour_of_what_its_rank_does_then(name):
    timeline = PIPELINES[name]()
    table = ActionTable.of(timeline)
    axis, rows = Axis(table.seconds, 40.0, 600.0), RankRows(table.pp, 24.0, fine=True)
    style = Style(table.chunks, lettered=False, low=True)
    raster = pixels.bars(table, Frame(axis, rows, style))
    columns = raster.indices.shape[1]
    assert columns == 1600 and raster.width == pytest.approx(600)
    image = raster.indices.reshape(table.pp, -1, columns)
    chunk_of = {(r, s): c for r, s, c in zip(table.rank, table.stage, table.chunk, strict=True)}
    seen = set()
    for column in range(3, columns, 37):
        time = table.origin + (column + 0.5) / columns * table.seconds
        for rank, event in enumerate(timeline.at(time)):
            shown = raster.colors[image[rank, 5, column]]
            allowed = [BUBBLE]
            if event is not None:
                kind = KIND_ORDER.index(event.name)
                tint = style.tint(chunk_of[rank, event.stage])
                allowed = [style.face(kind, tint), style.edge(kind)]
            seen.add(event and event.name)
            assert shown in [tuple(round(255 * v) for v in color) for color in allowed]
    assert seen == {None, "F", "B"}


@pytest.mark.parametrize(("low", "height"), [(False, 24.0), (True, 3.0)])
def test_each_pixel_of_the_strip_tells_how_much_is_held(low, height):
    timeline = one_f_one_b(8, 32)
    table = ActionTable.of(timeline)
    rows = RankRows(8, height, fine=True)
    frame = Frame(Axis(table.seconds, 40.0, 600.0), rows, Style(1, False, low), most=8)
    raster = pixels.activations(table, frame)
    image = raster.indices.reshape(8, -1, 1600)
    for rank, steps in enumerate(timeline.in_flight):
        for column in range(0, 1600, 41):
            time = (column + 0.5) / 1600 * timeline.makespan
            held = ([0] + [count for since, count in steps if since <= time])[-1]
            shown = image[rank, :, column]
            if low:
                assert set(shown) == {shown[0]}
                assert (shown[0] == 1) == (held == 0)
                assert held == 0 or shown[0] - 1 == held  # eight shades for at most eight
            else:
                filled = 64 - 11  # pixels of a row without its gap
                assert abs((shown > 1).sum() - held / 8 * filled) <= 1


def test_the_png_of_a_large_pipeline_has_its_colours_where_the_scene_has_them():
    picture = draw.timeline(one_f_one_b(64, 64))
    seen = np.asarray(Image.open(io.BytesIO(picture.png())).convert("RGB")).astype(int)
    raster = picture.scene.of(Raster)[0]
    scale = seen.shape[1] / picture.scene.width
    for rank, time, color in (
        (0, 32, None),
        (0, 100, BUBBLE),
        (63, 380, BUBBLE),
        (40, 100, BUBBLE),
        (63, 60, BUBBLE),
    ):
        x = (raster.x + time / 381 * raster.width) * scale
        y = (raster.y + (rank + 0.5) / 64 * raster.height) * scale
        shown = seen[int(y), int(x)]
        is_bubble = np.abs(shown - np.array([255 * value for value in BUBBLE])).max() <= 4
        assert is_bubble == (color is BUBBLE), (rank, time)


# ---- a moment


@given(timelines(), st.integers(0, 1000))
def test_a_moment_names_what_each_rank_does_then(timeline, share):
    time = (share + 0.37) / 1001 * timeline.makespan
    origin = timeline.work[0].start
    # Just as an action begins, the clock and the time since its start are rounded differently.
    assume(all(abs(t - origin - time) > 1e-9 for e in timeline.work for t in (e.start, e.end)))
    picture = draw.timeline(timeline, at=time)
    rows = [box for box in picture.scene.of(Box) if box.face == BUBBLE]
    right = max(row.x + row.width for row in rows + picture.scene.of(Raster))
    words = [
        label.text
        for label in sorted(picture.scene.of(Label), key=lambda label: label.y)
        if label.bold and label.x > right and label.align == "left"
    ]
    last = [max(e.end for e in timeline.work if e.rank == r) for r in range(timeline.pp)]
    expected = []
    for rank in range(timeline.pp):
        doing = timeline.at(origin + time)[rank]
        if doing is None:
            expected.append("waits" if origin + time < last[rank] else "done")
        else:
            expected.append(doing)
    assert len(words) == timeline.pp
    for word, what in zip(words, expected, strict=True):
        if isinstance(what, Event):
            assert word.endswith(f"{what.name}{what.microbatch}")
            assert word.startswith((what.name, str(what.stage)))
        else:
            assert word == what


def test_a_moment_is_a_line_that_leaves_words_readable_and_outlines_what_is_under_way():
    picture = draw.timeline(one_f_one_b(4, 8), at=14.5)
    outlined = [box for box in picture.scene.of(Box) if box.edge == INK]
    assert len(outlined) == 4
    vertical = [c for c in picture.scene.of(Curve) if c.color == INK]
    (x,) = {x for curve in vertical for x, _ in curve.points}
    assert all(box.x <= x <= box.x + box.width for box in outlined)
    for label in picture.scene.of(Label):
        left, top, right, bottom = box_of(label)
        if left <= x <= right:
            ys = [sorted(y for _, y in curve.points) for curve in vertical]
            assert all(low >= bottom or high <= top for low, *_, high in ys), label


def test_of_many_ranks_a_moment_tells_how_many_do_what():
    text = draw.timeline(one_f_one_b(64, 64), at=300).text
    assert text.endswith("at 300 s: 27 B · 14 waits · 23 done")


# ---- one above the other


def test_time_lines_one_above_the_other_share_their_scale():
    slow, fast = one_f_one_b(4, 8), interleaved(4, 8, 2)
    fast = Timeline([e for e in fast.events if e.microbatch < 4], pp=4)
    scene = draw.timelines({"slow": slow, "fast": fast}).scene
    tracks = [box for box in scene.of(Box) if box.face == BUBBLE and box.height > 20]
    assert len({track.x for track in tracks}) == 1
    widths = sorted({round(track.width, 6) for track in tracks})
    times = sorted([slow.makespan, fast.makespan])
    assert widths[0] / widths[1] == pytest.approx(times[0] / times[1])
    ticks = [label for label in scene.of(Label) if label.text == "20"]
    assert len(ticks) == 2 and ticks[0].x == ticks[1].x


# ---- in characters


def test_a_pipeline_in_characters():
    assert draw.timeline(one_f_one_b(2, 3), title="1F1B").text.splitlines() == [
        "1F1B: 2 ranks, 3 microbatches",
        "12 s, bubble 25.0 %",
        "rank 0  F0 F1 ·  ·  B0 B0 F2 B1 B1 ·  B2 B2",
        "rank 1  ·  F0 B0 B0 F1 B1 B1 F2 B2 B2 ·  ·",
        "one column: 1 s · · is a bubble",
        "most activations held: 2 1",
    ]


@given(plans(most=4), st.booleans())
def test_each_line_states_its_rank_s_actions_in_order(plan, clocked):
    timeline = simulate(plan, WHOLE | HALVES)
    text = draw.timeline(measured(timeline) if clocked else timeline)
    for rank, actions in enumerate(plan.actions):
        words = [word for word, _ in groupby(line_of(text, rank)) if word != "·"]
        expected = [str(a) if plan.chunks > 1 else f"{a.kind}{a.microbatch}" for a in actions]
        if "…" not in words:
            assert words == expected
        else:
            before = words.index("…")
            assert words[:before] == expected[:before]
            assert words[before + 1 :] == expected[len(expected) - len(words) + before + 1 :]


def test_two_actions_swapped_change_picture_and_text():
    one = simulate(schedule.parse("0F0 0F1 0B0 0B1 \n 1F0 1F1 1B0 1B1"), WHOLE)
    other = simulate(schedule.parse("0F0 0F1 0B0 0B1 \n 1F0 1F1 1B1 1B0"), WHOLE)
    one, other = draw.timeline(one), draw.timeline(other)
    assert one.text != other.text and one.png() != other.png()


@pytest.mark.parametrize("at", [None, 1.0])
def test_measured_times_are_in_the_picture_and_not_in_its_text(at):
    runs = [draw.timeline(measured(one_f_one_b(4, 8), seed), at=at) for seed in (1, 2)]
    assert runs[0].text == runs[1].text
    assert runs[0].text.splitlines() == [
        "4 ranks, 8 microbatches",
        "rank 0  F0 F1 F2 F3 B0 F4 B1 F5 B2 F6 B3 F7 B4 B5 B6 B7",
        "rank 1  F0 F1 F2 B0 F3 B1 F4 B2 F5 B3 F6 B4 F7 B5 B6 B7",
        "rank 2  F0 F1 B0 F2 B1 F3 B2 F4 B3 F5 B4 F6 B5 F7 B6 B7",
        "rank 3  F0 B0 F1 B1 F2 B2 F3 B3 F4 B4 F5 B5 F6 B6 F7 B7",
        "most activations held: 4 3 2 1",
    ]
    results = [[x.text for x in run.scene.of(Label) if "bubble " in x.text] for run in runs]
    assert len(results[0]) == 1 and results[0] != results[1]


def test_what_is_simulated_from_measured_durations_has_no_times_in_its_text_either():
    texts = {
        draw.timeline(one_f_one_b(4, 8, {"F": f, "B": 2 * f})).text
        for f in (0.02134871, 0.01987312)
    }
    assert len(texts) == 1 and "s, bubble" not in texts.pop()


@pytest.mark.parametrize(
    ("durations", "link", "unit"),
    [
        (WHOLE, 0.0, 1.0),
        ({"F": 0.02, "B": 0.04}, 0.0, 0.02),
        (WHOLE, 0.5, 0.5),
        ({"F": 1, "B": 1.125}, 0.0, 0.125),
        ({"F": 2e-6, "B": 3e-6}, 0.0, 1e-6),
        ({"F": 0.1, "B": 0.3}, 0.0, 0.1),
        ({"F": 1 / 3, "B": 1}, 0.0, None),
        ({"F": 0.0213748, "B": 0.04}, 0.0, None),
    ],
)
def test_the_unit_of_time_is_what_all_times_are_multiples_of(durations, link, unit):
    found = ActionTable.of(one_f_one_b(4, 8, durations, link)).unit
    assert found == (unit if unit is None else pytest.approx(unit))


def test_a_large_pipeline_is_shortened():
    text = draw.timeline(one_f_one_b(64, 512)).text
    assert len(text.splitlines()) == 20 and "⋮" in text and "rank 63" in text
    assert max(map(len, text.splitlines())) < 400


# ---- what else a time line may be


def test_operations_of_a_recorded_run_read_as_before():
    ranks = (0, 1, 2)
    sent = [Event(r, "send", r, r + 1, ranks, 8, peer=r + 1) for r in (0, 1)]
    got = [Event(r, "recv", -r, r, ranks, 8, peer=r - 1) for r in (1, 2)]
    assert draw.timeline([*sent, *got]).text.splitlines() == [
        "4 operations on 3 ranks",
        "rank 0  send → 1",
        "rank 1  recv ← 0 · send → 2",
        "rank 2  recv ← 1",
    ]


def late_ring(barrier: bool) -> list[Event]:
    """Four ranks that start 3 ms apart; then 0.9 ms of messages from each to the next."""
    ranks, begin = (0, 1, 2, 3), 0.01034
    skew = [Event(r, "barrier", begin - 0.003 * r, begin, ranks) for r in ranks]
    sent = [
        Event(r, "send", begin + 3e-4 * r, begin + 3e-4 * (r + 1), ranks, 8, r + 1)
        for r in (0, 1, 2)
    ]
    return [*(skew if barrier else []), *sent]


def words_of(picture: draw.Picture) -> list[str]:
    return [label.text for label in picture.scene.of(Label)]


def test_ticks_of_a_recorded_run_are_round_and_begin_at_0():
    picture = draw.timeline(late_ring(barrier=False))
    ticks = [word for word in words_of(picture) if re.fullmatch(r"[\d.]+( µs| ms)?", word)]
    assert ticks == ["0", "100", "200", "300", "400", "500", "600", "700", "800", "900 µs"]


def test_how_long_ranks_wait_at_a_first_barrier_for_the_last_one_is_cut_off():
    picture = draw.timeline(late_ring(barrier=True))
    assert "time 0: the first rank leaves the barrier" in words_of(picture)
    assert words_of(picture).count("900 µs") == 1  # not the 9 ms that the ranks start apart
    alone = draw.timeline(late_ring(barrier=False))
    sends = [
        [(b.x, b.width) for b in each.scene.of(Box) if b.face == fill(0) and b.width > 10]
        for each in (picture, alone)
    ]
    assert len(sends[0]) == 3 and np.allclose(*sends)
    assert "rank 0  barrier · send → 1" in picture.text


def test_a_later_barrier_cuts_nothing_off():
    events = [*late_ring(barrier=False), Event(3, "barrier", 0.02, 0.03, (0, 1, 2, 3))]
    picture = draw.timeline(events)
    assert not any("time 0" in word for word in words_of(picture))
    assert "18 ms" in words_of(picture)


def test_events_of_a_pipeline_are_drawn_as_its_time_line():
    timeline = one_f_one_b(4, 8)
    assert draw.timeline(iter(timeline.events)).text == draw.timeline(timeline).text


ONE = one_f_one_b(2, 2)
NOTHING = Event(0, "F", 0.0, 0.0, stage=0, microbatch=0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: draw.timeline(ONE, at=10), r"at must be 0 … 9 s, got 10"),
        (lambda: draw.timeline(ONE, at=-1), r"at must be 0 … 9 s, got -1"),
        (lambda: draw.timeline(ONE, at=float("nan")), r"at must be 0 … 9 s, got nan"),
        (lambda: draw.timeline(Timeline([])), "nothing to draw: no event .* is F, B, I, W"),
        (lambda: draw.timeline([NOTHING]), "nothing to draw: 1 actions? takes? 0 s in all"),
        (lambda: draw.timelines({}), "there is no time line to draw"),
        (
            lambda: draw.timeline([Event(0, "send", 0, 1, (0, 1), 8, peer=1)], at=0.5),
            "at=0.5 marks a moment of a pipeline; these events are of none",
        ),
        (
            lambda: draw.timeline(Timeline([Event(0, "F", 0, 1, stage=0)])),
            "says no stage or no microbatch",
        ),
    ],
)
def test_what_cannot_be_drawn_is_a_clear_value_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_picture_of_full_ranks_says_so_and_hides_nothing():
    def of(*times):
        names = zip("FIW", times, strict=False)
        return [Event(0, name, *both, stage=0, microbatch=0) for name, both in names]

    # What the three take adds up to a little more than all of it.
    full = of((0.8, 0.8 + 2.7), (0.8 + 2.7, 0.8 + 6.2), (0.8 + 6.2, 0.8 + 9.4))
    assert "9.4 s, bubble 0.0 %" in draw.timeline(full).text
    assert "bubble -100.0 %" in draw.timeline(of((0, 1), (0, 1))).text


def test_two_runs_are_not_drawn_as_one():
    with pytest.raises(ValueError, match="0F0 is there twice"):
        draw.timeline([*ONE.events, *ONE.events])
