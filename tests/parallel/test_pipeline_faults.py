"""A stage that fails while others wait: the run ends at once, and the cause stands first."""

import re
import textwrap
import time

import pytest

from mpviz import ParallelLayout, RanksError
from mpviz.world import World

PROGRAM = """
import os, signal, time, torch
import torch.distributed as dist
from torch import nn
from mpviz import schedule
from mpviz.parallel import pipeline

class Fails(nn.Linear):
    calls = 0
    def __init__(self, fail, good=0):
        super().__init__(4, 4)
        self.fail, self.good = fail, good
    def forward(self, x):
        self.calls += 1
        if self.calls > self.good:
            self.fail()
        return super().forward(x)

def cause():
    raise ValueError("the cause")

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def run(stage, make=schedule.one_forward_one_backward, microbatches=8, **others):
    pp = layout.pp
    plan = make(pp=pp, microbatches=microbatches)
    stages = stage if isinstance(stage, dict) else {pp_rank: stage}
    given = {"inputs": torch.ones(microbatches, 2, 4), "loss": torch.Tensor.mean,
             "group": groups["pp"], **others}
    pipeline.execute(plan, stages, **given)

run({stage: nn.Linear(4, 4) for stage in (pp_rank,)}, microbatches=2)
"""
# From the cause to the report, of the 60 s that a run may take. A quiet machine takes 1.5.
AT_ONCE = 10.0


CALL = "line n: pipeline.execute(plan, stages, **given)"
ANEW = "The ranks start anew with the next run; their variables are gone."


def broken(source, timeout=60.0, **layout):
    """What a cell says that fails in a warm world, what became of the ranks, and the seconds."""
    with World(ParallelLayout(**layout), timeout=timeout) as world:
        world.cell(PROGRAM)
        begun = time.monotonic()
        with pytest.raises(RanksError) as caught:
            world.cell(PROGRAM + textwrap.dedent(source))
        seconds = time.monotonic() - begun
    lines = re.sub(r"line \d+", "line n", str(caught.value)).splitlines()
    return lines, caught.value.diagnosis.states, seconds


def test_a_last_stage_that_raises():
    source = "run(Fails(cause) if rank == 7 else nn.Linear(4, 4))"
    lines, states, seconds = broken(source, gpus_per_node=8, pp=8)
    assert lines == [
        "1 of 8 ranks raised ValueError: the cause",
        '  rank 7, line n: raise ValueError("the cause")',
        f"ranks 0 1 2 3 4 5 6 wait in pipeline.execute, {CALL}",
        "  rank 6 waits for the gradient that stage 7 sends for microbatch 0, to run 6B0: "
        "rank 7 (raised ValueError)",
        "  ranks 0 1 2 3 4 5 wait for ranks that wait themselves",
        ANEW,
    ]
    waiting = dict.fromkeys(range(7), "waits in pipeline.execute")
    assert states == {**waiting, 7: "raised ValueError"}
    assert seconds < AT_ONCE


