"""A GPT cut over real ranks: the numbers of the same GPT in one process, whatever the layout."""

from pathlib import Path

import pytest

from mpviz import ParallelLayout
from mpviz.world import World

PROGRAM = (Path(__file__).parent / "gpt_ranks.py").read_text()

# Only the order of sums differs: a sum of n numbers is wrong by at most n roundings, of 1.1e-16
# each, of the largest part. Here n < 1,000, and 12 layers of sums lie behind each other; measured:
# 1.3e-15 of the largest gradient of a parameter.
TOLERANCE = 1e-12

# tp, pp, dp; then what they run: plan, model, sequence parallelism.
CASES = {
    (1, 1, 1): [("gpipe", "gpt-2", False), ("zb-h1", "llama", True)],
    (2, 1, 1): [("1f1b", "gpt-2", True), ("gpipe", "llama, tied", False)],
    (4, 1, 1): [("1f1b", "llama", True), ("zb-h1", "gpt-2", False)],
    (1, 2, 1): [("interleaved", "gpt-2", False), ("zb-v", "gpt-2", False)],
    (1, 4, 1): [("1f1b", "llama, tied", False), ("zb-h1", "llama", False)],
    (1, 1, 2): [("1f1b", "gpt-2", False)],
    (2, 2, 1): [
        *(("gpipe", "gpt-2", True), ("1f1b", "llama", False), ("zb-h1", "llama, tied", True)),
        *(("interleaved", "llama, tied", True), ("zb-v", "llama, tied", True)),
    ],
    (2, 1, 2): [("gpipe", "llama, tied", True)],
    (1, 2, 2): [("1f1b", "gpt-2", False), ("zb-v", "llama, tied", False)],
    (4, 2, 1): [("interleaved", "llama", True), ("1f1b", "gpt-2", False)],
    (2, 4, 1): [("zb-v", "gpt-2", True), ("1f1b", "llama, tied", True)],
    (4, 1, 2): [("1f1b", "llama, tied", True)],
    (2, 2, 2): [("interleaved", "gpt-2", False), ("zb-h1", "llama", True)],
    (2, 4, 2): [("1f1b", "gpt-2", True), ("zb-v", "llama, tied", False)],
}


def world_of(tp, pp, dp, timeout=60):
    return World(ParallelLayout(gpus_per_node=tp * pp * dp, tp=tp, pp=pp), timeout=timeout)


@pytest.mark.parametrize("sizes", CASES, ids=lambda sizes: "tp{}-pp{}-dp{}".format(*sizes))
def test_loss_and_every_gradient_are_those_of_one_process(sizes):
    with world_of(*sizes) as world:
        world.cell(PROGRAM)
        for plan, model, sequence_parallel in CASES[sizes]:
            call = f"differences({model!r}, {plan!r}, groups, {sequence_parallel})"
            results = list(world.cell(call))
            compared = set().union(*results)
            weights = {name for name in compared if name.startswith("layers.")}
            assert len(weights) == 8 * (12 if model == "gpt-2" else 6)
            assert {"loss", "norm", "embedding.word_embeddings.weight"} <= compared
            wrong = {n: e for errors in results for n, e in errors.items() if not e < TOLERANCE}
            assert wrong == {}, (plan, model, sequence_parallel)
