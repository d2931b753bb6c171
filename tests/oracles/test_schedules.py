"""The order of every plan against that of torch.distributed.pipelining, without a process."""

from collections.abc import Callable, Iterable
from itertools import zip_longest
from typing import Any
from unittest.mock import patch

import pytest
from schedule.plans import LARGEST_PP, MOST_CHUNKS, MOST_MICROBATCHES

from mpviz import schedule
from mpviz.schedule import Plan

pytestmark = pytest.mark.oracle

SIZES = [(pp, m) for pp in range(1, LARGEST_PP + 1) for m in range(1, MOST_MICROBATCHES + 1)]


class FakeStage:
    """As much of a PipelineStage as torch looks at; it notes what it is told to compute."""

    group = None
    has_backward = True
    submod = None

    def __init__(self, pp: int, rank: int, stage: int, stages: int) -> None:
        self.group_size, self.group_rank = pp, rank
        self.stage_index, self.num_stages = stage, stages
        self.is_first, self.is_last = stage == 0, stage == stages - 1
        self.noted: list[str] = []

    def forward_one_chunk(self, microbatch: int, *_: Any, **__: Any) -> None:
        self.noted.append(f"{self.stage_index}F{microbatch}")

    def backward_one_chunk(self, microbatch: int, **_: Any) -> None:
        self.noted.append(f"{self.stage_index}B{microbatch}")

    def __getattr__(self, name: str) -> Callable[..., list[Any]]:
        if name.startswith(("get_", "perform_", "clear_")):
            return lambda *_: []
        raise AttributeError(name)


def executed(name: str, pp: int, microbatches: int) -> list[list[str]]:
    """What a schedule of one stage for each rank really runs, in order.

    Not what it lists: that of Schedule1F1B (torch 2.13) begins on the last rank with microbatch 1.
    """
    from torch.distributed.pipelining import schedules

    orders = []
    for rank in range(pp):
        stage = FakeStage(pp, rank, rank, pp)
        plan = getattr(schedules, name)(stage, microbatches)
        nothing = [()] * microbatches
        with (
            patch.object(plan, "_initialize_stage"),
            patch.object(plan, "_check_inputs", return_value=(nothing, nothing)),
            patch.object(plan, "_maybe_compute_loss"),
        ):
            plan._step_microbatches(nothing, nothing)
        orders.append(stage.noted)
    return orders


def listed(name: str, pp: int, microbatches: int, stages: Iterable[int]) -> list[list[str]]:
    """The orders that a schedule of several stages lists for every rank."""
    from torch.distributed.pipelining import schedules

    stages = list(stages)
    fakes = [FakeStage(pp, 0, stage, pp * len(stages)) for stage in stages]
    order = getattr(schedules, name)(fakes, microbatches).pipeline_order
    return [
        [str(action) for action in order[rank] if action is not None and action.is_compute_op]
        for rank in range(pp)
    ]


def orders(plan: Plan) -> list[list[str]]:
    return [[str(action) for action in mine] for mine in plan.actions]


def compare(plan: Plan, theirs: list[list[str]]) -> None:
    for rank, (mine, their) in enumerate(zip_longest(orders(plan), theirs)):
        assert mine == their, f"{plan.name}, pp={plan.pp}, m={plan.microbatches}, rank {rank}"


def test_gpipe() -> None:
    for pp, m in SIZES:
        compare(schedule.gpipe(pp=pp, microbatches=m), executed("ScheduleGPipe", pp, m))


def test_1f1b() -> None:
    for pp, m in SIZES:
        if m >= pp:  # torch refuses fewer
            plan = schedule.one_forward_one_backward(pp=pp, microbatches=m)
            compare(plan, executed("Schedule1F1B", pp, m))


@pytest.mark.parametrize("chunks", range(2, MOST_CHUNKS + 1))
def test_interleaved_1f1b(chunks: int) -> None:
    for pp, m in SIZES:
        if pp > 1 and m % pp == 0:
            plan = schedule.interleaved_1f1b(pp=pp, microbatches=m, chunks=chunks)
            theirs = listed("ScheduleInterleaved1F1B", pp, m, range(0, pp * chunks, pp))
            compare(plan, theirs)


def test_zb_h1_is_torchs_zero_bubble_with_one_stage_for_each_rank() -> None:
    for pp, m in SIZES:
        if m % max(1, m // pp) == 0:  # torch refuses others
            plan = schedule.zero_bubble_h1(pp=pp, microbatches=m)
            compare(plan, listed("ScheduleInterleavedZeroBubble", pp, m, [0]))


def test_zb_v() -> None:
    for pp, m in SIZES:
        if pp > 1:
            plan = schedule.zero_bubble_v(pp=pp, microbatches=m)
            compare(plan, listed("ScheduleZBVZeroBubble", pp, m, [0, 2 * pp - 1]))
