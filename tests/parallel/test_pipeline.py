"""Plans executed on real ranks: the numbers of one process, and the events of the plan."""

import os
import subprocess
import sys
from collections import defaultdict
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from schedule.plans import plans, plans_of, reordered

from mpviz import ParallelLayout, schedule
from mpviz.schedule import Action, validate
from mpviz.timeline import Timeline, simulate
from mpviz.world import World

PROGRAM = (Path(__file__).parent / "pipeline_ranks.py").read_text()
# In float64; sums in another order differ by some 1e-16.
TOLERANCE = 1e-12


@pytest.fixture(scope="module")
def worlds():
    """Four ranks as one pipeline of 4, or as two of 2: ranks 0 2 and ranks 1 3; and one alone."""
    layouts = {pp: ParallelLayout(gpus_per_node=1 if pp == 1 else 4, pp=pp) for pp in (1, 2, 4)}
    made = {pp: World(layout, timeout=60) for pp, layout in layouts.items()}
    yield made
    for world in made.values():
        world.close()


@pytest.fixture(scope="module")
def execute(worlds):
    """Execute a plan on every pipeline of its world; return the time line of the first."""
    for world in worlds.values():
        world.cell(PROGRAM)

    def execute(plan, kinds=("chain",), times=1):
        world = worlds[plan.pp]
        call = f"compare({plan.text!r}, {kinds!r}, groups, pp_rank, {times})"
        results = list(world.cell(call))
        for rank, (difference, has_loss, _) in enumerate(results):
            assert difference < TOLERANCE
            holds_the_last = plan.placement[-1] == world.layout.coordinates(rank)["pp"]
            assert has_loss == holds_the_last
        first = world.layout.groups("pp")[0]
        return Timeline(chain.from_iterable(results[rank][2] for rank in first), pp=plan.pp)

    return execute


def of_ranks(timeline):
    """What each rank computed, in order of time."""
    ranks = [[] for _ in range(timeline.pp)]
    for event in timeline.work:
        ranks[event.rank].append(Action(event.stage, event.name, event.microbatch))
    return tuple(map(tuple, ranks))


PLANS = [
    plan for pp, m in ((1, 2), (2, 4), (2, 1), (4, 4), (4, 8), (4, 3)) for plan in plans_of(pp, m)
]
PLANS = [plan for plan in PLANS if plan.chunks <= 2]


# ---- numbers


@pytest.mark.parametrize("plan", PLANS, ids=lambda p: f"{p.name} {p.pp} {p.microbatches}")
def test_losses_and_gradients_are_those_of_one_process(execute, plan):
    execute(plan)


@pytest.mark.parametrize(
    "kinds",
    [
        ("linear",), ("residual",), ("tied",), ("chain", "no weights"), ("embedding", "residual"),
        ("no weights", "linear"), ("linear", "constant"), ("constant", "linear"),
        ("frozen", "chain"), ("chain", "frozen"), ("frozen",),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "make", [schedule.one_forward_one_backward, schedule.zero_bubble_h1, schedule.zero_bubble_v]
)
def test_any_module_can_be_a_stage(execute, make, kinds):
    execute(make(pp=2, microbatches=3), kinds)


@pytest.mark.parametrize("make", [schedule.gpipe, schedule.zero_bubble_v])
def test_gradients_add_up_from_run_to_run(execute, make):
    execute(make(pp=4, microbatches=4), times=3)


def test_stages_may_go_back_differently(execute):
    execute(schedule.parse("0F0 0I0 0F1 0W0 0B1\n1F0 1B0 1F1 1I1 1W1"))


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=plans(pp=4, microbatches=4, least_pp=4).flatmap(reordered))
def test_what_the_validator_accepts_never_hangs(execute, plan):
    try:
        validate(plan)
    except ValueError:
        return
    assert of_ranks(execute(plan)) == plan.actions


# ---- events


@pytest.mark.parametrize("plan", list(plans_of(4, 4)), ids=lambda plan: plan.name)
def test_the_events_are_those_of_the_simulation(execute, plan):
    measured, simulated = execute(plan), simulate(plan)
    assert of_ranks(measured) == of_ranks(simulated) == plan.actions
    assert measured.peak_in_flight == simulated.peak_in_flight
    assert Timeline.from_json(measured.to_json()) == measured


@pytest.mark.parametrize("plan", list(plans_of(4, 4)), ids=lambda plan: plan.name)
def test_all_ranks_read_one_clock(execute, plan):
    timeline = execute(plan)
    assert min(event.start for event in timeline.events) >= 0
    end = {(e.stage, e.name, e.microbatch): e.end for e in timeline.work}
    for event in timeline.work:
        k, last = event.microbatch, plan.stages - 1
        if event.name == "F" and event.stage > 0:
            assert event.start > end[event.stage - 1, "F", k]
        elif event.name in "BI" and event.stage < last:
            assert event.start > end.get((event.stage + 1, "B", k), 0)
            assert event.start > end.get((event.stage + 1, "I", k), 0)


