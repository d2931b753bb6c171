"""Cut layers beside Megatron's own and PyTorch's DTensor: same weights, same gloo processes."""

import pytest
from oracles.answers import answers_of

pytestmark = [pytest.mark.oracle, pytest.mark.timeout(200)]

RANKS = 8
# As beside the uncut layer: sums of less than 100 numbers, in another order. Measured: 6e-16, 2e-7.
TOLERANCE = {"float64": 1e-13, "float32": 1e-5}

LINEAR = {f"{kind}{bias}" for kind in ("column", "row") for bias in ("", " bias")}
WHOLE = {f"{kind} whole{bias}" for kind in ("column", "row") for bias in ("", " bias")}
CASES = {
    "Megatron": {
        *(f"{case} float64" for case in LINEAR | WHOLE | {"embedding"}),
        *(f"{case} float32" for case in LINEAR | WHOLE | {"embedding", "loss"}),
        # Which Megatron turns off for one rank.
        *(f"{case} sequence {dtype}" for case in LINEAR | {"embedding"} for dtype in TOLERANCE),
    },
    "DTensor": {
        *(
            f"{case} {dtype}"
            for case in ("norm and mlp", "embedding", "loss")
            for dtype in TOLERANCE
        ),
        *(f"norm and mlp sequence {dtype}" for dtype in TOLERANCE),
    },
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, float]]]:
    """What each of 8 real gloo processes found: differences by case."""
    return answers_of("tensor_ranks.py", tmp_path_factory.mktemp("tensor"), RANKS)


@pytest.mark.parametrize("tp", [1, 2, 4, 8])
@pytest.mark.parametrize("peer", CASES)
def test_outputs_and_gradients_are_those_of_the_peer(
    found: list[dict[str, dict[str, float]]], peer: str, tp: int
) -> None:
    cases = CASES[peer]
    if peer == "Megatron" and tp == 1:
        cases = {case for case in cases if "sequence" not in case}
    for of_rank in found:
        start = f"{tp} {peer} "
        compared = {
            key.removeprefix(start): of_rank[key] for key in of_rank if key.startswith(start)
        }
        assert set(compared) == cases
        wrong = {
            case: differences
            for case, differences in compared.items()
            if not max(differences.values()) <= TOLERANCE[case.split()[-1]]
        }
        assert wrong == {}
