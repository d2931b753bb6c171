"""Every picture can be read: measured on the scene, over many layouts."""

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
from draw.pipelines import PIPELINES, timelines
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from steps import recorded_events
from strategies import layouts

from mpviz import Event, ParallelLayout, draw, presets, schedule, shards
from mpviz.draw import Picture
from mpviz.draw.canvas.glyphs import box_of
from mpviz.draw.canvas.scene import Box, Label, Raster, Scene
from mpviz.draw.canvas.theme import MAX_WIDTH, PAPER, SMALL, contrast
from mpviz.timeline import RecordedStep, Timeline

DRAWINGS: dict[str, Callable[[ParallelLayout], Picture]] = {
    "grid": draw.grid,
    "grid, rank 0 in focus": lambda layout: draw.grid(layout, focus=0),
    "cluster": draw.cluster,
    "cluster, last rank in focus": lambda layout: draw.cluster(layout, focus=layout.world_size - 1),
    "dp groups": lambda layout: draw.groups(layout, "dp"),
    "one dp group": lambda layout: draw.groups(layout, "dp", focus=0),
    "pp groups on the cluster": lambda layout: draw.groups(layout, "pp", on="cluster"),
    "copies on the cluster": lambda layout: draw.groups(layout, "model", on="cluster"),
    "embedding groups": lambda layout: draw.groups(layout, "embedding"),
    "compared": lambda layout: draw.compare(layout, layout),
    "outcomes": lambda layout: (
        draw.outcomes(
            layout,
            dict.fromkeys(range(layout.world_size), "waits in recv"),
            causes=[0],
            waiting=[1],
        )
        if layout.world_size > 1
        else draw.outcomes(layout, {0: "busy"})
    ),
    "a number on each rank": lambda layout: draw.values(
        layout, {rank: str(rank % 7) for rank in range(layout.world_size)}
    ),
    "long words on some ranks": lambda layout: draw.values(layout, {0: "tensor([1.0, 2.0])" * 9}),
}

# Of any layout whose pieces fit on a page.
PIECES: dict[str, Callable[[ParallelLayout], Picture]] = {
    "pieces": draw.pieces,
    "pieces, with layers": lambda layout: draw.pieces(layout, 7 * layout.pp),
    "pieces, with one layer each": lambda layout: draw.pieces(layout, layout.pp),
}

CORNER_CASES = [
    presets.SLIDE.layout,
    ParallelLayout(nodes=1, gpus_per_node=1),
    ParallelLayout(nodes=1, tp=8),
    ParallelLayout(nodes=1, pp=8),
    ParallelLayout(nodes=16, tp=8, pp=16),  # 128 distinct pieces
    ParallelLayout(nodes=16, tp=1, pp=128),
    ParallelLayout(nodes=16, tp=128, pp=1),
    ParallelLayout(nodes=32, tp=8, pp=2),  # 256: the most that are drawn as cells
    ParallelLayout(nodes=33, tp=8),  # and one node more
    ParallelLayout(nodes=2, gpus_per_node=72, tp=8, pp=2),
    ParallelLayout(nodes=3, gpus_per_node=11),
    ParallelLayout(nodes=2, tp=2, pp=2, cp=2, ep=4),
    *(preset.layout for preset in presets.ALL[1:]),
    ParallelLayout(nodes=16_384, tp=8, pp=16),
]


def _numbers(block: shards.Block, digits: int = 2) -> dict[str, np.ndarray]:
    """X and A of a block with one product; all of one length, so that the text is as wide."""
    step = next(step for step in block.steps if isinstance(step, shards.Product))
    random = np.random.default_rng(0)
    return {cut.name: random.uniform(-1, 1, cut.shape).round(digits) for cut in step.inputs}


def _valued(block: shards.Block) -> Picture:
    return draw.product(block, _numbers(block))


