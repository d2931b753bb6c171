"""The time of a step beside published ones, and all layouts beside one at a time."""

import re
import time
from dataclasses import replace
from statistics import median

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from published_steps import A100, EVERY, H100, OTHERS

from mpviz import ParallelLayout, cost, presets, schedule, simulate
from mpviz.cost import MODELS, Cluster, Training, layouts, memory, step
from mpviz.cost.options import spread

OVERLAPPED = Training(sequence_parallel=True, zero=1, overlap=True)

# ---- published rows


@pytest.mark.parametrize("row", EVERY, ids=lambda row: row.name)
def test_a_published_row_is_within_the_error_that_is_said_or_says_why(row):
    error = cost.MACHINES[row.gpu].error
    assert bool(row.why) == (abs(row.error) > 15)
    assert row.why or abs(row.error) <= error
    assert row.source


def test_one_number_a_machine_fits_its_rows():
    for rows, most, middle in ((A100, 18, 5), (H100, 3, 6)):
        errors = [abs(row.error) for row in rows]
        assert len(errors) == most and median(errors) <= middle


def test_another_efficiency_fits_worse():
    """The number is where it is for a reason: the largest error grows on either side."""

    def largest(efficiency):
        machine = replace(cost.MACHINES["A100"], efficiency=efficiency)
        fixed = [row for row in A100 if len(row.ways) == 1]
        took = [
            step(row.model, row.layout, Cluster(row.layout.world_size, machine), row.ways[0])
            for row in fixed
        ]
        errors = [t.seconds / row.seconds - 1 for t, row in zip(took, fixed, strict=True)]
        return max(map(abs, errors))

    here = largest(cost.MACHINES["A100"].efficiency)
    assert here < 0.1 < min(largest(0.60), largest(0.85))


def test_the_unmodelled_row_is_off_on_the_side_that_is_said():
    (row,) = OTHERS
    assert 60 < row.error < 110  # slower: no FP8, nothing of ep hidden
    parts = row.modelled[0].parts
    assert parts["ep"] > 0.3 * row.modelled[0].seconds


def test_34_and_84_days():
    """Narayanan et al. 2021, equation 4 and its two examples, and the model's own 84.

    The equation is 8 T P / n X: it leaves out scores, which add 1 to 3 %.
    """
    gpt, trillion = MODELS["GPT-3 175B"], MODELS["Megatron 1008.0B"]
    for model, tokens, gpus, teraflops, days in (
        (gpt, 300e9, 1024, 140, 34),
        (trillion, 450e9, 3072, 163, 84),
    ):
        rate = gpus * 1e12 * teraflops * 86_400
        assert round(8 * tokens * model.parameters / rate) == days
        flops = cost.flops(model, Training(recompute="full")) / (model.batch * model.sequence)
        assert 1.005 < flops / (8 * model.parameters) < 1.035
    layout = presets.MEGATRON_TABLE_1["1008.0B"].layout
    way = Training(fused=False, scatter_gather=True, recompute="full", chunks=2)
    took = step(trillion, layout, Cluster(3072, "A100", price=2), way)
    assert took.days(450e9) == pytest.approx(84, rel=0.1)
    assert took.dollars(450e9) == pytest.approx(2 * took.days(450e9) * 24 * 3072)


# ---- its parts

GPT = MODELS["Megatron 145.6B"]
EIGHT = presets.MEGATRON_TABLE_1["145.6B"].layout
CLUSTER = Cluster(1536, "A100")


def test_the_parts_make_the_step():
    took = step(GPT, EIGHT, CLUSTER, Training(recompute="full"))
    assert took.seconds == pytest.approx(sum(took.parts.values()))
    assert took.mfu == pytest.approx(cost.flops(GPT) / took.seconds / 1536 / 312e12)
    assert took.tokens_per_second == pytest.approx(2304 * 2048 / took.seconds / 1536)
    assert took.label == "estimated ± 10 %"


@pytest.mark.parametrize(("name", "chunks"), [("1f1b", 1), ("1f1b", 2), ("zb-h1", 1), ("zb-v", 2)])
def test_the_bubble_is_that_of_the_simulated_plan(name, chunks):
    pp, microbatches = 8, 64
    build = {
        ("1f1b", 1): schedule.one_forward_one_backward,
        ("1f1b", 2): schedule.interleaved_1f1b,
        ("zb-h1", 1): schedule.zero_bubble_h1,
        ("zb-v", 2): schedule.zero_bubble_v,
    }[name, chunks]
    timeline = simulate(
        build(pp=pp, microbatches=microbatches), {"F": 1.0, "I": 1.0, "W": 1.0, "B": 2.0}
    )
    model = replace(GPT, batch=microbatches, layers=64)
    cluster = Cluster(64, "A100")
    way = Training(schedule=name, chunks=chunks)
    took = step(model, cluster.layout(tp=8, pp=pp), cluster, way)
    work = sum(took.parts[part] for part in ("products", "memory", "tp", "pp"))
    # The time line ends with its last W, before the optimizer step: ZB-V's bubble is then gone.
    expected = 0 if name == "zb-v" else timeline.bubble_overhead
    assert took.parts["bubble"] / work == pytest.approx(expected, abs=1e-9)
    assert timeline.bubble_overhead < (pp - 1) / microbatches + 1e-9


