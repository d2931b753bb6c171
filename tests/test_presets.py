from dataclasses import FrozenInstanceError

import pytest

from mpviz import TP_PP_DP_ORDER, ParallelLayout, cost, presets
from mpviz.cost import Model
from mpviz.presets import LLAMA3_405B, MEGATRON_TABLE_1, Preset
from mpviz.shards import layers_of

# Narayanan et al. 2021, Table 1, copied by hand a second time:
# heads, hidden size, layers, tensor-parallel size, pipeline-parallel size, GPUs, batch size.
TABLE_1 = {
    "1.7B": (24, 2304, 24, 1, 1, 32, 512),
    "3.6B": (32, 3072, 30, 2, 1, 64, 512),
    "7.5B": (32, 4096, 36, 4, 1, 128, 512),
    "18.4B": (48, 6144, 40, 8, 1, 256, 1024),
    "39.1B": (64, 8192, 48, 8, 2, 512, 1536),
    "76.1B": (80, 10240, 60, 8, 4, 1024, 1792),
    "145.6B": (96, 12288, 80, 8, 8, 1536, 2304),
    "310.1B": (128, 16384, 96, 8, 16, 1920, 2160),
    "529.6B": (128, 20480, 105, 8, 35, 2520, 2520),
    "1008.0B": (160, 25600, 128, 8, 64, 3072, 3072),
}


def _row(preset: Preset) -> tuple[int, ...]:
    layout, model = preset.layout, model_of(preset)
    sizes = (model.heads, model.hidden, model.layers)
    return (*sizes, layout.tp, layout.pp, layout.world_size, model.batch)


def model_of(preset: Preset) -> Model:
    assert preset.model is not None
    return preset.model


def test_rows_of_the_megatron_papers_table_1() -> None:
    assert {size: _row(preset) for size, preset in MEGATRON_TABLE_1.items()} == TABLE_1
    assert list(MEGATRON_TABLE_1) == list(TABLE_1)
    assert all(preset.layout.gpus_per_node == 8 for preset in MEGATRON_TABLE_1.values())
    assert all(preset.layout.cp == 1 for preset in MEGATRON_TABLE_1.values())


@pytest.mark.parametrize("size", TABLE_1)
def test_table_1_sizes_follow_from_the_papers_parameter_formula(size: str) -> None:
    # Equation 2, with the paper's vocabulary of 51,200 and sequences of 2,048 tokens.
    model = model_of(MEGATRON_TABLE_1[size])
    l, h = model.layers, model.hidden  # noqa: E741
    parameters = 12 * l * h**2 * (1 + 13 / (12 * h) + (51_200 + 2_048) / (12 * l * h))
    assert f"{parameters / 1e9:.1f}B" == size
    assert l * model.layer_parameters == pytest.approx(parameters - (51_200 + 2_048) * h)
    assert (model.sequence, model.gpu) == (2_048, "A100")


@pytest.mark.parametrize(
    ("model", "vocabulary", "billions"),
    [
        (presets.EXAMPLE, 128_256, 8.0),
        (LLAMA3_405B["8k"].model, 128_256, 405.9),
        (presets.DEEPSEEK_V3.model, 129_280, 671.0),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_layers_experts_and_vocabulary_make_the_models_published_size(
    model: Model, vocabulary: int, billions: float
) -> None:
    layers = model.layers * model.layer_parameters
    experts = model.expert_layers * model.expert_parameters
    total = layers + experts + 2 * vocabulary * model.hidden
    assert total / 1e9 == pytest.approx(billions, abs=0.06)


def test_llama_has_8_kv_heads_and_a_gpt_as_many_as_heads() -> None:
    for model in presets.MODELS.values():
        is_llama = model.name.startswith("Llama")
        assert model.kv_heads == (8 if is_llama else model.heads)
        if model.name != "DeepSeek-V3":  # whose keys are wider than its values
            assert model.kv_width == 2 * model.kv_heads * model.hidden // model.heads


def test_steps_of_llama_3_have_16_million_tokens() -> None:
    for preset in LLAMA3_405B.values():
        model = model_of(preset)
        assert model.sequence * model.batch == 2**24
        assert model.batch % preset.layout.dp == 0


def test_every_model_is_in_the_menu_once_and_its_machine_is_known() -> None:
    used = {preset.model for preset in presets.ALL if preset.model}
    assert set(presets.MODELS.values()) == used | {presets.EXAMPLE}
    assert all(model.gpu in cost.MACHINES for model in presets.MODELS.values())
    assert all(name == model.name and model.source for name, model in presets.MODELS.items())


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
        model = model_of(preset)
        assert (model.layers, model.hidden, model.heads) == (126, 16384, 128)


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
        layers = model_of(preset).layers
        dealt = layers_of(layers, preset.layout.pp, **ends)
        assert sum(len(chunk) for rank in dealt for chunk in rank) == layers


def test_heads_divide_hidden_size_and_tp_divides_heads_of_both_kinds() -> None:
    for preset in presets.ALL[1:]:
        model = model_of(preset)
        assert model.hidden % model.heads == model.heads % model.kv_heads == 0
        assert model.heads % preset.layout.tp == model.kv_heads % preset.layout.tp == 0


def test_all_lists_every_preset_once_with_name_and_source() -> None:
    assert len(presets.ALL) == 1 + 10 + 3 + 1
    assert presets.ALL[0] is presets.SLIDE
    assert len({preset.name for preset in presets.ALL}) == len(presets.ALL)
    assert all(preset.source for preset in presets.ALL)


def test_presets_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        presets.SLIDE.name = "another"  # type: ignore[misc]