# Each of a tp, with and without sequence parallelism.
SHARDS: dict[str, Callable[[int, bool], Picture]] = {
    "column-parallel": lambda tp, sp: draw.product(
        shards.column_parallel(48, 24, 96, tp, sequence_parallel=sp)
    ),
    "column-parallel, gathered": lambda tp, sp: draw.product(
        shards.column_parallel(48, 24, 96, tp, gather_output=True, sequence_parallel=sp)
    ),
    "column-parallel, with numbers": lambda tp, sp: _valued(
        shards.column_parallel(tp, 2, 2 * tp, tp, sequence_parallel=sp)
    ),
    "row-parallel": lambda tp, sp: draw.product(
        shards.row_parallel(48, 96, 24, tp, sequence_parallel=sp)
    ),
    "row-parallel, split before": lambda tp, sp: draw.product(
        shards.row_parallel(48, 96, 24, tp, input_is_parallel=False, sequence_parallel=sp)
    ),
    "row-parallel, with numbers": lambda tp, sp: _valued(
        shards.row_parallel(tp, tp, 2, tp, sequence_parallel=sp)
    ),
    "row-parallel, with many numbers": lambda tp, sp: _valued(
        shards.row_parallel(tp, 2 * tp, 12 if tp < 4 else 2, tp, sequence_parallel=sp)
    ),
    "MLP": lambda tp, sp: draw.block(shards.mlp(48, 24, 96, tp, sequence_parallel=sp)),
    "attention": lambda tp, sp: draw.block(
        shards.attention(48, 96, heads=2 * tp, tp=tp, sequence_parallel=sp)
        if 96 % (2 * tp) == 0
        else shards.attention(48, 90, heads=tp, tp=tp, sequence_parallel=sp)
    ),
    "attention of GPT-3's size": lambda tp, sp: draw.block(
        shards.attention(6144, 12288, heads=96, tp=tp, sequence_parallel=sp)
    ),
    "MLP of GPT-3's size": lambda tp, sp: draw.block(
        shards.mlp(6144, 12288, 49152, tp, sequence_parallel=sp)
    ),
    "column-parallel block": lambda tp, sp: draw.block(
        shards.column_parallel(48, 24, 96, tp, sequence_parallel=sp)
    ),
    "row-parallel block": lambda tp, sp: draw.block(
        shards.row_parallel(48, 96, 24, tp, sequence_parallel=sp)
    ),
}
TENSOR_PARALLEL = (1, 2, 3, 4, 8)
every_drawing = pytest.mark.parametrize("name", DRAWINGS)


def check(scene: Scene) -> None:
    labels = [label for label in scene.of(Label) if label.text]
    assert min(label.size for label in labels) >= SMALL
    _check_inside(scene, labels)
    _check_apart(labels)
    _check_contrast(scene, labels)


def _check_inside(scene: Scene, labels: list[Label]) -> None:
    for label in labels:
        left, top, right, bottom = box_of(label)
        assert left >= 0 and top >= 0, label
        assert right <= scene.width and bottom <= scene.height, label
    for item in [*scene.of(Box), *scene.of(Raster)]:
        assert item.x >= 0 and item.x + item.width <= scene.width
        assert item.y >= 0 and item.y + item.height <= scene.height


def _check_apart(labels: list[Label]) -> None:
    by_line = sorted(((*box_of(label), label) for label in labels), key=lambda item: item[1])
    for one, other in combinations(by_line, 2):
        if other[1] >= one[3] and other[1] - one[1] > 40:
            continue
        apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
        assert apart, f"{one[4].text!r} and {other[4].text!r} overlap"


def _check_contrast(scene: Scene, labels: list[Label]) -> None:
    boxes = scene.of(Box)
    for label in labels:
        # Frames come before the cells they hold, so the last box under a label is its ground.
        left, top, right, bottom = box_of(label)
        under = [b for b in boxes if b.x <= label.x <= b.x + b.width and b.y <= label.y]
        under = [b for b in under if label.y <= b.y + b.height]
        ground = under[-1].face if under else PAPER
        assert contrast(label.color, ground) >= 4.5, label
        if under:
            assert under[-1].x <= left and right <= under[-1].x + under[-1].width, label
            assert under[-1].y <= top and bottom <= under[-1].y + under[-1].height, label


