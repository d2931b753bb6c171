"""Which layers each pipeline rank holds, against the functions that build Megatron's models."""

from collections import Counter
from itertools import product
from typing import Any

import pytest

from mpviz.shards import layers_of

pytestmark = pytest.mark.oracle

MEGATRON_NAMES = {
    "pp": "pipeline_model_parallel_size",
    "chunks": "virtual_pipeline_model_parallel_size",
    "first": "num_layers_in_first_pipeline_stage",
    "last": "num_layers_in_last_pipeline_stage",
}


def _megatrons_layers(num_layers: int, pp: int, **options: Any) -> list[list[range]] | None:
    """Deal the layers as Megatron does; None where it refuses."""
    import torch
    from megatron.core.transformer import TransformerConfig
    from megatron.core.transformer.transformer_block import get_num_layers_to_build
    from megatron.core.transformer.transformer_layer import get_transformer_layer_offset

    said = {"pp": pp, **options}
    chunks = options["chunks"] or 1
    try:
        config = TransformerConfig(
            num_layers=num_layers,
            hidden_size=8,
            num_attention_heads=2,
            pipeline_dtype=torch.float32,
            **{MEGATRON_NAMES[name]: size for name, size in said.items()},
        )
        dealt = []
        for rank in range(pp):
            of_rank = []
            for chunk in range(chunks):
                virtual = chunk if options["chunks"] else None
                start = 1 + get_transformer_layer_offset(config, virtual, rank)
                count = get_num_layers_to_build(config, virtual, rank)
                of_rank.append(range(start, start + count))
            dealt.append(of_rank)
    except (AssertionError, ValueError):
        return None
    return dealt


def _mpvizs_layers(num_layers: int, pp: int, **options: Any) -> list[list[range]] | None:
    try:
        return layers_of(num_layers, pp, **options | {"chunks": options["chunks"] or 1})
    except ValueError:
        return None


def _each_layer_once(num_layers: int, dealt: list[list[range]]) -> bool:
    """Whether an answer makes sense; Megatron also gives some that do not.

    With ends that add up to more than the model has it may deal empty or overlapping ranges.
    """
    chunks = [chunk for rank in dealt for chunk in rank]
    layers = sorted(layer for chunk in chunks for layer in chunk)
    return all(chunks) and layers == list(range(1, num_layers + 1))


def test_layers_and_refusals_equal_megatrons() -> None:
    outcomes: Counter[str] = Counter()
    ends = [None, 1, 2, 3, 4, 8]
    for num_layers, pp, chunks, first, last in product(
        [1, 2, 4, 6, 7, 8, 12, 16, 18, 24], [1, 2, 3, 4, 8], [None, 1, 2, 3], ends, ends
    ):
        if pp == 1 and (chunks or 1) > 1:
            # Every chunk holds all layers; only initialize_model_parallel refuses to interleave.
            continue
        if pp == 1 and first and last:
            # One rank is both ends: Megatron lets the last win, whatever the first said.
            continue
        if pp == 2 and chunks and first and last:
            # Megatron divides by the 0 ranks between the two ends.
            continue
        asked = {"num_layers": num_layers, "pp": pp, "chunks": chunks, "first": first, "last": last}
        theirs = _megatrons_layers(**asked)
        if theirs is not None and not _each_layer_once(num_layers, theirs):
            outcomes["nonsense"] += 1
            theirs = None
        assert _mpvizs_layers(**asked) == theirs, asked
        outcomes["refused" if theirs is None else "dealt"] += 1
    print(f"\n{dict(outcomes)}")
    assert outcomes["dealt"] >= 300 and outcomes["refused"] >= 300


@pytest.mark.parametrize("chunks", [None, 2])
def test_zero_layers_for_an_end_are_refused_by_both(chunks: int | None) -> None:
    for pp, end in product([1, 2, 4], ["first", "last"]):
        asked = {"num_layers": 16, "pp": pp, "chunks": chunks, "first": None, "last": None, end: 0}
        assert _megatrons_layers(**asked) is None
        assert _mpvizs_layers(**asked) is None


def test_the_layers_of_llama_3_405b() -> None:
    asked = {"num_layers": 126, "pp": 16, "chunks": None, "first": 7, "last": 7}
    assert _mpvizs_layers(**asked) == _megatrons_layers(**asked) is not None