def test_what_hides_and_what_shrinks():
    plain = step(GPT, EIGHT, CLUSTER, Training())
    hidden = step(GPT, EIGHT, CLUSTER, Training(overlap=True))
    microbatches = GPT.batch / EIGHT.dp
    behind = plain.seconds - sum(plain.parts[part] for part in ("dp", "optimizer", "bubble"))
    assert plain.parts["dp"] - hidden.parts["dp"] == pytest.approx(behind / microbatches)
    shard = step(GPT, EIGHT, CLUSTER, Training(overlap=True, zero=1, microbatch=4))
    assert shard.parts["dp"] == 0
    full = step(GPT, EIGHT, CLUSTER, Training(recompute="full"))
    assert full.parts["products"] == pytest.approx(4 / 3 * plain.parts["products"], rel=0.02)
    assert full.parts["tp"] == pytest.approx(1.5 * plain.parts["tp"], rel=0.02)
    assert step(GPT, EIGHT, CLUSTER, Training(scatter_gather=True)).parts["pp"] < (
        0.2 * plain.parts["pp"]
    )


def test_gradients_of_experts_are_summed_once():
    model, cluster = replace(MODELS["Mixtral 8x7B"], gpu="H100"), Cluster(16)
    took = step(model, cluster.layout(), cluster)
    one = cost.all_reduce_seconds(4 * model.parameters, 16, 2)
    assert took.parts["dp"] == pytest.approx(one)


def test_what_is_gathered_again_while_a_product_runs_is_not_waited_for():
    way = Training(sequence_parallel=True)
    took, parts = step(GPT, EIGHT, CLUSTER, way), cost.traffic(GPT, EIGHT, way, stage=3)
    links = {"inside": cost.NVLINK_A100, "between": cost.NETWORK_A100}
    size = 2 * GPT.sequence * GPT.hidden
    both = cost.all_gather_seconds(size, 8, **links)  # a reduce-scatter takes as long
    many = GPT.batch // EIGHT.dp
    layers = GPT.layers // 8 * many
    assert parts["tp"].seconds == pytest.approx(layers * 10 * both, rel=1e-3)
    # The last rank, which is the slowest, has the output layer: 3 more, and the loss.
    assert took.parts["tp"] == pytest.approx((layers * 8 + 3 * many) * both, rel=0.01)


def test_a_group_that_leaves_its_node_takes_longer():
    wide = CLUSTER.layout(tp=16, pp=8)
    near, far = (step(GPT, layout, CLUSTER, Training()) for layout in (EIGHT, wide))
    assert far.parts["tp"] > 2 * near.parts["tp"]


# ---- all layouts


@pytest.mark.parametrize(
    ("name", "gpus", "way"),
    [
        ("Llama 3 70B", 512, OVERLAPPED),
        ("Megatron 76.1B", 256, Training(fused=False)),
        ("Mixtral 8x7B", 64, OVERLAPPED),
        ("DeepSeek-V3", 2048, replace(OVERLAPPED, zero=2)),
    ],
)
def test_rows_are_those_of_memory_and_step(name, gpus, way):
    cluster = Cluster(gpus)
    found = layouts(MODELS[name], cluster, way)
    assert (np.diff(found.seconds) >= 0).all() and (found.memory <= 0.9 * 80e9).all()
    for number in np.random.default_rng(0).choice(len(found), 40):
        layout, trained = found.layout(number), found.trained(number)
        assert found.seconds[number] == pytest.approx(
            step(found.model, layout, cluster, trained).seconds
        )
        # Rounded up to whole shards, kind by kind.
        assert memory(found.model, layout, trained).peak == pytest.approx(
            found.memory[number], rel=1e-6
        )


def test_every_layout_is_there_once():
    found = layouts(MODELS["Llama 3 8B"], Cluster(64), reserve=0)
    rows = [tuple(found.row(n).values()) for n in range(len(found))]
    assert len(set(rows)) == len(rows)
    by_hand = {
        (tp, cp, pp)
        for tp in (1, 2, 4, 8)
        for cp in (1, 2, 4, 8)
        for pp in range(1, 33)
        if 64 % (tp * cp * pp) == 0
    }
    assert {row[:3] for row in rows} <= by_hand
    assert len({row[:3] for row in rows}) > 0.6 * len(by_hand)


