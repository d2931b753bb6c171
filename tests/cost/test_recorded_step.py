"""The bytes of a step of a real GPT on real ranks beside those that `cost.traffic` counts."""

from collections import Counter

import pytest
from real_layers import config_of

from mpviz import ParallelLayout, cost
from mpviz.cost import Model, Training
from mpviz.world import World

LAYOUT = ParallelLayout(nodes=2, gpus_per_node=4, tp=2, pp=2)
MODEL = Model(layers=4, hidden=32, heads=4, vocabulary=24, sequence=12, batch=8)
CASES = {
    "plain": (MODEL, Training(precision="fp32")),
    "sequence parallel": (MODEL, Training(precision="fp32", sequence_parallel=True)),
    "untied": (
        Model(**{**MODEL.__dict__, "tied": False, "name": "untied"}),
        Training(precision="fp32"),
    ),
    "interleaved, Llama": (
        Model(
            **{**MODEL.__dict__, "norm": "rms", "positions": "rotary", "activation": "swiglu"}
            | {"bias": False, "tied": False, "kv_heads": 2, "ffn": 64}
        ),
        Training(precision="fp32", chunks=2),
    ),
    "V": (MODEL, Training(precision="fp32", schedule="zb-v", chunks=2)),
}
PROGRAM = """
import torch
from mpviz import parallel, schedule

PLANS = {
    ("1f1b", 1): schedule.one_forward_one_backward,
    ("1f1b", 2): schedule.interleaved_1f1b,
    ("zb-v", 2): schedule.zero_bubble_v,
}

def step(config, name, chunks, sequence_parallel, batch):
    plan = PLANS[name, chunks](pp=groups["pp"].size(), microbatches=batch // groups["dp"].size())
    stages = {
        n: parallel.gpt_stage(config, n, plan.stages, groups, sequence_parallel=sequence_parallel)
        for n in plan.stages_of(groups["pp"].rank())
    }
    words = torch.zeros(config.sequence, batch, dtype=torch.int64)
    adam = parallel.Adam(p for stage in stages.values() for p in stage.parameters())
    parallel.train_step(plan, stages, words, words, groups, adam)
"""
# Not counted: what the first message over each boundary says of its shape; the norm, a number.
HEADER, NUMBER = 12 * 8, 8


@pytest.fixture(scope="module")
def world():
    with World(LAYOUT, timeout=60) as world:
        world.cell(PROGRAM)
        yield world


@pytest.mark.parametrize("case", CASES)
def test_the_bytes_of_a_step_are_those_that_are_recorded(world, case):
    model, training = CASES[case]
    arguments = (training.schedule, training.chunks, training.sequence_parallel, model.batch)
    world.cell(f"step(parallel.{config_of(model)}, *{arguments})", record=True)
    kinds = {
        (rank, tuple(members)): kind
        for kind in ("dp", "embedding", "tp", "pp")
        for members in LAYOUT.groups(kind).tolist()
        for rank in members
    }
    recorded = Counter()
    for event in world.events:
        if event.name not in ("recv", "irecv"):
            kind = kinds[event.rank, event.group]
            recorded[event.rank, kind] += event.bytes
    for rank in range(LAYOUT.world_size):
        pp_rank = LAYOUT.coordinates(rank)["pp"]
        parts = cost.traffic(model, LAYOUT, training, stage=pp_rank)
        counted = {kind: part.put for kind, part in parts.items()}
        counted["tp"] += NUMBER
        boundaries = parts["pp"].count / (model.batch // LAYOUT.dp)
        # With pp = 2 the embedding group has the members of the pp group.
        counted["pp"] += counted.pop("embedding", 0) + boundaries * HEADER + NUMBER
        assert counted == {kind: recorded[rank, kind] for kind in counted}, rank
        assert counted["tp"] > 10_000
