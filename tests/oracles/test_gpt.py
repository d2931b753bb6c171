"""A cut GPT beside Megatron's own GPTModel: same weights, same groups, same microbatches."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

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
    folder = tmp_path_factory.mktemp("gpt")
    program = Path(__file__).with_name("gpt_ranks.py")
    log = folder / "log"
    with log.open("w") as output:
        # Its own session, so that it and its ranks can be ended together.
        nursery = subprocess.Popen(
            [sys.executable, "-W", "ignore", program, folder],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            nursery.wait(timeout=170)
        except subprocess.TimeoutExpired:
            pytest.fail(f"{RANKS} ranks did not finish in 170 s\n{log.read_text()}")
        finally:
            # The error only says that nothing is left.
            with suppress(ProcessLookupError):
                os.killpg(nursery.pid, signal.SIGKILL)
            nursery.wait()
    answers = [folder / f"{rank}.json" for rank in range(RANKS)]
    written = [json.loads(path.read_text()) if path.exists() else {} for path in answers]
    failures = [answer.get("failure", "") for answer in written]
    if any(failures) or not all(written):
        pytest.fail("\n".join([*failures, log.read_text()]))
    return written


def test_losses_and_every_gradient_are_megatrons(found: list[dict[str, dict[str, float]]]) -> None:
    for cases in found:
        assert set(cases) == CASES
        for case, errors in cases.items():
            per_layer = 12 if case.startswith("GPT-2") else 6
            pp = int(case.split("pp=")[1][0])
            assert len(errors) >= 1 + per_layer * 4 // pp
            assert {name: e for name, e in errors.items() if not e < TOLERANCE} == {}, case
