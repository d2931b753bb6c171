from dataclasses import FrozenInstanceError

import pytest

from mpviz import TP_PP_DP_ORDER, ParallelLayout, presets
from mpviz.presets import LLAMA3_405B, MEGATRON_TABLE_1, Preset
from mpviz.shards import layers_of

# Narayanan et al. 2021, Table 1, copied by hand a second time:
# heads, hidden size, layers, tensor-parallel size, pipeline-parallel size, GPUs.
TABLE_1 = {
    "1.7B": (24, 2304, 24, 1, 1, 32),
    "3.6B": (32, 3072, 30, 2, 1, 64),
    "7.5B": (32, 4096, 36, 4, 1, 128),
    "18.4B": (48, 6144, 40, 8, 1, 256),
    "39.1B": (64, 8192, 48, 8, 2, 512),
    "76.1B": (80, 10240, 60, 8, 4, 1024),
    "145.6B": (96, 12288, 80, 8, 8, 1536),
    "310.1B": (128, 16384, 96, 8, 16, 1920),
    "529.6B": (128, 20480, 105, 8, 35, 2520),
    "1008.0B": (160, 25600, 128, 8, 64, 3072),
}


def _row(preset: Preset) -> tuple[int, ...]:
    layout = preset.layout
    model = (preset.heads, preset.hidden, preset.layers)
    return (*model, layout.tp, layout.pp, layout.world_size)


def test_rows_of_the_megatron_papers_table_1() -> None:
    assert {size: _row(preset) for size, preset in MEGATRON_TABLE_1.items()} == TABLE_1
    assert list(MEGATRON_TABLE_1) == list(TABLE_1)
    assert all(preset.layout.gpus_per_node == 8 for preset in MEGATRON_TABLE_1.values())
    assert all(preset.layout.cp == 1 for preset in MEGATRON_TABLE_1.values())


@pytest.mark.parametrize("size", TABLE_1)
def test_table_1_sizes_follow_from_the_papers_parameter_formula(size: str) -> None:
    # Equation 2, with the paper's vocabulary of 51,200 and sequences of 2,048 tokens.
    preset = MEGATRON_TABLE_1[size]
    l, h = preset.layers, preset.hidden  # noqa: E741
    parameters = 12 * l * h**2 * (1 + 13 / (12 * h) + (51_200 + 2_048) / (12 * l * h))
    assert f"{parameters / 1e9:.1f}B" == size


def test_the_slide_is_the_lectures_case() -> None:
    assert presets.SLIDE.layout == ParallelLayout(nodes=2, gpus_per_node=8, tp=2, pp=4)


def test_llama_3_multiplies_to_its_gpus_with_dp_8_at_128k() -> None:
    factors = {
        name: (p.layout.tp, p.layout.cp, p.layout.pp, p.layout.dp, p.layout.world_size)
        for name, p in LLAMA3_405B.items()
    }
    assert factors == {
        "8k, 8192 GPUs": (8, 1, 16, 64, 8192),
        "8k": (8, 1, 16, 128, 16384),
        "128k": (8, 16, 16, 8, 16384),
    }


def test_llama_3_keeps_its_own_order_with_dp_outermost() -> None:
    for preset in LLAMA3_405B.values():
        assert preset.layout.order == TP_PP_DP_ORDER
        assert preset.layout.dense.axes == ("tp", "cp", "pp", "dp")
        assert (preset.layers, preset.hidden, preset.heads) == (126, 16384, 128)


def test_deepseek_v3_spreads_its_experts_over_eight_nodes() -> None:
    layout = presets.DEEPSEEK_V3.layout
    assert (layout.world_size, layout.tp, layout.dp, layout.pp) == (2048, 1, 128, 16)
    assert (layout.ep, layout.edp) == (64, 2)
    assert {len(nodes) for nodes in layout.nodes_of("ep")} == {8}


def test_every_models_layers_can_be_dealt_to_its_pipeline() -> None:
    for preset in presets.ALL[1:]:
        # Llama 3 took one layer from each end for balance.
        ends = {"first": 7, "last": 7} if preset in LLAMA3_405B.values() else {}
        if preset is presets.DEEPSEEK_V3:
            ends = {"last": 1}  # its paper does not say how 61 layers are dealt; this is one way
        dealt = layers_of(preset.layers, preset.layout.pp, **ends)
        assert sum(len(chunk) for rank in dealt for chunk in rank) == preset.layers


def test_heads_divide_hidden_size_and_tp_divides_heads() -> None:
    for preset in presets.ALL[1:]:
        assert preset.hidden % preset.heads == 0
        assert preset.heads % preset.layout.tp == 0


def test_all_lists_every_preset_once_with_name_and_source() -> None:
    assert len(presets.ALL) == 1 + 10 + 3 + 1
    assert presets.ALL[0] is presets.SLIDE
    assert len({preset.name for preset in presets.ALL}) == len(presets.ALL)
    assert all(preset.source for preset in presets.ALL)


def test_presets_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        presets.SLIDE.layers = 1  # type: ignore[misc]
