"""Losses and gradients of plans on real ranks, beside those of torch.distributed.pipelining."""

from pathlib import Path

import pytest

from mpviz import ParallelLayout, schedule
from mpviz.world import World

pytestmark = pytest.mark.oracle

PROGRAM = (Path(__file__).parent / "pipelining_ranks.py").read_text()
# In float64; sums in another order differ by some 1e-16.
TOLERANCE = 1e-12


@pytest.fixture(scope="module", params=[2, 4])
def world(request):
    with World(ParallelLayout(gpus_per_node=request.param, pp=request.param), timeout=60) as world:
        world.cell(PROGRAM)
        yield world


PAIRS = {
    "ScheduleGPipe": lambda pp: schedule.gpipe(pp=pp, microbatches=pp + 2),
    "Schedule1F1B": lambda pp: schedule.one_forward_one_backward(pp=pp, microbatches=pp + 2),
    "ScheduleInterleaved1F1B": lambda pp: schedule.interleaved_1f1b(pp=pp, microbatches=2 * pp),
    "ScheduleInterleavedZeroBubble": lambda pp: schedule.zero_bubble_h1(pp=pp, microbatches=2 * pp),
    "ScheduleZBVZeroBubble": lambda pp: schedule.zero_bubble_v(pp=pp, microbatches=2 * pp),
}


@pytest.mark.parametrize("name", PAIRS)
def test_side_by_side(world, name):
    plan = PAIRS[name](world.layout.pp)
    results = list(world.cell(f"apart({name!r}, {plan.text!r}, groups['pp'], pp_rank)"))
    for rank, (losses, gradients) in enumerate(results):
        assert len(losses) == (plan.microbatches if rank == plan.placement[-1] else 0)
        assert len(gradients) == 2 * plan.chunks
        assert max(losses + gradients) < TOLERANCE