@pytest.mark.parametrize("plan", list(plans_of(4, 4)), ids=lambda plan: plan.name)
def test_messages_are_sent_and_waited_for_once(execute, plan):
    timeline = execute(plan)
    by_name = defaultdict(list)
    for event in timeline.events:
        by_name[event.name].append(event)
    assert len(by_name["send"]) == len(by_name["recv"]) == plan.messages
    sent = sorted((e.rank, e.peer, e.microbatch, e.bytes) for e in by_name["send"])
    assert sent == sorted((e.peer, e.rank, e.microbatch, e.bytes) for e in by_name["recv"])
    assert {e.bytes for e in by_name["send"]} == {3 * 6 * 8}
    assert {e.group for e in by_name["send"] + by_name["recv"]} == {(0, 1, 2, 3)}
    for rank in range(4):
        mine = [event for event in timeline.events if event.rank == rank]
        assert all(a.end <= b.start for a, b in zip(mine, mine[1:]))  # noqa: B905, RUF007


def test_what_torch_records_are_the_same_messages(worlds, execute):
    plan = schedule.one_forward_one_backward(pp=4, microbatches=4)
    execute(plan)
    call = f"compare({plan.text!r}, ('chain',), groups, pp_rank)"
    seen = [event.name for event in worlds[4].cell(call, record=True).events]
    headers = 2 * 3  # before the first output that crosses each boundary, and the first gradient
    assert set(seen) == {"isend", "irecv"}
    assert seen.count("isend") == seen.count("irecv") == plan.messages + headers


def test_emulated_stages_take_the_time_they_are_given(worlds, execute):
    plan = schedule.zero_bubble_h1(pp=2, microbatches=2)
    for text, seconds in (
        (plan.text, {"F": 0.01, "I": 0.02, "W": 0.03}),
        (schedule.gpipe(pp=2, microbatches=2).text, {"F": 0.01, "B": 0.05}),
    ):
        results = worlds[2].cell(f"emulate({text!r}, groups, pp_rank)")
        events = list(chain.from_iterable(results))
        for kind, least in seconds.items():
            durations = [event.duration for event in events if event.name == kind]
            # A sleep is never too short; in W it is the only one, in F and I too.
            assert len(durations) == 8 and min(durations) >= least


@pytest.mark.parametrize("make", [schedule.one_forward_one_backward, schedule.zero_bubble_h1])
def test_what_was_received_is_not_kept(worlds, execute, make):
    alive = []
    for microbatches in (12, 24):
        plan = make(pp=2, microbatches=microbatches)
        results = worlds[2].cell(f"messages_alive({plan.text!r}, groups, pp_rank)")
        alive.append([results[rank] for rank in worlds[2].layout.groups("pp")[0]])
    first, last = alive[0]
    # Rank 0 holds 2 microbatches' activations, each with a tensor to be sent. Rank 1 holds one (or
    # two, until their W) and room for the next two, and has sent a gradient that may be on its way.
    assert first <= 2 * 2 + 1
    assert last <= 2 + 2 + 2
    assert alive[0] == alive[1]


# ---- elsewhere than under a World

UNDER_TORCHRUN = """
import os, sys, torch, torch.distributed as dist
from mpviz import schedule
from mpviz.parallel import pipeline
dist.init_process_group("gloo")
rank, plan = dist.get_rank(), schedule.zero_bubble_v(pp=2, microbatches=3)
torch.manual_seed(0)
stages = [torch.nn.Linear(2, 2) for _ in range(4)]
x = torch.randn(3, 1, 2)
run = pipeline.execute(
    plan, {s: stages[s] for s in plan.stages_of(rank)}, inputs=x, loss=torch.Tensor.mean,
    group=dist.group.WORLD, timeout=30,
)
mine = [stages[s].weight.grad.clone() for s in plan.stages_of(rank)]
whole = torch.nn.Sequential(*stages)
whole.zero_grad()
whole(x).mean().backward()
for s, gradient in zip(plan.stages_of(rank), mine):
    torch.testing.assert_close(gradient, stages[s].weight.grad)
assert (run.loss is None) == (rank == 1) and "mpviz.world" not in sys.modules
dist.barrier()
dist.destroy_process_group()
os._exit(0)  # what torch does at an interpreter's end has aborted a process once
"""


def test_it_works_under_torchrun(tmp_path):
    script = tmp_path / "program.py"
    script.write_text(UNDER_TORCHRUN)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    loopback = "lo0" if sys.platform == "darwin" else "lo"
    done = subprocess.run(
        [*torchrun, str(script)],
        env={**os.environ, "GLOO_SOCKET_IFNAME": loopback, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
