"""The words beside a picture."""

import pytest
from hypothesis import given, settings
from strategies import layouts

from mpviz import ParallelLayout, cost, presets
from mpviz.explore import words


def row(layout, kind, model=presets.EXAMPLE):
    (found,) = [row for row in words.table(layout, model) if row[0].endswith(f" {kind}")]
    return found


@settings(max_examples=60, deadline=None)
@given(layouts)
def test_every_row_counts_its_groups_and_those_that_leave_their_node(layout):
    for counted, size, leaving, *_ in words.table(layout)[1:]:
        count, kind = counted.split()
        groups = layout.groups(kind)
        assert int(count.replace(",", "")) == len(groups)
        assert int(size.replace(",", "")) == groups.size
        crossing = len(layout.crossings(kind))
        assert leaving.replace(",", "").split()[-1] == (
            "none" if not crossing else f"{crossing if crossing == len(groups) else len(groups)}"
        )


def test_axes_that_do_not_exist_get_no_row():
    kinds = [row[0].split()[1] for row in words.table(presets.SLIDE.layout)[1:]]
    assert kinds == ["tp", "dp", "pp"]
    moe = ParallelLayout(nodes=2, tp=2, cp=2, pp=2, ep=4)
    assert [row[0].split()[1] for row in words.table(moe)[1:]] == [
        *("tp", "cp", "dp-cp", "pp", "ep", "edp")
    ]


def test_a_group_of_one_carries_nothing():
    assert row(ParallelLayout(nodes=1, tp=8), "dp")[3:] == ("nothing", "–", "–")


def test_a_model_without_experts_sends_nothing_along_the_axes_of_experts():
    layout = ParallelLayout(nodes=2, tp=2, pp=4, ep=2)
    assert row(layout, "ep")[3:] == ("nothing: no experts in the model", "–", "–")


@pytest.mark.parametrize(
    "preset", [presets.SLIDE, *(presets.MEGATRON_TABLE_1[size] for size in ("7.5B", "145.6B"))]
)
def test_pp_is_not_the_dearest_and_tp_is(preset):
    # A gigabyte takes longest along pp. What counts is how much is sent in a step.
    parts = cost.traffic(preset.model or presets.EXAMPLE, preset.layout)
    assert parts["tp"].bytes > 3 * parts["pp"].bytes
    assert parts["tp"].seconds > parts["pp"].seconds


@pytest.mark.parametrize("preset", presets.ALL[1:], ids=lambda preset: preset.name)
def test_bytes_and_times_of_the_table_are_those_of_the_model_and_its_machine(preset):
    layout, model = preset.layout, preset.model
    parts = cost.traffic(model, layout, machine=cost.MACHINES[model.gpu])
    for kind, part in parts.items():
        volume, time = row(layout, kind, model)[4:]
        if not part.count:
            assert (volume, time) == ("–", "–")
            continue
        assert in_bytes(volume) == pytest.approx(part.bytes, rel=0.05)
        assert in_seconds(time) == pytest.approx(part.seconds, rel=0.05)
        if part.count > 1:
            count, size = volume.partition(": ")[2].split(" × ")
            assert int(count.replace(",", "")) == round(part.count)
            assert in_bytes(size) == pytest.approx(part.size, rel=0.05)


def in_bytes(text):
    number, unit = text.partition(":")[0].split()
    return float(number.replace(",", "")) * {"TB": 1e12, "GB": 1e9, "MB": 1e6, "KB": 1e3}[unit]


def in_seconds(text):
    number, unit = text.split()
    return float(number.replace(",", "")) * {"s": 1, "ms": 1e-3, "µs": 1e-6}[unit]


@pytest.mark.parametrize(
    ("gpus", "model", "said"),
    [
        (8, presets.EXAMPLE, "H100: NVLink 450 GB/s inside a node, 400 Gbit/s network 50 GB/s"),
        (72, presets.EXAMPLE, "GB200: NVLink 900 GB/s inside a node, 400 Gbit/s network 50 GB/s"),
        (8, presets.DEEPSEEK_V3.model, "H800: NVLink 200 GB/s inside a node"),
        (
            8,
            presets.MEGATRON_TABLE_1["1.7B"].model,
            "A100: NVLink 300 GB/s inside a node, 200 Gbit/s network 25 GB/s",
        ),
    ],
)
def test_the_note_names_the_model_its_step_and_the_machine(gpus, model, said):
    note = words.note(ParallelLayout(nodes=2, gpus_per_node=gpus), model)
    assert said in note
    assert f"A step of {model.name}: {model.batch:,} sequences of {model.sequence:,}" in note


def test_uneven_groups_are_judged_by_the_one_that_is_spread_most():
    wide = ParallelLayout(nodes=2, gpus_per_node=72, tp=16)
    assert row(wide, "tp")[2] == "⇄ 1 of 9"
    part = cost.traffic(presets.EXAMPLE, wide)["tp"]
    links = {"inside": cost.NVLINK_GB200, "between": cost.NETWORK}
    one = cost.all_reduce_seconds(part.size, 16, 2, **links)
    assert part.seconds == pytest.approx(part.count * one)
