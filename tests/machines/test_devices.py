"""Layers on a device, and plans over groups that carry several."""

import pytest
import torch

from mpviz import ParallelLayout, World, schedule


@pytest.fixture(scope="module")
def world():
    layout = ParallelLayout(nodes=1, gpus_per_node=2, pp=2)
    with World(layout, timeout=30) as world:
        yield world


def executed(plan, backend, device, rank):
    """The losses and the gradient of this rank's stage, or what was refused."""
    import torch
    import torch.distributed as dist
    from torch.testing._internal.distributed import fake_pg  # noqa: F401  registers "fake"

    from mpviz.parallel import pipeline

    group = dist.new_group([0, 1], backend=backend)
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(2, 4, 4, generator=generator)
    stage = torch.nn.Linear(4, 4, bias=False, device=device)
    stage.weight.data.copy_(weights[rank])
    batch = torch.randn(plan.microbatches, 3, 4, generator=generator)
    try:
        run = pipeline.execute(
            plan, {rank: stage}, inputs=batch, loss=torch.Tensor.mean, group=group, timeout=10
        )
    except ValueError as error:
        return str(error)
    return run.losses, stage.weight.grad.cpu(), {event.name for event in run.events}


PLAN = schedule.zero_bubble_h1(pp=2, microbatches=3)


def test_a_plan_runs_over_a_group_of_two_backends_as_over_gloo(world):
    for alone, mixed in zip(
        world.run(executed, PLAN, "gloo", "cpu"),
        world.run(executed, PLAN, "cpu:gloo,cuda:gloo", "cpu"),
        strict=True,
    ):
        assert alone[0] == mixed[0] and torch.equal(alone[1], mixed[1]) and alone[1].any()


@pytest.mark.parametrize(
    ("backend", "carrier"), [("cuda:gloo", "none"), ("cpu:fake,cuda:gloo", "fake")]
)
def test_a_group_that_cannot_carry_a_plan_is_refused_whatever_its_name_holds(
    world, backend, carrier
):
    said = set(world.run(executed, PLAN, backend, "cpu"))
    assert said == {
        f"the messages of a plan travel through the CPU by gloo, and the group {backend!r} has "
        f"{carrier} there; 'gloo' and 'cpu:gloo,cuda:nccl' do"
    }


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU has run this")
def test_stages_on_a_gpu_learn_the_same(world):
    for alone, there in zip(
        world.run(executed, PLAN, "gloo", "cpu"),
        world.run(executed, PLAN, "gloo", "cuda"),
        strict=True,
    ):
        torch.testing.assert_close(there[:2], alone[:2])
        assert there[2] == alone[2]


def devices(rank):
    """The devices of all parameters of each layer, made and cut from a reference."""
    import torch
    import torch.distributed as dist

    from mpviz.parallel import (
        MLP,
        ColumnParallelLinear,
        ParallelAttention,
        ParallelMLP,
        RowParallelLinear,
        SelfAttention,
        VocabParallelEmbedding,
    )

    group, on = dist.group.WORLD, {"device": "meta"}
    made = [
        ColumnParallelLinear(4, 4, group, **on),
        RowParallelLinear(4, 4, group, **on),
        ParallelMLP(4, 8, group, **on),
        ParallelAttention(4, 2, group, **on),
        VocabParallelEmbedding(4, 4, group, **on),
        ParallelMLP.from_reference(MLP(4, 8).to("meta"), group),
        ParallelAttention.from_reference(SelfAttention(4, num_heads=2).to("meta"), group),
        VocabParallelEmbedding.from_reference(torch.nn.Embedding(4, 4, device="meta"), group),
    ]
    drawn = [
        ColumnParallelLinear(4, 4, group, generator=torch.Generator().manual_seed(7), **there)
        for there in ({}, {"device": "cpu"})
    ]
    return (
        [sorted({str(p.device) for p in layer.parameters()}) for layer in made],
        torch.equal(drawn[0].weight, drawn[1].weight),
    )


def test_every_layer_lives_where_it_is_told_and_where_its_reference_does(world):
    assert list(world.run(devices)) == [([["meta"]] * 8, True)] * 2
