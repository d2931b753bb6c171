"""Two nodes on this machine: what reaches what, how fast, and what is left of them."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mpviz.world.nodes import TwoNodes

SEND = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=20) as s:
    s.sendall(bytes(int(sys.argv[3])))
"""


@pytest.fixture
def server(nodes):
    """A socket of the first node that listens, in the hands of this process outside of it."""
    with nodes[0].socket() as listening:
        listening.bind((nodes[0].address, 0))
        listening.listen()
        listening.settimeout(20)
        yield listening


def sender(node, server, size):
    host, port = server.getsockname()
    return node.popen([sys.executable, "-ISc", SEND, host, str(port), str(size)])


def received(server):
    """How many bytes came, and in how many seconds."""
    connection, _ = server.accept()
    with connection:
        connection.settimeout(20)
        start, size = time.perf_counter(), 0
        while data := connection.recv(1 << 20):
            size += len(data)
    return size, time.perf_counter() - start


def marked(mark):
    """Processes with a word on their command line, wherever they run."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "cmdline").read_bytes():
                found.add(int(folder.name))
        except OSError:
            pass  # it has just ended
    return found - {os.getpid()}


def wait_until(holds, seconds=20):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_cable_is_as_slow_as_asked_and_what_stays_in_a_node_is_not(nodes, server):
    for node, size, least, most in (
        (nodes[1], 2_500_000, 0.15, 20),  # seconds: 0.2 at 100 Mbit/s
        (nodes[0], 50_000_000, 0, 3.5),  # 4
    ):
        with sender(node, server, size) as running:
            came, took = received(server)
        assert (came, running.returncode) == (size, 0)
        assert least < took < most


def test_the_network_of_this_process_is_outside_of_both(server):
    with pytest.raises(OSError):
        socket.create_connection(server.getsockname(), timeout=0.2)


def test_without_the_cable_nothing_comes_and_with_it_the_rest_does(nodes, server):
    size = 2_000_000
    with sender(nodes[1], server, size):
        connection, _ = server.accept()
        with connection:
            came = len(connection.recv(1000))
            nodes.unplug()
            try:
                connection.settimeout(0.5)
                with pytest.raises(TimeoutError):
                    while data := connection.recv(1 << 20):
                        came += len(data)
                assert 0 < came < size
            finally:
                nodes.plug()
            connection.settimeout(20)
            while data := connection.recv(1 << 20):
                came += len(data)
    assert came == size


LOOK = """
import os
print(os.getcwd(), os.getpid(), *sorted(int(p) for p in os.listdir("/proc") if p.isdigit()))
"""


def test_a_command_sees_its_own_folder_and_the_processes_of_its_node_alone(nodes, tmp_path):
    look = [sys.executable, "-ISc", LOOK]
    running = nodes[1].popen(look, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    folder, me, first, *others = running.communicate(timeout=20)[0].split()
    assert (folder, first, others[-1]) == (str(tmp_path), "1", me)
    assert len(others) <= 2


@pytest.mark.parametrize("end", [subprocess.Popen.kill, subprocess.Popen.terminate])
def test_to_kill_or_terminate_is_to_kill_the_command_however_early(nodes, end):
    for started in (0, 0.001, 0.002, 0.004, 0.3):
        running = nodes[0].popen(["sleep", "3600.25"])
        time.sleep(started)
        end(running)
        running.wait(20)
    wait_until(lambda: not marked("3600.25"))


MAKE = """
import signal, sys, time
from mpviz.world.nodes import TwoNodes
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
nodes = TwoNodes()
for node in (nodes[0], nodes[1]):
    node.popen(["sh", "-c", "setsid sleep " + sys.argv[1] + " & sleep " + sys.argv[1]])
time.sleep(3600)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_nothing_is_left_of_nodes_whose_owner_is_killed(nodes, number):
    mark = f"3601.{number}"
    with subprocess.Popen([sys.executable, "-c", MAKE, mark], stderr=subprocess.DEVNULL) as owner:
        try:
            wait_until(lambda: len(marked(f"sleep\0{mark}")) == 4)
            owner.send_signal(number)
            owner.wait(20)
        finally:
            owner.kill()
    wait_until(lambda: not marked(mark))


def test_nothing_is_left_of_nodes_that_are_closed(nodes):
    with TwoNodes() as others:
        running = others[1].popen(["sh", "-c", "setsid sleep 3602.5 & sleep 3602.5"])
        wait_until(lambda: len(marked("sleep\x003602.5")) == 2)
    assert not marked("sleep\x003602.5")
    running.wait(20)
    others.close()  # once more is nothing


def test_where_namespaces_are_refused_the_reason_is_told(nodes):
    """A user namespace in which no other may be made: as on Binder."""
    script = 'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"'
    made = subprocess.run(
        [*("unshare", "--user", "--map-root-user", "sh", "-c", script, "sh"),
         *(sys.executable, "-c", "from mpviz.world.nodes import TwoNodes; TwoNodes()")],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert "OSError: no namespaces: unshare: unshare failed" in made.stderr
    assert made.returncode == 1


def test_a_missing_program_is_named(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda program: None if program in ("ip", "tc") else "/")
    with pytest.raises(OSError, match="two nodes need ip, tc, of Linux's util-linux or iproute2"):
        TwoNodes()


@pytest.mark.parametrize("rate", ["", "0mbit", "-1mbit", "100", "100mbit burst 1", 100, None])
def test_a_rate_that_is_none_is_refused(rate):
    with pytest.raises(ValueError, match="a rate is bits a second"):
        TwoNodes(rate=rate)
