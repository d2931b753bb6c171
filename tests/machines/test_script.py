"""`World.script`: what it writes runs under torchrun, and gives what the ranks gave."""

import ast
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from mpviz import ParallelLayout, RanksError, World
from mpviz.world.script import History, PastRun, write_script

ROOT = Path(__file__).parents[2]
LAYOUT = ParallelLayout(nodes=1, gpus_per_node=2, tp=2)

# A notebook: each cell that begins with %%ranks, and each call, is a run.
NOTEBOOK = [
    """%%ranks
import torch
import torch.distributed as dist
x = torch.randn(2)
x  # drawn of each rank's own
""",
    """%%ranks
rank, plan = 7, "a plan of the ranks"
total = x.clone()

dist.all_reduce(total, group=groups["tp"]);
""",
    """%%ranks
rank, (
    total
    + 1  # of all
)
""",
    "%%ranks\nprint(f'said by {rank}\\n', end='')  # in one piece\ndist.barrier()",
    """
from dataclasses import replace
from math import factorial

from mpviz import schedule

size = 3
plan = schedule.zero_bubble_v(pp=2, microbatches=3)


def doubled(x):
    return 2 * x * size


def step(x, groups, other=None, *, rank):
    '''Of more

      than one line.'''
    import torch
    import torch.distributed as dist

    y = torch.full((doubled(x),), factorial(rank + 3))
    dist.all_reduce(y, group=groups["tp"])
    return y.tolist(), '''two
  lines''', plan.text, plan.placement, replace(other, nodes=1)
""",
    "world.run(step, 1, world.layout)",
    "size = 4\nworld.run(step, 2, world.layout, timeout=20)",
    "def alone(rank):\n    return rank + 1\n\nworld.run(alone)",
    "world.run(alone)",
    "world.run(lambda tp_rank, a, *b: (a, b, tp_rank), {'sizes': [(3,), {4.5}, None]}, -1)",
    "%%ranks\ndef bare(x):\n    return -x",
    "def bare(x):\n    return x\n\nworld.run(bare, 7)",
    "%%ranks\nplan, bare(5)",
]


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    config = Config(HistoryManager={"enabled": False})
    shell = InteractiveShell(config=config, ipython_dir=str(tmp_path_factory.mktemp("ipython")))
    shell.run_line_magic("load_ext", "mpviz")
    return shell


@pytest.fixture
def world(shell):
    with World(LAYOUT, timeout=20) as world:
        shell.user_ns["world"] = world
        yield world


def ran(shell, cell):
    finished = shell.run_cell(textwrap.dedent(cell))
    finished.raise_error()
    return finished.result


def lines_of(results):
    """What a script prints for results: the same from several ranks once."""
    texts = {rank: outcome.text or "None" for rank, outcome in results._outcomes.items()}
    for text in dict.fromkeys(texts.values()):
        who = [str(rank) for rank, other in texts.items() if other == text]
        yield from f"rank{'s' * (len(who) > 1)} {' '.join(who)} │ {text}".split("\n")