FAILING = {
    "a first stage": (
        "run(Fails(cause, good=3) if rank == 0 else nn.Linear(4, 4))",
        "raised ValueError", 0,
        # How far rank 1 came is a race.
        r"  rank 1 waits for the (output that stage 0 sends for microbatch \d, to run 1F\d"
        r"|gradient that stage 2 sends for microbatch \d, to run 1B\d).*",
    ),
    "a stage in the middle": (
        "run(Fails(cause, good=2) if rank == 1 else nn.Linear(4, 4))",
        "raised ValueError", 1,
        r"  rank 0 waits for the gradient that stage 1 sends for microbatch 0, to run 0B0: "
        r"rank 1 \(raised ValueError\)",
    ),
    "a backward": (
        """
        stage = nn.Linear(4, 4)
        if rank == 2:
            stage.weight.register_hook(lambda gradient: cause())
        run(stage)
        """,
        "raised ValueError", 2,
        r"  rank 3 waits for the output that stage 2 sends for microbatch \d, to run 3F\d: "
        r"rank 2 \(raised ValueError\)",
    ),
    "a stage of several on its rank": (
        """
        stages = {n: nn.Linear(4, 4) for n in (pp_rank, pp_rank + 4)}
        run({**stages, 7: Fails(cause)} if rank == 3 else stages, schedule.interleaved_1f1b)
        """,
        "raised ValueError", 3,
        r"  rank 2 waits for the gradient that stage 7 sends for microbatch 0, to run 6B0: .*",
    ),
    "before a rank begins": (
        "cause() if rank == 2 else run(nn.Linear(4, 4))",
        "raised ValueError", 2,
        r"  all ranks: ranks 0 1 3 came, never came: rank 2 \(raised ValueError\)",
    ),
    "a stage whose process is killed": (
        "run(Fails(die, good=2) if rank == 2 else nn.Linear(4, 4))",
        "died, killed by signal 9 (SIGKILL)", 2,
        r"ranks? .* then lost the connection\.",
    ),
    "a rank that left": (
        "cause() if rank == 3 else run(nn.Linear(4, 4)) if rank else time.sleep(0)",
        "raised ValueError", 3,
        r"  all ranks: ranks 1 2 came, never came: rank 0 \(done\); rank 3 \(raised ValueError\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILING)
def test_the_others_are_not_waited_for(name):
    source, state, culprit, line = FAILING[name]
    lines, states, seconds = broken(source, gpus_per_node=4, pp=4)
    text = "\n".join(lines)
    assert states[culprit] == state
    assert lines[0].startswith(("1 of 4 ranks raised ValueError: the cause", "rank 2 died"))
    assert any(re.fullmatch(line, one) for one in lines), text
    assert "TimeoutError" not in text
    assert len(lines) < 9, text
    assert seconds < AT_ONCE


def test_another_pipeline_goes_on_and_is_done():
    # Ranks 0 2 and 1 3. That of 1 3 fails at once; that of 0 2 takes a second, in which each of
    # its ranks often waits for the other.
    source = """
        pair = pipeline.EmulatedStage(0.1, 0.1)
        run((Fails(cause) if rank == 3 else nn.Linear(4, 4)) if rank % 2 else pair, microbatches=5)
        done = rank
    """
    lines, states, seconds = broken(source, gpus_per_node=4, pp=2)
    assert states == {
        0: "done", 1: "waits in pipeline.execute", 2: "done", 3: "raised ValueError",
    }  # fmt: skip
    assert lines == [
        "1 of 4 ranks raised ValueError: the cause",
        '  rank 3, line n: raise ValueError("the cause")',
        f"rank 1 waits in pipeline.execute, {CALL}",
        "  rank 1 waits for the gradient that stage 1 sends for microbatch 0, to run 0B0: "
        "rank 3 (raised ValueError)",
        ANEW,
    ]
    assert 1 < seconds < 1 + AT_ONCE + 2


def test_another_pipeline_that_does_not_end_costs_the_deadline():
    source = """
        stage = Fails(cause) if rank == 3 else nn.Linear(4, 4)
        run(stage) if rank % 2 else time.sleep(600)
    """
    lines, states, seconds = broken(source, timeout=4, gpus_per_node=4, pp=2)
    assert lines[0] == "1 of 4 ranks raised ValueError: the cause"
    assert "ranks 0 2 busy at line n: run(stage) if rank % 2 else time.sleep(600)" in lines
    assert states == {
        0: "busy", 1: "waits in pipeline.execute", 2: "busy", 3: "raised ValueError",
    }  # fmt: skip
    assert 4 <= seconds < 4 + 2


def test_timeouts_that_follow_from_a_failure_are_one_line():
    # Ranks 0 2 4 … are one pipeline; rank 1 keeps the run from ending at once.
    source = """
        if rank % 2 == 0:
            run(Fails(cause) if rank == 14 else nn.Linear(4, 4), timeout=1.5)
        elif rank == 1:
            time.sleep(4)
    """
    lines, states, _ = broken(source, gpus_per_node=16, pp=8)
    assert lines[:2] == [
        "1 of 16 ranks raised ValueError: the cause",
        '  rank 14, line n: raise ValueError("the cause")',
    ]
    assert lines[2] in {
        "ranks 0 2 4 6 8 10 12 then waited in vain.",
        "ranks 0 2 4 6 8 10 12 then lost the connection or waited in vain.",
    }
    assert lines[3:] == [ANEW]
    assert states[14] == "raised ValueError" and states[1] == states[15] == "done"
    assert {states[rank] for rank in range(0, 14, 2)} <= {"waited in vain", "lost the connection"}
