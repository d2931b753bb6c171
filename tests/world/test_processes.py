"""What a world is to the system: its sockets, folder, process group, and what it leaves."""

import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest
import traces

from mpviz import ParallelLayout, RanksError, World

ROOT = Path(__file__).parents[2]
SCRIPT = """
from mpviz import ParallelLayout, RanksError, World
world = World(ParallelLayout(nodes=1, gpus_per_node=2, tp=2), timeout=30)
def add(rank):
    import torch, torch.distributed as dist
    x = torch.tensor(rank + 1)
    dist.all_reduce(x)
    return x.item()
print(*world.run(add), flush=True)
"""


@pytest.fixture
def start(tmp_path):
    """Start scripts with temporary folders of their own; in the end nothing of theirs is left."""
    folder = tmp_path / "t"
    folder.mkdir()
    started = []

    def start(source, *before, **environment):
        script = tmp_path / f"script{len(started)}.py"
        script.write_text(textwrap.dedent(source))
        process = subprocess.Popen(
            [*before, sys.executable, script],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder), **environment},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip
        started.append(process)
        process.folder = folder
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=10)
    ours = [p for p in psutil.process_iter() if environment(p).get("TMPDIR") == str(folder)]
    assert traces.left(ours, folder, seconds=5) == []


def environment(process):
    try:
        return process.environ()
    except psutil.Error:
        return {}


def output(process, seconds=40):
    text, _ = process.communicate(timeout=seconds)
    assert process.returncode == 0, text
    return text.split("\n")[:-1]


def first_line(process):
    return process.stdout.readline().rstrip("\n")


def family(process):
    return psutil.Process(process.pid).children(recursive=True)


# ---- while a world runs


@pytest.fixture(scope="module")
def world():
    with World(ParallelLayout(nodes=1, gpus_per_node=4, tp=2, pp=2), timeout=30) as world:
        world.run(int)
        yield world


def test_nothing_listens_beyond_loopback(world):
    sockets = [c for pid in world.pids for c in psutil.Process(pid).net_connections("inet")]
    listening = {c.laddr.ip for c in sockets if c.status == psutil.CONN_LISTEN}
    assert listening == {"127.0.0.1"} or listening == {"127.0.0.1", "::1"}
    assert {c.laddr.ip for c in sockets} <= {"127.0.0.1", "::1"}


def test_the_folder_is_its_owners_and_gone_afterwards():
    with World(ParallelLayout(nodes=1, gpus_per_node=2, tp=2)) as world:
        folder = world._pool._folder
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert (folder / "rendezvous").exists()
    assert not folder.exists()


def test_ranks_stay_in_the_process_group(world):
    assert {os.getpgid(pid) for pid in world.pids} == {os.getpgid(0)}


def test_ranks_hold_no_stream_of_the_notebook(world):
    ours = {os.readlink(f"/proc/self/fd/{number}") for number in (1, 2)} - {"/dev/null"}
    theirs = [os.readlink(f"/proc/{pid}/fd/{number}") for pid in world.pids for number in (0, 1, 2)]
    assert not ours & set(theirs)
    logs = [f"{world._pool._folder}/rank-{rank}.log" for rank in range(4)]
    assert theirs == [name for log in logs for name in ("/dev/null", log, log)]


def test_nothing_a_rank_writes_reaches_the_scripts_streams(start):
    source = f"""
    {SCRIPT.replace(chr(10), chr(10) + "    ")}
    results = world.cell("import os, sys; print(7); os.write(2, b'8'); os.system('echo 9')")
    print(results.output)
    """
    assert output(start(source)) == ["3 3", "{0: '7\\n89', 1: '7\\n89'}"]


# ---- scripts


def test_a_script_without_main_guard_runs_once_and_uses_its_tmpdir(start):
    process = start("print('once')\n" + SCRIPT + "print(world._pool._folder)")
    once, result, folder = output(process)
    assert (once, result) == ("once", "3 3")
    assert folder.startswith(f"{process.folder}/mpviz-")


def test_a_script_that_ends_badly(start):
    process = start(SCRIPT + "1 / 0")
    assert "ZeroDivisionError" in process.communicate(timeout=40)[0]


def test_a_script_that_is_over_while_its_ranks_work(start):
    process = start(
        SCRIPT + "import os, threading, time\n"
        "threading.Timer(0.5, os._exit, (0,)).start()\n"
        "world.run(time.sleep, 600)"
    )
    process.wait(timeout=40)


