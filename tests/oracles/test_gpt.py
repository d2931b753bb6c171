"""A cut GPT beside Megatron's own GPTModel: same weights, same groups, same microbatches."""

import pytest
from oracles.answers import answers_of

pytestmark = [pytest.mark.oracle, pytest.mark.timeout(200)]

RANKS = 8
# In float64; sums of some hundred numbers in another order. Measured: 1.5e-15 of a parameter's
# largest gradient.
TOLERANCE = 1e-12
SIZES = [(1, 1), (2, 1), (1, 4), (2, 2), (2, 4), (4, 2)]
CASES = {f"{model} tp={tp} pp={pp}" for model in ("GPT-2", "Llama") for tp, pp in SIZES}
CASES |= {f"{model} tp={tp} pp=2 sequence" for model in ("GPT-2", "Llama") for tp in (2, 4)}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, float]]]:
    """What each of 8 real gloo processes found: differences by case."""
    return answers_of("gpt_ranks.py", tmp_path_factory.mktemp("gpt"), RANKS)


def test_losses_and_every_gradient_are_megatrons(found: list[dict[str, dict[str, float]]]) -> None:
    for cases in found:
        assert set(cases) == CASES
        for case, errors in cases.items():
            per_layer = 12 if case.startswith("GPT-2") else 6
            pp = int(case.split("pp=")[1][0])
            assert len(errors) >= 1 + per_layer * 4 // pp
            assert {name: e for name, e in errors.items() if not e < TOLERANCE} == {}, case