def started_by_slurm(script):
    """Run Slurm's file of a script, with programs of the test in place of Slurm's."""
    folder = script.parent / "bin"
    folder.mkdir()
    programs = {
        "scontrol": "echo localhost; echo another",
        "srun": 'SLURM_NODEID=0 exec "$@"',
        "torchrun": f'exec {sys.executable} -m torch.distributed.run "$@"',
    }
    for name, text in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    own = {"PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    slurm = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "localhost"}
    return subprocess.run(
        ["bash", script.with_suffix(".sbatch").name],
        cwd=script.parent, env=os.environ | own | slurm | {"OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip


def test_a_script_gives_the_numbers_of_the_notebook(shell, world, tmp_path):
    wanted = []
    for cell in NOTEBOOK:
        result = ran(shell, cell)
        wanted += lines_of(result) if result is not None else ()
    world.observed("tp")  # a question, not a part of what the notebook does
    script = world.script(tmp_path / "my train.py")
    done = started_by_slurm(script)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert sorted(line for line in said if line.startswith("said")) == ["said by 0", "said by 1"]
    assert [line for line in said if not line.startswith("said")] == wanted
    text = script.read_text()
    assert text.count("def step") == 2 and text.count("def alone") == 1
    assert "observed" not in text and "World" not in text.replace("as in a World", "")


def test_ranks_that_start_anew_draw_anew(shell, world, tmp_path):
    for _ in range(2):
        ran(shell, "%%ranks\nimport torch\nx = torch.randn(2)")
        world.close()
    assert world.script(tmp_path / "train.py").read_text().count("in (torch.manual_seed") == 2


# ---- refused


def test_what_failed_or_ran_on_some_ranks_is_named_and_can_be_left_out(shell, world, tmp_path):
    ran(shell, "%%ranks\nimport torch")
    ran(shell, "%%ranks --only 1\n# a comment\nx = 1")
    with pytest.raises(RanksError):
        ran(shell, "%%ranks\nfirst = 1 / rank")
    ran(shell, "%%ranks\nrank")
    with pytest.raises(ValueError) as refused:
        world.script(tmp_path / "train.py")
    assert str(refused.value).startswith(
        "run 2, the cell 'x = 1': it ran on 1 alone; run 3, the cell 'first = 1 / rank': it failed"
    )
    assert "without=[2, 3]" in str(refused.value)
    assert list(tmp_path.iterdir()) == []
    text = world.script(tmp_path / "train.py", without=[2, 3]).read_text()
    assert "1 / rank" not in text and "x = 1" not in text and "show(rank)" in text


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        ("import torch\nworld.run(len, torch.ones(2))", r"run\(len\): a Tensor of the notebook"),
        ("t = {1: object}\ndef f():\n    return len(t)\nworld.run(f)", "it takes t from the noteb"),
        ("n = 2\ndef f(x=n):\n    return x\nworld.run(f)", "line of its def uses n of the note"),
        ("pair = [lambda: 1, lambda: 2]\nworld.run(pair[0])", "one of several lambdas"),
        ("exec('def f(): return 1')\nworld.run(f)", "the text of f is not known"),
        ("import functools\nworld.run(functools.partial(abs, 1))", "a partial is no function"),
        ("world.run(len, 'x' * 2_000_000)", "more than 1,048,576 bytes"),
        ("%%ranks\nfrom __future__ import annotations", "only at the top of a file"),
        ("class C:\n    pass\ndef f():\n    return C() and 1\nworld.run(f)", "it takes C from the"),
        (
            "rank = 5\ndef helper():\n    return rank\n"
            "def f(rank):\n    return rank + helper()\nworld.run(f)",
            "rank of the notebook and of the rank have one name",
        ),
    ],
)  # fmt: skip
def test_what_has_no_text_is_named(shell, shared, tmp_path, cell, why):
    shell.user_ns["world"] = shared
    ran(shell, cell)
    number = len(shared._history.runs)
    with pytest.raises(ValueError, match=rf"run {number}, .*{why}"):
        shared.script(tmp_path / "train.py", without=range(1, number))


@pytest.fixture(scope="module")
def shared(shell):
    with World(LAYOUT, timeout=20) as world:
        yield world


def test_files_that_are_there_stay(tmp_path):
    history = History([PastRun("x = 1", b"", (0, 1), 1, well=True)])
    (tmp_path / "train.sbatch").write_text("mine")
    with pytest.raises(FileExistsError, match=r"train.sbatch: there already; overwrite=True"):
        write_script(history, LAYOUT, tmp_path / "train.py", threads=1)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [
        ("train.sbatch", "mine")
    ]
    write_script(history, LAYOUT, tmp_path / "train.py", threads=1, overwrite=True)
    assert "torchrun" in (tmp_path / "train.sbatch").read_text()


def test_only_runs_that_there_were_are_left_out(tmp_path):
    with pytest.raises(ValueError, match="without= takes numbers of runs, 1 to 0, got 3"):
        write_script(History(), LAYOUT, tmp_path / "train.py", threads=1, without=[3])


def test_names_of_the_script_give_way_to_those_of_the_notebook(tmp_path):
    cell = PastRun("state = show = groups = 1\nstate, show", b"", (0, 1), 1, well=True, shown=True)
    text = write_script(History([cell]), LAYOUT, tmp_path / "train.py", threads=1).read_text()
    ast.parse(text)
    assert "groups = state_.groups  # the rank's own again" in text
    assert "show_((state, show))" in text
