"""Ranks start in odd places too; where they cannot, the first line says why, and soon."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import traces
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

import mpviz
from mpviz import ParallelLayout, World
from mpviz.world import requirements
from mpviz.world.pool import Run, _problem_of
from mpviz.world.protocol import Failure, Outcome, Place
from mpviz.world.requirements import StartError

LAYOUT = ParallelLayout(nodes=1, gpus_per_node=2, tp=2)
SOON = 30.0  # on a slow machine; torch alone takes a second or two

# As in a kernel: everything of ours is imported before the notebook's folder comes first.
SETUP = """
import os, sys, tempfile
from mpviz import ParallelLayout, World
import ipykernel.kernelapp
sys.path.insert(0, "")
"""
SCRIPT = """
world = World(ParallelLayout(nodes=1, gpus_per_node=RANKS, tp=RANKS), timeout=30)
def add(rank):
    import torch, torch.distributed as dist
    x = torch.tensor(rank + 1)
    dist.all_reduce(x)
    return x.item()
print(*world.run(add), flush=True)
"""


class Finished:
    def __init__(self, process, seconds):
        self.text = process.stdout
        self.code = process.returncode
        self.seconds = seconds

    @property
    def problem(self):
        """The last line of a script that failed: what a reader looks at first."""
        assert self.code == 1 and self.seconds < SOON, self.text
        return self.text.rstrip().split("\n")[-1]


@pytest.fixture
def run(tmp_path):
    """Run a program in a folder of its own; nothing of it may be left, process or file."""
    (tmp_path / "here").mkdir()
    (tmp_path / "t").mkdir()
    mark = f"MPVIZ_TEST={tmp_path}"

    def run(source, *command, ranks=2, limits=(), before=(), **environment):
        script = tmp_path / "script.py"
        script.write_text(SETUP + source.replace("RANKS", str(ranks)))
        name, value = mark.split("=")
        started = time.monotonic()
        process = subprocess.run(
            [*before, sys.executable, script],
            cwd=tmp_path / "here",
            env={
                **os.environ, "PYTHONPATH": str(Path(mpviz.__file__).parents[1]),
                "TMPDIR": str(tmp_path / "t"), "OPENBLAS_NUM_THREADS": "1",
                name: value, **environment,
            },
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=100,
            preexec_fn=lambda: [resource.setrlimit(*limit) for limit in limits],
        )  # fmt: skip
        return Finished(process, time.monotonic() - started)

    run.folder = tmp_path / "here"
    yield run
    ours = [p for p in psutil.process_iter() if mark.split("=")[1] in environ(p).values()]
    assert traces.left(ours, tmp_path / "t", seconds=5) == []


def environ(process):
    try:
        return process.environ()
    except psutil.Error:
        return {}


def works(finished, ranks=2):
    assert finished.code == 0, finished.text
    assert finished.text.split("\n")[0] == " ".join([str(ranks * (ranks + 1) // 2)] * ranks)
    return finished.text.split("\n")[1:-1]


# ---- files beside the notebook


NAMES = ["random", "torch", "queue", "numpy", "socket", "pickle", "select", "mpviz", "cloudpickle"]


def test_files_with_the_names_of_modules(run):
    for name in NAMES:
        (run.folder / f"{name}.py").write_text("raise SystemError('the file of the learner')")
    (run.folder / "mine.py").write_text("value = 7")
    works(run(SCRIPT + "assert list(world.cell('import mine; mine.value')) == [7, 7]"))


def test_ranks_have_the_mpviz_of_the_notebook(run):
    script = SCRIPT + "import mpviz\nprint({mpviz.__file__, *world.cell('mpviz.__file__')})"
    shutil.copytree(Path(mpviz.__file__).parent, run.folder / "mpviz")
    assert works(run(script.replace("'mpviz.__", "'import mpviz; mpviz.__"))) == [
        repr({mpviz.__file__})
    ]


def test_ranks_look_for_modules_where_the_notebook_does(run):
    script = SCRIPT + "print(world.cell('import os, sys; (os.getcwd(), sys.path, sys.argv)')[1])"
    (line,) = works(run(script + "\nprint((os.getcwd(), [os.getcwd(), *sys.path[1:]], sys.argv))"))[
        :1
    ]
    assert line.startswith(f"('{run.folder}', ['{run.folder}', ")


# ---- folders


def test_a_tmpdir_of_many_characters(run, tmp_path):
    folder = tmp_path / "t" / ("x" * 120)
    folder.mkdir()
    script = SCRIPT + "print(world._pool._folder)"
    assert works(run(script, TMPDIR=str(folder)))[0].startswith(f"{folder}/mpviz-")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("folder", ["/nowhere/at/all", "/proc"])
def test_a_tmpdir_that_cannot_be_used(run, folder):
    (used,) = works(run(SCRIPT + "print(world._pool._folder)", TMPDIR=folder))
    assert not used.startswith(folder) and not Path(used).exists()


def test_no_folder_at_all(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere/at/all")
    with pytest.raises(StartError) as raised:
        World(LAYOUT).start()
    assert str(raised.value).startswith(
        "the ranks did not start: no temporary folder can be made "
        "([Errno 2] No such file or directory: '/nowhere/at/all/mpviz-"
    )
    assert str(raised.value).endswith(
        "set TMPDIR to a folder that can be written, and restart the kernel"
    )


@pytest.mark.parametrize("left", [8, 160])
def test_a_tmpdir_with_few_kilobytes_left(run, tmp_path, left):
    folder, rest = tmp_path / "t", 256 - left
    mount = (
        f"mount -t tmpfs -o size=256k full {folder} && head -c {rest}k /dev/zero > {folder}/rest"
    )
    mount += ' && exec "$@"'
    command = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh")
    if shutil.which("unshare") is None or subprocess.run([*command, "true"]).returncode:
        pytest.skip("needs the program unshare, and the right to mount")
    assert run(SCRIPT, before=command, ranks=8).problem.endswith(
        f"the ranks did not start: {tmp_path}/t: No space left on device; "
        f"set TMPDIR to a folder with room, and restart the kernel"
    )


def test_a_folder_that_was_deleted(run):
    gone = "os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone')\n"
    shown = run(gone + SCRIPT + "print(*world.cell('import os; os.getcwd()'))")
    assert works(shown) == ["/ /"]


# ---- limits


def test_the_soft_limit_on_open_files_is_raised(run):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = (resource.RLIMIT_NOFILE, (40, hard))
    works(run(SCRIPT, ranks=8, limits=[limit]), ranks=8)


def test_too_few_open_files(run):
    shown = run(SCRIPT, ranks=8, limits=[(resource.RLIMIT_NOFILE, (40, 40))])
    assert shown.problem.endswith(
        "the ranks did not start: 8 ranks need up to 56 open files in one process, "
        "and 40 are allowed (ulimit -Hn); about 5 ranks would fit"
    )


def test_what_ranks_need_is_estimated_from_what_they_have():
    layout = ParallelLayout(nodes=1, gpus_per_node=8, tp=2, pp=2)
    before = requirements._open_files()
    sizes = requirements._group_sizes(layout)
    with World(layout, timeout=30) as world:
        source = "import torch, torch.distributed as dist\n"
        world.cell(source + "for g in groups.values(): dist.all_reduce(torch.ones(1), group=g)")
        for process in map(psutil.Process, world.pids):
            assert 30 < process.num_fds() <= requirements._files_of_rank(sizes)
            assert process.num_threads() <= requirements._tasks_of_rank(sizes)
        used = requirements._open_files() - before
        assert 8 < used <= 8 * requirements._FILES_OF_NOTEBOOK + 4  # and the server, if it is new
        used = sum(512 * file.stat().st_blocks for file in world._pool._folder.iterdir())
        assert 8 * 32_768 < used < requirements._bytes_needed(8)


def test_too_few_processes(monkeypatch, tmp_path):
    layout = ParallelLayout(nodes=16, gpus_per_node=8)
    need = 128 * requirements._tasks_of_rank(requirements._group_sizes(layout))
    monkeypatch.setattr(requirements, "_most_tasks", lambda: [10**6, need])
    requirements.check(layout, tmp_path)
    monkeypatch.setattr(requirements, "_most_tasks", lambda: [10**6, need // 4])
    with pytest.raises(StartError) as raised:
        requirements.check(layout, tmp_path)
    assert str(raised.value) == (
        f"the ranks did not start: 128 ranks need about {need} processes and threads, "
        f"and {need // 4} are allowed; about 32 ranks would fit"
    )


def test_too_little_memory(run):
    limit = (resource.RLIMIT_AS, (512_000_000, 512_000_000))
    problem = run(SCRIPT, limits=[limit]).problem
    assert "StartError: the ranks did not start: " in problem
    assert problem.endswith("a process may use 0.5 GB of memory here (ulimit -v): raise that")


def test_more_threads_than_any_machine_has():
    most = max(64, os.cpu_count())
    assert World(LAYOUT, threads=most).threads == most
    with pytest.raises(ValueError) as raised:
        World(LAYOUT, threads=10**6)  # never started, whatever comes of it
    assert str(raised.value) == (
        f"threads must be at most {most} for each of 2 ranks, got 1000000; "
        f"this machine has {os.cpu_count()} CPUs for all of them"
    )
    large = ParallelLayout(nodes=64, gpus_per_node=8)
    with pytest.raises(ValueError, match="at most 8 for each of 512 ranks, got 9"):
        World(large, threads=9)


# ---- what is not there


def test_no_torch(run):
    script = "sys.path[:] = [p for p in sys.path if not p.endswith('site-packages')]\n" + SCRIPT
    problem = run("import cloudpickle\n" + script).problem
    assert "the ranks did not start: ModuleNotFoundError: No module named 'numpy'" in problem
    assert problem.endswith("mpviz.doctor() says what is missing")


@pytest.mark.parametrize(
    ("program", "says"),
    [
        ("/bin/false", "the process that imports torch ended with exit code 1"),
        ("/nowhere/python", "'/nowhere/python' cannot be run (No such file or directory)"),
    ],
)
def test_no_python(run, program, says):
    shown = run(f"sys.executable = {program!r}\n" + SCRIPT)
    assert shown.problem.endswith(f"the ranks did not start: {says}")


def test_a_start_that_fails_is_one_line_in_a_notebook(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere/at/all")
    config = Config(HistoryManager={"enabled": False})
    shell = InteractiveShell(config=config, ipython_dir=str(tmp_path))
    shell.user_ns["world"] = World(LAYOUT)
    shell.run_cell("world.run(int)")
    shown = capsys.readouterr().out
    assert shown.startswith("StartError: the ranks did not start: no temporary folder")
    assert shown.count("\n") == 1


# ---- which cause is told


FAILED = Outcome(failure=Failure("OSError", "no route", Place(), ""))


@pytest.mark.parametrize(
    ("run", "says"),
    [
        (Run({0: Outcome(), 1: Outcome()}), ""),
        (Run({1: FAILED}, places={0: Place(waits_in="new_group")}), "OSError: no route (rank 1)"),
        (
            Run({1: FAILED}, died={0: -9}, logs={0: "a\nbad_alloc\n"}),
            "bad_alloc (rank 0 died, killed by signal 9)",
        ),
        (
            Run({1: Outcome()}, places={0: Place(waits_in="new_group"), 2: Place(silent=True)}),
            "after 120 s, 2 of 3 ranks had not found the others (rank 0 waits in new_group)",
        ),
    ],
)
def test_the_cause_comes_first(run, says):
    assert _problem_of(run, 120) == says


# ---- forks of the notebook


# What a fork does last, and its status.
ENDS = {
    "sys.exit(0)": 0,
    "os._exit(0)": 0,
    "1 / 0": 256,
    "pass  # and the script ends": 0,
    "world.close(); os._exit(0)": 0,
    "assert [*world.run(add)] == [3, 3]; world.close(); sys.exit(0)": 0,
}


def test_the_end_of_a_fork_is_not_the_end_of_its_parents_ranks(run):
    script = f"""
