"""Every process group of a layout, as torch.distributed reports it on real ranks."""

import os
import subprocess
import sys
import textwrap
from itertools import islice
from pathlib import Path

import pytest
from oracles.configurations import configurations

from mpviz import ParallelLayout, World
from mpviz.names import GROUP_KINDS
from mpviz.parallel import init

ROOT = Path(__file__).parents[2]
TORCHRUN = ("-m", "torch.distributed.run", "--standalone")


def drawn(seed):
    """Random layouts of up to 16 ranks, dense and expert, in any order."""
    for configuration in configurations(10_000, largest_world=16, seed=seed):
        try:
            layout = configuration.layout()
        except ValueError:
            continue
        if layout.world_size >= 4:
            yield layout


CORNERS = [
    ParallelLayout(nodes=2, gpus_per_node=8, tp=1, pp=4, ep=2),  # never started once
    ParallelLayout(nodes=1, gpus_per_node=8, tp=1, pp=4, ep=2),
    ParallelLayout(nodes=1, gpus_per_node=12, tp=2, pp=3, ep=2, expert_tp=1),
    ParallelLayout(nodes=1, gpus_per_node=16, cp=2, pp=4, ep=4),
]


def members(groups):
    import torch.distributed as dist

    return {kind: tuple(dist.get_process_group_ranks(group)) for kind, group in groups.items()}


def works(groups, rank):
    """Sum over every group of this rank, in one order; return the sum of its ranks."""
    import torch
    import torch.distributed as dist

    sums = {}
    for kind, group in groups.items():
        x = torch.tensor(float(rank))
        dist.all_reduce(x, group=group)
        sums[kind] = x.item()
    return sums


def expected(layout, rank):
    told = {}
    for kind in GROUP_KINDS:
        try:
            told[kind] = layout.groups(kind).of(rank)
        except ValueError:
            continue  # a middle stage has no embeddings; a dense order may have no expert grid
    return told


@pytest.mark.parametrize("seed", range(4))
def test_every_kind_of_random_layouts_is_observed_as_it_is_drawn(seed):
    layouts = list(islice(drawn(seed), 6))
    if seed == 0:
        layouts += CORNERS
    for layout in layouts:
        with World(layout, timeout=20) as world:
            for rank, seen in enumerate(world.run(members)):
                assert seen == expected(layout, rank), (layout, rank)


@pytest.mark.parametrize("layout", CORNERS)
def test_every_group_sums_over_its_members(layout):
    with World(layout, timeout=20) as world:
        for rank, sums in enumerate(world.run(works)):
            assert sums == {k: sum(who) for k, who in expected(layout, rank).items()}


# ---- under torchrun

SCRIPT = """
import os
from pathlib import Path
import torch, torch.distributed as dist
from mpviz import ParallelLayout
from mpviz.parallel import init

state = init(ParallelLayout(nodes=1, gpus_per_node=4, pp=4, ep=1), timeout=20)
assert state.rank == state.pp_rank == dist.get_rank() and state.tp_rank == state.dp_rank == 0
assert dist.get_process_group_ranks(state.groups["pp"]) == [0, 1, 2, 3]
assert ("embedding" in state.groups) == (state.rank in (0, 3))
x = torch.tensor(state.rank)
dist.all_reduce(x, group=state.groups["pp"])
assert x.item() == 6
(Path(__file__).parent / f"rank-{state.rank}").touch()
dist.barrier()
dist.destroy_process_group()
os._exit(0)  # what torch does at an interpreter's end has aborted a process once
"""


def torchrun(folder, source, processes):
    script = folder / "train.py"
    script.write_text(textwrap.dedent(source))
    return subprocess.run(
        [sys.executable, *TORCHRUN, f"--nproc-per-node={processes}", str(script)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip


def test_a_script_under_torchrun_gets_the_same_groups(tmp_path):
    done = torchrun(tmp_path, SCRIPT, 4)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("rank-*"))) == 4  # all came to their last line


def test_too_few_processes_are_told_before_any_waits(tmp_path):
    done = torchrun(tmp_path, SCRIPT, 2)
    assert done.returncode != 0
    told = "WORLD_SIZE is 2 ranks, and the layout has 1 × 4 = 4: start the script with torchrun"
    assert told in done.stderr


SLIDE = ParallelLayout(nodes=2, gpus_per_node=8, tp=2, pp=4)
TORCHRUNS = {
    "RANK": "0",
    "WORLD_SIZE": "16",
    "LOCAL_WORLD_SIZE": "8",
    "MASTER_ADDR": "localhost",
    "MASTER_PORT": "1",
}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"RANK": None}, "RANK is not set: start the script with torchrun --nnodes 2 --nproc-per"),
        ({"RANK": None, "MASTER_ADDR": None}, "RANK, MASTER_ADDR are not set"),
        ({"WORLD_SIZE": "8"}, "WORLD_SIZE is 8 ranks, and the layout has 2 × 8 = 16"),
        ({"LOCAL_WORLD_SIZE": "16"}, "LOCAL_WORLD_SIZE is 16, and each node of the layout has 8"),
        ({"WORLD_SIZE": "many"}, "WORLD_SIZE must be a whole number, got 'many'"),
    ],
)  # fmt: skip
def test_the_processes_must_be_those_of_the_layout(monkeypatch, changed, message):
    for name, value in (TORCHRUNS | changed).items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message):
        init(SLIDE)


@pytest.mark.parametrize("timeout", [0, -1, True, "60", 1e9, float("nan")])
def test_the_timeout_is_a_number_of_seconds(timeout):
    with pytest.raises(ValueError, match="timeout must be a number of seconds above 0"):
        init(SLIDE, timeout=timeout)


def test_only_a_layout_is_taken():
    with pytest.raises(ValueError, match="init takes a ParallelLayout, got 16"):
        init(16)


def test_a_world_of_another_size_is_refused():
    def again(layout):
        from mpviz.parallel import init

        try:
            init(layout)
        except ValueError as error:
            return str(error)

    with World(ParallelLayout(nodes=1, gpus_per_node=2)) as world:
        said = set(world.run(lambda: again(SLIDE)))
    assert said == {
        "torch.distributed has 2 ranks, and the layout has 2 × 8 = 16: "
        "start the script with torchrun --nnodes 2 --nproc-per-node 8"
    }
