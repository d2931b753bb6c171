"""Lessons 05, 06 and 08 as scripts: executed, written, run under torchrun, compared.

Lesson 08 is a layout of two nodes: its script runs on two.

    python tests/benchmarks/bench_script.py [05 06 08]

Each lesson runs in an IPython shell; what its worlds' runs returned is what the script must print.
Calls whose result is a time measured, or the events of a run, are left out, and so is what the
script refuses.
"""

import difflib
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from mpviz import World
from mpviz.world.nodes import TwoNodes

ROOT = Path(__file__).parents[2]
MEASURED = ("milliseconds", "emulated", "multiplied")
REFUSED = re.compile(r"run (\d+), ")


def executed(lesson, folder):
    """Run a lesson; return its world, and what each of its runs returned, by number."""
    config = Config(HistoryManager={"enabled": False})
    shell = InteractiveShell(config=config, ipython_dir=str(folder))
    given = {}
    judged = World._judged

    def noted(world, run, deadline):
        results = judged(world, run, deadline)
        given[world, len(world._history.runs)] = results
        return results

    World._judged = noted
    (path,) = (ROOT / "notebooks").glob(f"{lesson}_*.ipynb")
    os.chdir(path.parent)
    try:
        for cell in nbformat.read(path, 4).cells:
            if cell.cell_type == "code" and "answer = ..." not in cell.source:
                shell.run_cell(cell.source, silent=True).raise_error()
    finally:
        World._judged = judged
    world = shell.user_ns["world"]
    return world, {number: results for (of, number), results in given.items() if of is world}


def lines_of(results):
    texts = {rank: outcome.text or "None" for rank, outcome in results._outcomes.items()}
    for text in dict.fromkeys(texts.values()) if not results.all_none else ():
        who = [str(rank) for rank, other in texts.items() if other == text]
        yield from f"rank{'s' * (len(who) > 1)} {' '.join(who)} │ {text}".split("\n")


def started(script, layout):
    """Run a script under torchrun, on two nodes if that is its layout; return rank 0's node's."""
    common = ["-m", "torch.distributed.run", f"--nproc-per-node={layout.gpus_per_node}"]
    environ = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    if layout.nodes == 1:
        command = [sys.executable, *common, "--standalone", str(script)]
        return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=400)
    with TwoNodes() as nodes:
        environ["GLOO_SOCKET_IFNAME"] = nodes[0].interface
        static = ["--nnodes=2", f"--master-addr={nodes[0].address}", "--master-port=29500"]
        first, second = (
            nodes[number].popen(
                [sys.executable, *common, *static, f"--node-rank={number}", str(script)],
                env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
            for number in range(2)
        )  # fmt: skip
        said = first.communicate(timeout=400)
        second.communicate(timeout=60)
        return subprocess.CompletedProcess([], first.returncode or second.returncode, *said)


def main(lesson):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        world, given = executed(lesson, folder)
        layout, path = world.layout, folder / "train.py"
        left_out = {
            number
            for number, run in enumerate(world._history.runs, 1)
            if run.title in [f"world.run({function})" for function in MEASURED]
        }
        try:
            world.script(path, without=left_out)
        except ValueError as refused:
            print(f"lesson {lesson}: {refused}")
            left_out |= {int(number) for number in REFUSED.findall(str(refused))}
            world.script(path, without=left_out)
        wanted = [line for k in sorted(given.keys() - left_out) for line in lines_of(given[k])]
        begun = time.perf_counter()
        done = started(path, layout)
        took = time.perf_counter() - begun
    said = [line for line in done.stdout.splitlines() if line.startswith("rank")]
    print(*difflib.unified_diff(wanted, said, "notebook", "script", n=0, lineterm=""), sep="\n")
    print(
        f"lesson {lesson}: {len(given)} runs, without {sorted(left_out)}; exit code "
        f"{done.returncode} after {took:.0f} s; {len(wanted)} lines "
        f"{'equal' if said == wanted else 'DIFFER'}"
    )
    if done.returncode or said != wanted:
        print(done.stderr[-3000:])
        sys.exit(1)


if __name__ == "__main__":
    for lesson in sys.argv[1:] or ("05", "06", "08"):
        main(lesson)
