"""Ranks on one machine: `World` beside torchrun, torch.multiprocessing.spawn and ipyparallel.

    python tests/benchmarks/bench_world.py

Each is a command in a fresh interpreter, timed from its start until its 16 ranks have done their
first all-reduce; then the memory (PSS) of all its processes together is read. Takes minutes,
nearly all of them the others'; `pip install ipyparallel` to have that one too.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from threading import Timer
from time import perf_counter

import psutil

RANKS = 16
RUNS, PEER_RUNS = 5, 3
DEADLINE = 240.0

COMMON = f"""
import json, sys, time
from pathlib import Path
from statistics import median

RANKS = {RANKS}
FOLDER = Path(__file__).parent

def ready():
    print("ready", flush=True)
    while not (FOLDER / "done").exists():
        time.sleep(0.02)

def milliseconds(job, runs=50):
    job()
    durations = []
    for _ in range(runs):
        start = time.perf_counter()
        job()
        durations.append(time.perf_counter() - start)
    return 1e3 * median(durations)

def shell():
    from IPython.core.interactiveshell import InteractiveShell
    return InteractiveShell.instance()
"""
RANK = """
def all_reduce(**how):
    import torch, torch.distributed as dist
    dist.init_process_group("gloo", **how)
    x = torch.ones(1)
    dist.all_reduce(x)
    assert x.item() == RANKS
"""
SCRIPTS = {
    "import torch": "import torch\nready()",
    "torchrun": RANK
    + """
import os
all_reduce()
# Only one prints, but all stay until their memory is read.
if os.environ["RANK"] != "0":
    print = lambda *args, **kwargs: None
ready()
""",
    "torch.multiprocessing.spawn": RANK
    + """
def rank_main(rank):
    all_reduce(init_method=f"file://{FOLDER}/rendezvous", rank=rank, world_size=RANKS)
    if rank > 0:
        globals()["print"] = lambda *args, **kwargs: None
    ready()

if __name__ == "__main__":
    import torch.multiprocessing
    torch.multiprocessing.spawn(rank_main, nprocs=RANKS)
""",
    "ipyparallel": """
import ipyparallel, logging

def all_reduce(rank, folder, ranks):
    import torch, torch.distributed as dist
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=ranks
    )
    x = torch.ones(1)
    dist.all_reduce(x)
    return x.item()

with ipyparallel.Cluster(n=RANKS, log_level=logging.ERROR) as engines:
    everyone = [list(range(RANKS)), RANKS * [str(FOLDER)], RANKS * [RANKS]]
    assert engines[:].map_sync(all_reduce, *everyone) == RANKS * [RANKS]
    ready()
    ip = shell()
    engines[:].activate()
    cell = milliseconds(lambda: ip.run_cell_magic("px", "--block", "pass"))
    print(json.dumps({"cell": cell}), flush=True)
""",
    "World": """
from mpviz import ParallelLayout, World

LAYOUT = ParallelLayout(nodes=2, gpus_per_node=8, tp=2, pp=4)

def all_reduce():
    import torch, torch.distributed as dist
    x = torch.ones(1)
    dist.all_reduce(x)
    return x.item()

def started():
    world = World(LAYOUT)
    assert list(world.run(all_reduce)) == RANKS * [RANKS]
    return world

world = started()
ready()
world.close()
warm = []
for _ in range(5):
    start = time.perf_counter()
    world = started()
    warm.append(time.perf_counter() - start)
    world.close()
ip = shell()
ip.run_line_magic("load_ext", "mpviz")
ip.user_ns["world"] = started()
cell = milliseconds(lambda: ip.run_cell_magic("ranks", "", "pass"))
ip.user_ns["world"].close()
print(json.dumps({"warm": median(warm), "cell": cell}), flush=True)
""",
    "World, 64 ranks": """
from mpviz import ParallelLayout, World

KINDS = ("tp", "dp", "pp", "tp-pp")

def all_reduces(groups, layout):
    import torch, torch.distributed as dist
    sums = []
    for kind in KINDS:
        x = torch.ones(1)
        dist.all_reduce(x, group=groups[kind])
        sums.append(x.item())
    return sums