@every_drawing
@pytest.mark.parametrize("layout", CORNER_CASES, ids=str)
def test_nothing_is_small_clipped_overlapping_or_faint(name, layout):
    scene = DRAWINGS[name](layout).scene
    check(scene)
    assert scene.width <= MAX_WIDTH + 100


@pytest.mark.parametrize("name", PIECES)
@pytest.mark.parametrize(("tp", "pp"), [(1, 1), (2, 1), (1, 4), (2, 4), (8, 8), (8, 14), (3, 5)])
def test_pieces_of_a_model_too(name, tp, pp):
    scene = PIECES[name](ParallelLayout(nodes=tp * pp, gpus_per_node=1, tp=tp, pp=pp)).scene
    check(scene)
    assert scene.width <= MAX_WIDTH + 100


@pytest.mark.parametrize("name", SHARDS)
@pytest.mark.parametrize("tp", TENSOR_PARALLEL)
@pytest.mark.parametrize("sequence_parallel", [False, True])
def test_products_and_blocks_too(name, tp, sequence_parallel):
    scene = SHARDS[name](tp, sequence_parallel).scene
    check(scene)
    assert scene.width <= MAX_WIDTH + 100


@pytest.mark.parametrize("name", [name for name in SHARDS if "numbers" not in name])
@pytest.mark.parametrize("tp", [12, 48])
def test_of_many_ranks_the_middle_is_left_out(name, tp):
    scene = SHARDS[name](tp, False).scene
    check(scene)
    assert scene.width <= MAX_WIDTH + 100
    assert any("…" in label.text for label in scene.of(Label))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    make=st.sampled_from([shards.column_parallel, shards.row_parallel]),
    each=st.tuples(*[st.integers(1, 2**14)] * 3),
    tp=st.integers(1, 10),
    sequence_parallel=st.booleans(),
    whole=st.booleans(),
)
def test_products_of_any_shape(make, each, tp, sequence_parallel, whole):
    sizes = [size * tp for size in each]
    block = make(*sizes, tp, sequence_parallel=sequence_parallel)
    check((draw.block if whole else draw.product)(block).scene)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    make=st.sampled_from([shards.column_parallel, shards.row_parallel]),
    each=st.tuples(*[st.integers(1, 2)] * 3),
    tp=st.integers(1, 2),
    scale=st.sampled_from([0.0, 1e-7, 0.01, 1.0, 300.0, 1e12]),
)
def test_numbers_of_any_size(make, each, tp, scale):
    block = make(*(size * tp for size in each), tp)
    values = {name: scale * array for name, array in _numbers(block, digits=9).items()}
    check(draw.product(block, values).scene)


def _ring(world_size: int) -> list[Event]:
    """Each rank sends to its right, while it hears from its left."""
    ranks = tuple(range(world_size))
    return [
        Event(
            rank, name, 0.1 * rank, 0.1 * rank + span, ranks, 10**rank, (rank + step) % world_size
        )
        for rank in ranks
        for name, step, span in (("isend", 1, 0.5), ("recv", -1, 0.01))
    ]


@pytest.mark.parametrize("world_size", [1, 2, 16])
def test_traffic_and_timelines_too(world_size):
    check(draw.traffic(_ring(world_size), world_size).scene)
    check(draw.timeline(_ring(world_size)).scene)
    ranks = tuple(range(world_size))
    barrier = [Event(rank, "barrier", -0.3 * rank - 1, -0.5, ranks) for rank in ranks]
    check(draw.timeline([*barrier, *_ring(world_size)]).scene)


@pytest.mark.parametrize("moment", [None, 0.0, 0.5, 1.0])
@pytest.mark.parametrize("layout", [c for c in CORNER_CASES if c.world_size <= 256], ids=repr)
def test_recorded_steps_too(layout, moment):
    step = RecordedStep(recorded_events(layout), layout)
    picture = draw.step(step.events, layout, at=None if moment is None else moment * step.seconds)
    check(picture.scene)
    assert picture.scene.width <= MAX_WIDTH + 100


