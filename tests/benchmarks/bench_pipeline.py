"""Pipelines: how fast one is simulated, what executing it costs beside torch's, how true it is.

    python tests/benchmarks/bench_pipeline.py

Takes a minute. On a machine with other work the last two tables say more about that.
"""

from collections.abc import Callable
from itertools import chain
from statistics import median
from time import perf_counter
from typing import Any

from mpviz import ParallelLayout, schedule
from mpviz.schedule import Plan
from mpviz.timeline import Timeline, simulate
from mpviz.world import World

LARGE = {"pp": 64, "microbatches": 512, "chunks": 4}
SIMULATION_AIM = 2.0
TINY_MICROBATCHES, STEPS = 64, 15
EMULATED = {"F": 0.02, "B": 0.04, "I": 0.02, "W": 0.02}
BUBBLE_RUNS, BUBBLE_AIM = 10, 3.0
TORCHS = {
    "ScheduleGPipe": schedule.gpipe(pp=2, microbatches=TINY_MICROBATCHES),
    "Schedule1F1B": schedule.one_forward_one_backward(pp=2, microbatches=TINY_MICROBATCHES),
    "ScheduleInterleaved1F1B": schedule.interleaved_1f1b(pp=2, microbatches=TINY_MICROBATCHES),
    "ScheduleInterleavedZeroBubble": schedule.zero_bubble_h1(pp=2, microbatches=TINY_MICROBATCHES),
    "ScheduleZBVZeroBubble": schedule.zero_bubble_v(pp=2, microbatches=TINY_MICROBATCHES),
}


def simulation() -> None:
    """Print how long it takes to plan and simulate a large pipeline."""
    durations = []
    for _ in range(5):
        start = perf_counter()
        timeline = simulate(schedule.interleaved_1f1b(**LARGE))
        durations.append(perf_counter() - start)
    met = "met" if median(durations) < SIMULATION_AIM else "NOT met"
    print(
        f"plan + simulate p=64, m=512, v=4 ({len(timeline.work):,} actions): "
        f"{median(durations):.2f} s (aim < {SIMULATION_AIM:g} s {met})\n"
    )


# ---- beside torch.distributed.pipelining, with stages that compute next to nothing


def tiny_steps(name: str, plan: Plan, groups: Any, pp_rank: int) -> tuple[list[float], list[float]]:
    """Seconds of each step on this rank, by mpviz and by torch in turn."""
    import torch
    import torch.distributed as dist
    from torch.distributed.pipelining import PipelineStage, schedules

    from mpviz.parallel import pipeline

    group, mine = groups["pp"], plan.stages_of(pp_rank)
    modules = {stage: torch.nn.Linear(4, 4) for stage in mine}
    x = torch.ones(plan.microbatches, 4)
    first, last = 0 in mine, plan.stages - 1 in mine
    loss = torch.nn.functional.mse_loss
    held: Any = [
        PipelineStage(module, stage, plan.stages, torch.device("cpu"), group=group)
        for stage, module in modules.items()
    ]
    kind = getattr(schedules, name)
    if issubclass(kind, schedules.PipelineScheduleSingle):
        (held,) = held
    order = kind(held, n_microbatches=plan.microbatches, loss_fn=loss)

    def by_mpviz() -> None:
        inputs = targets = x.chunk(plan.microbatches)
        pipeline.execute(plan, modules, inputs=inputs, targets=targets, loss=loss, group=group)

    def by_torch() -> None:
        order.step(*([x] if first else []), target=x if last else None)

    def seconds(step: Callable[[], None]) -> float:
        dist.barrier(group)
        start = perf_counter()
        step()
        dist.barrier(group)
        return perf_counter() - start

    pairs = [(seconds(by_mpviz), seconds(by_torch)) for _ in range(STEPS + 2)][2:]
    return [ours for ours, _ in pairs], [theirs for _, theirs in pairs]