layout = ParallelLayout(nodes=8, gpus_per_node=8, tp=4, pp=4)
world = World(layout)
assert list(world.run(all_reduces)) == 64 * [[layout.groups(kind).size for kind in KINDS]]
ready()
world.close()
""",
}


@dataclass
class Measured:
    """What one command took: seconds until it was ready, bytes of PSS, what else it said."""

    seconds: float
    pss: int | None
    said: dict[str, float]


def pss(family: Sequence[psutil.Process]) -> int | None:
    """Memory of processes together, where what n of them share counts for each as one nth."""
    if not sys.platform.startswith("linux"):
        return None
    total = 0
    for member in family:
        try:
            total += member.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
    return total


def family_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    try:
        parent = psutil.Process(process.pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def end(family: Sequence[psutil.Process]) -> None:
    """Kill what is left of a family; psutil knows a process from another with its number."""
    for member in family:
        if member.is_running():
            member.kill()
    psutil.wait_procs(family, timeout=10)


def measure(name: str) -> Measured:
    """Run one of the scripts in a folder of its own, and leave nothing behind."""
    folder = Path(tempfile.mkdtemp(prefix="bench-world-"))
    script = folder / "script.py"
    script.write_text(COMMON + SCRIPTS[name])
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={RANKS}"]
    environment = os.environ | {
        "GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo",
        "IPYTHONDIR": str(folder),
        "OMP_NUM_THREADS": "1",
    }
    with (folder / "errors").open("w") as errors:
        start = perf_counter()
        process = subprocess.Popen(
            [sys.executable, *(torchrun if name == "torchrun" else ()), str(script)],
            **{"stdout": subprocess.PIPE, "stderr": errors, "text": True},
            env=environment,
        )
    family: list[psutil.Process] = []
    timer = Timer(DEADLINE, lambda: end(family_of(process)))
    timer.start()
    try:
        assert process.stdout is not None
        while (line := process.stdout.readline()).strip() != "ready":
            if not line:
                sys.exit(f"{name} failed or took over {DEADLINE:g} s:\n{_tail(folder / 'errors')}")
        seconds = perf_counter() - start
        family = family_of(process)
        memory = pss(family)
        (folder / "done").touch()
        # IPython may print too; what a script has to say is its last line.
        *_, last = process.stdout.read().strip().splitlines() or ["{}"]
        if process.wait():
            sys.exit(f"{name} failed:\n{_tail(folder / 'errors')}")
        return Measured(seconds, memory, json.loads(last))
    finally:
        timer.cancel()
        end([*family, *family_of(process)])
        shutil.rmtree(folder, ignore_errors=True)


def _tail(file: Path) -> str:
    return file.read_text()[-2_000:]


def summary(runs: Sequence[Measured]) -> Measured:
    memory = [run.pss for run in runs if run.pss is not None]
    said = {key: median(run.said[key] for run in runs) for key in runs[0].said}
    seconds = median(run.seconds for run in runs)
    return Measured(seconds, int(median(memory)) if memory else None, said)


def row(name: str, runs: Sequence[Measured]) -> Measured:
    middle = summary(runs)
    slowest = max(run.seconds for run in runs)
    memory = "not available" if middle.pss is None else f"{middle.pss / 1e9:.3f} GB"
    print(f"  {name:28}{middle.seconds:8.2f}{slowest:10.2f}{len(runs):6}{memory:>16}", flush=True)
    return middle


def aim(text: str, value: float, limit: float, unit: str = "") -> None:
    verdict = "met" if value <= limit else "NOT met"
    print(f"  {text:58}{value:8.3g}{unit:3} (aim ≤ {limit:.3g}{unit}: {verdict})")


def main() -> None:
    cores, load = os.cpu_count(), os.getloadavg()[0]
    print(f"{RANKS} ranks to their first all-reduce; {cores} cores, load {load:.1f} before")
    print(f"  {'':28}{'median s':>8}{'slowest s':>10}{'runs':>6}{'PSS':>16}")
    # Turn and turn about, so that a busy minute of the machine meets both.
    turns = [(measure("import torch"), measure("World")) for _ in range(RUNS)]
    yardstick = row("import torch alone", [turn[0] for turn in turns])
    world = row("World", [turn[1] for turn in turns])
    peers = {}
    for name in ("torchrun", "torch.multiprocessing.spawn", "ipyparallel"):
        if name == "ipyparallel" and find_spec(name) is None:
            print(f"  {name:28}not installed")
        else:
            peers[name] = row(name, [measure(name) for _ in range(PEER_RUNS)])
    torchrun, warm, cell = peers["torchrun"], world.said["warm"], world.said["cell"]
    print("aims")
    aim("World, cold, of torchrun's seconds", world.seconds / torchrun.seconds, 1 / 10)
    aim("World, cold, of import torch's seconds", world.seconds / yardstick.seconds, 1.5)
    aim("World, warm", warm, 1.0, " s")
    if world.pss is not None and torchrun.pss is not None:
        aim("World, of torchrun's PSS", world.pss / torchrun.pss, 1 / 9)
    aim(f"an empty %%ranks cell on {RANKS} ranks, median of 50", cell, 5.0, " ms")
    if "ipyparallel" in peers:
        px = peers["ipyparallel"].said["cell"]
        aim(f"of an empty %%px cell's {px:.1f} ms", cell / px, 1 / 10)
    print("64 ranks: start, and an all-reduce in each kind of tp, dp, pp, tp-pp")
    row("World", [measure("World, 64 ranks") for _ in range(PEER_RUNS)])


if __name__ == "__main__":
    main()
