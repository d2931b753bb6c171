"""Copies that learn from their mean gradient, beside one process that accumulates the parts."""

from pathlib import Path

import pytest

from mpviz import ParallelLayout
from mpviz.world import World

PROGRAM = (Path(__file__).parent / "data_ranks.py").read_text()
OURS = ["DDP", "DDP without overlap", "stage 0", "stage 1", "stage 2", "fully_shard"]
TORCHS = ["torch's DDP", "torch's ZeroRedundancyOptimizer", "torch's fully_shard"]
# Means of at most 8 parts in another order, five steps on. A rounding is 1.1e-16 or 6e-8.
TOLERANCE = {"float64": 2e-14, "float32": 1e-5}

SIZES = [(1, 1), (2, 1), (4, 1), (1, 2), (2, 2), (4, 2)]


def world_of(dp, cp=1, tp=1, pp=1):
    layout = ParallelLayout(gpus_per_node=dp * cp * tp * pp, cp=cp, tp=tp, pp=pp)
    assert layout.dp == dp
    return World(layout, timeout=90)


@pytest.fixture(scope="module", params=SIZES, ids=lambda sizes: "dp{} cp{}".format(*sizes))
def world(request):
    with world_of(*request.param) as world:
        world.cell(PROGRAM + "\ngroup = groups['dp-cp']")
        yield world


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("kind", ["SGD", "AdamW", "Adam"])
def test_five_steps_are_those_of_one_process(world, kind, dtype):
    ranks = world.layout.dp * world.layout.cp
    ways = [*OURS, *(TORCHS if kind != "Adam" and world.layout.cp == 1 else [])]
    for found in world.cell(f"differences({ways}, {kind!r}, {dtype!r}, group)"):
        assert set(found) == set(ways)
        assert {way: worst for way, worst in found.items() if not worst <= TOLERANCE[dtype]} == {}
        if ranks <= 2:  # a sum of two does not depend on the order
            assert {way: found[way] for way in OURS if found[way] != 0} == {}


def test_all_ranks_come_to_the_same_bits(world):
    for way in OURS[:-1]:
        world.cell(
            f"model, optimizer, _ = OURS[{way!r}](make(seed=rank), group, OPTIMIZERS['Adam'])\n"
            f"for x in data(group.size()):\n"
            f"    optimizer.zero_grad()\n"
            f"    loss_of(model(x[group.rank()])).backward()\n"
            f"    optimizer.step()"
        )
        assert list(world.cell("parallel.copies_agree(model, group)")) == [True] * len(world.pids)