def overhead() -> None:
    """Print milliseconds per microbatch of both."""
    print(f"tiny stages, p=2, m={TINY_MICROBATCHES}: milliseconds per microbatch")
    print(f"{'':<32}{'mpviz':>8}{'torch':>8}{'ratio':>8}   (aim: no slower)")
    with World(ParallelLayout(gpus_per_node=2, pp=2)) as world:
        for name, plan in TORCHS.items():
            ours, theirs = world.run(tiny_steps, name, plan)[0]
            each = [1e3 * median(steps) / TINY_MICROBATCHES for steps in (ours, theirs)]
            # Of two steps in a row: what else the machine does hits both.
            ratio = median(a / b for a, b in zip(ours, theirs, strict=True))
            met = "met" if ratio <= 1 else "NOT met"
            print(f"{name:<32}{each[0]:>8.3f}{each[1]:>8.3f}{ratio:>8.2f}   {met}")
    print()


# ---- measured beside simulated


def emulated(plan: Plan, groups: Any, pp_rank: int) -> Any:
    """Execute a plan of stages that wait."""
    import torch

    from mpviz.parallel import pipeline

    seconds = (EMULATED["F"], EMULATED["B"])
    stages = {stage: pipeline.EmulatedStage(*seconds) for stage in plan.stages_of(pp_rank)}
    x, loss = torch.ones(plan.microbatches, 1), torch.Tensor.mean
    return pipeline.execute(plan, stages, inputs=x, loss=loss, group=groups["pp"])


def multiplied(plan: Plan, groups: Any, pp_rank: int) -> Any:
    """Execute a plan of stages that multiply matrices."""
    import torch

    from mpviz.parallel import pipeline

    layers = [torch.nn.Linear(1024, 1024) for _ in range(4)]
    stages = {stage: torch.nn.Sequential(*layers) for stage in plan.stages_of(pp_rank)}
    x, loss = torch.ones(plan.microbatches, 256, 1024), torch.Tensor.mean
    return pipeline.execute(plan, stages, inputs=x, loss=loss, group=groups["pp"])


def measured(world: World, stage: Callable[..., Any], plan: Plan) -> Timeline:
    runs = world.run(stage, plan)
    return Timeline(chain.from_iterable(run.events for run in runs), pp=plan.pp)


def bubbles() -> None:
    """Print the bubble fraction, measured minus simulated, of ten runs each."""
    print("bubble fraction, emulated stages of 20 ms, p=4, m=8: measured - simulated, in points")
    with World(ParallelLayout(gpus_per_node=4, pp=4)) as world:
        sizes = {"pp": 4, "microbatches": 8}
        for plan in (
            schedule.gpipe(**sizes),
            schedule.one_forward_one_backward(**sizes),
            schedule.interleaved_1f1b(**sizes, chunks=2),
            schedule.zero_bubble_h1(**sizes),
            schedule.zero_bubble_v(**sizes),
        ):
            expected = simulate(plan, EMULATED).bubble_fraction
            runs = [measured(world, emulated, plan) for _ in range(BUBBLE_RUNS)]
            off = sorted(100 * (run.bubble_fraction - expected) for run in runs)
            met = "met" if max(map(abs, off)) < BUBBLE_AIM else "NOT met"
            print(
                f"{plan.name:<28}simulated {100 * expected:5.1f} %   median {median(off):+.1f}   "
                f"from {off[0]:+.1f} to {off[-1]:+.1f}   (aim within {BUBBLE_AIM:g}: {met})"
            )
    print()


def matrices() -> None:
    """Print the bubble fraction of real products on two ranks; reported, no aim."""
    print("bubble fraction, real products, p=2, m=8")
    with World(ParallelLayout(gpus_per_node=2, pp=2)) as world:
        for plan in (
            schedule.gpipe(pp=2, microbatches=8),
            schedule.one_forward_one_backward(pp=2, microbatches=8),
            schedule.zero_bubble_h1(pp=2, microbatches=8),
        ):
            runs = [measured(world, multiplied, plan) for _ in range(4)][1:]
            kinds = {event.name for event in runs[0].work}
            durations = {
                kind: median(e.duration for run in runs for e in run.work if e.name == kind)
                for kind in kinds
            }
            took = ", ".join(f"{kind} {1e3 * durations[kind]:.0f} ms" for kind in sorted(kinds))
            expected = 100 * simulate(plan, durations).bubble_fraction
            found = 100 * median(run.bubble_fraction for run in runs)
            print(
                f"{plan.name:<28}simulated {expected:5.1f} %   measured {found:5.1f} %   ({took})"
            )


if __name__ == "__main__":
    simulation()
    overhead()
    bubbles()
    matrices()