HELD_UP = """
import ctypes, os
import torch.distributed as dist
if rank == 0: dist.barrier()
if rank == 1: os.kill(os.getpid(), 19)
if rank == 2: ctypes.PyDLL(None).sleep(600)
while True: pass
"""


@pytest.mark.parametrize("kill", [os.kill, os.killpg], ids=["process", "group"])
def test_kill_9_leaves_nothing_whatever_the_ranks_do(start, kill):
    script = SCRIPT.replace("gpus_per_node=2", "gpus_per_node=4")
    process = start(script + f"world.cell({HELD_UP!r}, timeout=60)")
    assert first_line(process) == "10 10 10 10"
    time.sleep(0.5)
    everybody = family(process)
    assert len(everybody) == 6  # four ranks, their server, the guard
    kill(process.pid, signal.SIGKILL)
    left = traces.left(everybody, process.folder, seconds=5)
    assert left == [], [
        (p, p.cmdline(), p.cpu_times()) for p in left if hasattr(p, "pid") and p.is_running()
    ]


def test_kill_9_after_a_close_leaves_nothing(start):
    process = start(
        SCRIPT + "world.close()\nprint('closed', flush=True)\nimport time\ntime.sleep(60)"
    )
    assert [first_line(process), first_line(process)] == ["3 3", "closed"]
    everybody = family(process)
    process.kill()
    left = traces.left(everybody, process.folder, seconds=5)
    assert left == [], [
        (p, p.cmdline(), p.cpu_times()) for p in left if hasattr(p, "pid") and p.is_running()
    ]


# ---- hard places


def test_a_home_that_cannot_be_written(start):
    assert output(start(SCRIPT, HOME="/proc/nowhere")) == ["3 3"]


NAMESPACES = ("unshare", "--user", "--map-root-user", "--net")


def inside(*command):
    """How to run something in namespaces of its own, or skip."""
    if shutil.which("unshare") is None:
        pytest.skip("needs the program unshare")
    tried = subprocess.run([*command, "true"], capture_output=True, text=True, timeout=20)
    if tried.returncode:
        pytest.skip(f"not permitted here: {tried.stderr.strip()}")
    return command


def test_no_network_but_loopback_and_a_hostname_that_does_not_resolve(start):
    alone = 'ip link set lo up && echo nowhere.invalid > /proc/sys/kernel/hostname && exec "$@"'
    command = inside(*NAMESPACES, "--uts", "sh", "-c", alone, "sh")
    source = "import psutil, socket\nprint(socket.gethostname(), *psutil.net_if_addrs())" + SCRIPT
    assert output(start(source, *command)) == ["nowhere.invalid lo", "3 3"]


def test_no_network_at_all(start):
    command = inside(*NAMESPACES)
    process = start(SCRIPT, *command)
    text = process.communicate(timeout=40)[0]
    assert re.search("StartError: the ranks did not start: .*Unable to find address for: lo", text)


def test_ranks_outlive_the_server_that_forked_them():
    from mpviz.world import launch

    with World(ParallelLayout(nodes=1, gpus_per_node=2, tp=2), timeout=20) as world:
        pids = world.pids
        server = psutil.Process(launch.ready().pid)
        server.kill()
        server.wait(5)
        assert list(world.run(lambda rank: rank)) == [0, 1]
        assert world.pids == pids
        os.kill(pids[1], signal.SIGKILL)
        with pytest.raises(
            RanksError, match=r"rank 1 died: .* nothing is left that could tell how"
        ):
            world.cell("import torch.distributed as dist; dist.barrier()")
        assert list(world.run(lambda rank: rank)) == [0, 1]


def test_a_rank_that_breaks_its_own_interpreter_says_how():
    with World(ParallelLayout(nodes=1, gpus_per_node=2, tp=2), timeout=20) as world:
        world.cell("import pickle; pickle.dumps = None", only=1)
        with pytest.raises(RanksError, match="TypeError: 'NoneType' object is not callable"):
            world.run(lambda rank: rank)
        assert list(world.run(lambda rank: rank)) == [0, 1]


TOLD_AT_ONCE = """
import subprocess, threading, time
from mpviz.world import guard
started, start = [], subprocess.Popen
def slowly(*args, **kwargs):
    started.append(start(*args, **kwargs))
    time.sleep(0.2)
    return started[-1]
subprocess.Popen = slowly
threads = [threading.Thread(target=guard.watch, args=[f"folder-{n}"]) for n in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(started))
"""


def test_threads_that_start_worlds_at_once_share_one_guard(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", TOLD_AT_ONCE],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=True, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.split() == ["1"]