pids = world.pids
for end, status in {ENDS}.items():
    child = os.fork()
    if child == 0:
        exec(end)
        break
    assert os.waitpid(child, 0)[1] == status, end
    assert [*world.run(add)] == [3, 3] and world.pids == pids, end
else:
    print("the ranks outlived all of them")
"""
    assert works(run(SCRIPT + script))[-1] == "the ranks outlived all of them"


def test_a_fork_that_lives_on_keeps_no_rank_alive(run):
    script = """
import signal, time
child = os.fork()
if child == 0:
    os.setsid()
    for name in (0, 1, 2):
        os.close(name)
    time.sleep(8)
    os._exit(0)
print(child, *world.pids, world._pool._folder, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    shown = run(SCRIPT + script)
    assert shown.code == -signal.SIGKILL
    child, *pids, folder = shown.text.split("\n")[1].split()
    try:
        end = time.monotonic() + 5
        while any(psutil.pid_exists(int(pid)) for pid in pids) or Path(folder).exists():
            assert time.monotonic() < end
            time.sleep(0.05)
        assert psutil.pid_exists(int(child))
    finally:
        os.kill(int(child), signal.SIGKILL)


# ---- several at once


def test_worlds_that_start_at_once():
    worlds = [World(LAYOUT, timeout=30) for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(lambda world: list(world.run(lambda rank: rank)), worlds))
    for world in worlds:
        world.close()
    assert results == [[0, 1]] * 4