def test_ties_front_and_place():
    found = layouts(MODELS["Llama 3 70B"], Cluster(1024))
    assert (found.seconds[: found.ties] <= 1.1 * found.seconds[0]).all()
    assert found.seconds[found.ties] > 1.1 * found.seconds[0]
    for row in found.front:
        smaller = found.memory < found.memory[row]
        assert not (smaller & (found.seconds <= found.seconds[row])).any()
    first = found.row(0)
    assert found.place(tp=first["tp"], pp=first["pp"])[::2] == (1, 0.0)
    behind = found.place(tp=8, pp=1)
    assert 1 < behind[0] <= behind[1] and behind[2] > 0
    with pytest.raises(ValueError, match="no layout that fits has tp=3"):
        found.place(tp=3)
    with pytest.raises(ValueError, match=r"a row has tp, cp, pp.*got dq"):
        found.where(dq=1)
    assert f"{found.ties} are as fast as the first" in repr(found)
    assert set(found.among(cp=1).columns["cp"]) == {1}


def test_the_largest_worlds_take_no_longer():
    model = replace(MODELS["Llama 3 405B"], batch=2**16)
    start = time.perf_counter()
    found = layouts(model, Cluster(2**20))
    layout = found.layout(0)
    assert layout.world_size == 2**20
    step(model, layout, Cluster(2**20), found.trained(0))
    assert time.perf_counter() - start < 5  # measured: 0.1


# ---- what cannot be


@pytest.mark.parametrize(
    ("name", "cluster", "said"),
    [
        ("Llama 3 70B", Cluster(8), r"161 GB a GPU, 89 GB more than 72 GB .*8 B200 it fits"),
        ("Llama 3 405B", Cluster(64), r"119 GB a GPU, 47 GB more .*64 H200 it fits: 119 GB"),
        ("Megatron 1008.0B", Cluster(64, "A100"), r"289 GB a GPU.*512 GPUs it fits: 42 GB"),
        ("Llama 3 8B", Cluster(16), None),
        ("Llama 3 8B", Cluster(1, "A100"), "with zero=|8 GPUs it fits|A100"),
        ("Llama 3 8B", Cluster(8 * 509), "no layout divides its 32 layers, 32 heads and batch"),
    ],
)
def test_what_does_not_fit_says_by_how_much_and_what_would(name, cluster, said):
    if said is None:
        assert len(layouts(MODELS[name], cluster))
        return
    with pytest.raises(ValueError, match=said):
        layouts(MODELS[name], cluster)


def test_what_would_fit_does():
    with pytest.raises(ValueError, match="64 H200 it fits"):
        layouts(MODELS["Llama 3 405B"], Cluster(64))
    assert len(layouts(MODELS["Llama 3 405B"], Cluster(64, "H200")))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((100,), "100 GPUs are not whole nodes of 8; 96 or 104 are"),
        ((8, "V100"), "machine must be 'A100', 'H100', 'H200', 'H800', 'B200' or 'GB200', got"),
        ((0,), "gpus must be a whole number ≥ 1, got 0"),
        ((8, "H100", 8, -1), "price must be dollars, 0 or more, got -1"),
    ],
)
def test_no_such_cluster(arguments, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        Cluster(*arguments)


def test_a_layout_of_another_cluster_is_refused():
    said = "the layout is of 192 nodes of 8, the cluster has 128 of 8"
    with pytest.raises(ValueError, match=said):
        step(GPT, EIGHT, Cluster(1024, "A100"))
    with pytest.raises(ValueError, match="the cluster has no price"):
        step(GPT, EIGHT, CLUSTER).dollars(1e9)


# ---- nodes


@settings(max_examples=200)
@given(
    st.integers(1, 6), st.sampled_from([1, 2, 3, 4, 6, 8]), st.data(),
    st.sampled_from(["tp-cp-ep-dp-pp", "tp-cp-ep-pp-dp", "pp-dp-cp-ep-tp"]),
)  # fmt: skip
def test_the_nodes_of_a_group_are_counted(nodes, each, data, order):
    rest, sizes = nodes * each, {}
    for axis in ("tp", "cp", "pp"):
        sizes[axis] = data.draw(st.sampled_from([n for n in range(1, rest + 1) if rest % n == 0]))
        rest //= sizes[axis]
    layout = ParallelLayout(nodes=nodes, gpus_per_node=each, **sizes, order=order)
    for kind in ("tp", "cp", "dp", "dp-cp", "pp"):
        counted = max(len({rank // each for rank in group}) for group in layout.groups(kind))
        assert spread(layout, kind) == counted, kind


def test_every_machine_says_where_its_numbers_are_from():
    for machine in cost.MACHINES.values():
        assert "data sheet" in machine.source or "H800" in machine.source
        assert ("Fitted" in machine.source) == bool(machine.error)
