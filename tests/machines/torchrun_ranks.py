"""What torchrun starts on two nodes: the groups of many layouts, and the GPT of lesson 08."""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from mpviz import ParallelLayout, parallel, schedule

torch.set_num_threads(1)
folder = Path(sys.argv[1])
layouts = [ParallelLayout(**sizes) for sizes in json.loads((folder / "layouts.json").read_text())]


def members(layout):
    groups = parallel.init(layout, timeout=60).groups
    return {kind: dist.get_process_group_ranks(group) for kind, group in groups.items()}


def losses(layout):
    """Of the first steps of lesson 08."""
    groups = parallel.init(layout, timeout=60).groups
    config = parallel.GPTConfig(num_layers=8, hidden_size=64, sequence=16, dtype=torch.float64)
    stage, of = groups["pp"].rank(), groups["pp"].size()
    stages = {stage: parallel.gpt_stage(config, stage, of, groups)}
    optimizer = parallel.Adam(stages[stage].parameters(), lr=5e-3)
    plan, found = schedule.one_forward_one_backward(pp=of, microbatches=4), []
    for step in range(4):
        batch = parallel.repeated_words(16, sequence=16, seed=step)
        done = parallel.train_step(plan, stages, *batch, groups, optimizer, step=step)
        found.append(done.loss)
    return found


told = {"groups": [members(layout) for layout in layouts], "losses": losses(layouts[0])}
(folder / f"rank-{dist.get_rank()}.json").write_text(json.dumps(told))
dist.barrier()
dist.destroy_process_group()
