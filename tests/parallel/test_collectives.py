"""The operators between the parts of a layer on real ranks, beside loops over all tensors."""

from pathlib import Path

import pytest

from mpviz import ParallelLayout
from mpviz.world import World

PROGRAM = (Path(__file__).parent / "collectives_ranks.py").read_text()


@pytest.fixture(scope="module", params=[1, 2, 4])
def world(request):
    with World(ParallelLayout(gpus_per_node=request.param, tp=request.param), timeout=60) as world:
        world.cell(PROGRAM)
        yield world


@pytest.mark.parametrize(
    "name",
    [
        *("copy_to", "reduce_from", "scatter_to", "gather_from", "reduce_scatter"),
        *("scatter_to_sequence", "gather_from_sequence", "gather_from_sequence, whole"),
    ],
)
def test_forward_and_backward_are_those_of_a_loop_and_the_input_stays(world, name):
    assert list(world.cell(f"faults({name!r})")) == [[]] * world.layout.tp


@pytest.mark.parametrize("function", ["column_then_row", "columns", "tokens"])
def test_gradients_are_those_of_finite_differences_even_the_second(world, function):
    assert list(world.cell(f"is_the_gradient({function})")) == [True] * world.layout.tp


def test_an_addend_that_nobody_needs_may_become_the_sum(world):
    tp = world.layout.tp
    total = [sum(range(1, tp + 1))] * 3
    assert list(world.cell("summed_in_place()")) == [(True, total, [1.0] * 3)] * tp


def test_an_addend_that_backward_needs_is_not_changed_unnoticed(world):
    for said in world.cell("summed_in_place_though_needed()"):
        assert ("modified by an inplace operation" in said) == (world.layout.tp > 1)


def test_one_rank_alone_gets_its_input_back(world):
    calls = ", ".join(
        f"OPERATORS[{name!r}][0](x, group) is x" for name in ("copy_to", "gather_from_sequence")
    )
    same = world.layout.tp == 1
    assert list(world.cell(f"x = torch.ones(4, 4)\n[{calls}]")) == [[same] * 2] * world.layout.tp