CURVES = [
    {"one": []},
    {"one value": [3.0]},
    {"never finite": [float("nan"), float("inf")]},
    {"a gap": [1.0, float("nan"), 2.0], "negative": [-5.0, 3.0]},
    {"all the same": [2.0] * 9, "tiny": [1e-9] * 3},
    {"long": range(100_000)},
    {f"curve {n}": [n / 7, 3.0] for n in range(8)},
]


@pytest.mark.parametrize("named", CURVES, ids=lambda named: next(iter(named)))
def test_curves_too(named):
    scene = draw.curves(named, steps=5).scene
    check(scene)
    assert scene.width <= MAX_WIDTH + 100


def test_a_run_without_messages_or_events():
    check(draw.traffic([], 4).scene)
    with pytest.raises(ValueError, match="no event to draw; was the run recorded"):
        draw.timeline([])


def test_a_table_of_too_many_ranks_is_refused():
    with pytest.raises(ValueError, match="a table of 65 ranks cannot be read; at most 64"):
        draw.traffic([], 65)


COLLECTIVES = [
    schedule.collective(name, ranks, algorithm)
    for name, known in schedule.ALGORITHMS.items()
    for algorithm in known
    for ranks in (1, 2, 4, 8)
]


@pytest.mark.parametrize("size", [None, 840_000_000])
@pytest.mark.parametrize("plan", COLLECTIVES, ids=str)
def test_every_step_of_every_collective_too(plan, size):
    scenes = [draw.collective(plan, k, size=size).scene for k in range(len(plan.steps) + 1)]
    for scene in scenes:
        check(scene)
        assert scene.width <= MAX_WIDTH + 100
    # A slider over the steps leaves everything in its place.
    (places,) = {
        tuple((box.x, box.y) for box in scene.of(Box) if box.rank is not None) for scene in scenes
    }
    assert len({x.x for s in scenes for x in s.of(Label) if x.text == "sent so far"}) == 1
    assert len(places) == plan.ranks * (
        2 * plan.ranks if plan.name == "all_to_all" else plan.chunks
    )


@pytest.mark.parametrize("ranks", [3, 5, 6, 7])
def test_a_ring_of_any_number_of_ranks_that_can_be_read(ranks):
    check(draw.collective(schedule.collective("all_reduce", ranks)).scene)
    check(draw.collective(schedule.collective("broadcast", ranks, "tree"), 1).scene)


CHARTS: dict[str, Callable[[Timeline], Picture]] = {
    "chart": draw.timeline,
    "chart alone": lambda timeline: draw.timeline(timeline, title="1F1B", activations=False),
    "chart, in the middle": lambda timeline: draw.timeline(timeline, at=timeline.makespan / 2),
    "chart, at the first moment": lambda timeline: draw.timeline(timeline, at=0),
    "chart, at the last moment": lambda timeline: draw.timeline(timeline, at=timeline.makespan),
    "twice": lambda timeline: draw.timelines(
        {"simulated": timeline, "measured": timeline}, at=timeline.makespan / 3, activations=True
    ),
    "above another": lambda timeline: draw.timelines(
        {"this": timeline, "that": PIPELINES["interleaved, 4 chunks"]()}
    ),
}


@pytest.mark.parametrize("chart", CHARTS)
@pytest.mark.parametrize("pipeline", PIPELINES)
def test_charts_of_pipelines_too(pipeline, chart):
    scene = CHARTS[chart](PIPELINES[pipeline]()).scene
    check(scene)
    assert scene.width <= MAX_WIDTH + 100


@settings(max_examples=60)
@given(timelines(most=9), st.sampled_from(sorted(CHARTS)))
def test_charts_of_any_pipeline(timeline, chart):
    check(CHARTS[chart](timeline).scene)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(layouts, st.sampled_from(sorted(DRAWINGS)))
def test_the_same_for_any_layout(layout, name):
    check(DRAWINGS[name](layout).scene)
