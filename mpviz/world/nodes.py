"""Two nodes on one laptop: Linux network namespaces, joined by a slow cable, without root.

A node is a network of its own, with a loopback and one interface, ``eth0``; and a tree of processes
under a process 1, with which the kernel ends all others. Its ``/proc`` shows these alone. Files
are those of the laptop, and so are its boot id, its host name and its clocks.

The nodes reach each other at `Node.address`, and nothing else; the notebook is outside of both.
Three ways lead in:

- a command that runs in a node, with its pipes: `Node.popen`;
- a Unix socket in a folder (``ipc://`` to ZeroMQ), for files are common to all;
- `Node.socket`: a socket of a node's network in the hands of the notebook, which can listen on it
  and accept what both nodes dial.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Any

PROGRAMS = ("unshare", "nsenter", "setpriv", "ip", "tc")
"""Of util-linux and iproute2."""

_RATE = re.compile(r"[1-9]\d*(\.\d+)?[kmg]?bit")
_RUN = 'cd "$0" && echo > "/proc/self/fd/$1" && shift && exec "$@"'
_SEND_SOCKET = """
import socket, sys
notebook, ours = socket.socket(fileno=int(sys.argv[1])), socket.socket()
socket.send_fds(notebook, [b"!"], [ours.fileno()])
"""


class Node:
    """One of two nodes.

    Parameters
    ----------
    address : str
        At which the other node reaches it.
    inside : list of str
        How a command line begins that runs in the user namespace of both.

    Attributes
    ----------
    interface : str
        Its end of the cable, for ``GLOO_SOCKET_IFNAME`` and ``NCCL_SOCKET_IFNAME``.
    pid : int
        Of the process that has made the node's namespaces.
    """

    interface = "eth0"

    def __init__(self, address: str, inside: list[str]) -> None:
        self.address = address
        new = ["unshare", "--net", "--pid", "--mount-proc", "--fork", "--kill-child"]
        # Process 1 reads a pipe of ours. When we end, however we do, it ends, and the node with it.
        self._maker = subprocess.Popen(
            [*inside, *new, "sh", "-c", "echo; exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # an interrupt of the notebook is none of the node
        )
        self.pid = self._maker.pid
        assert self._maker.stdout is not None
        if not self._maker.stdout.readline():
            raise OSError(f"no namespaces: {self._maker.communicate()[1].strip()}")

    def popen(self, command: Sequence[str], **options: Any) -> "subprocess.Popen[Any]":
        """Start a command in the node.

        Parameters
        ----------
        command : sequence of str
            The program and its arguments.
        **options
            As `subprocess.Popen` takes them.

        Returns
        -------
        subprocess.Popen
            To signal it is to kill the command. What the command has started ends with the node.
        """
        folder = os.path.realpath(options.pop("cwd", None) or ".")
        dies_with_it = [*self.enter("net", "pid", "mount"), "setpriv", "--pdeathsig", "KILL"]
        reading, writing = os.pipe()
        options["pass_fds"] = [*options.get("pass_fds", ()), writing]
        with open(reading) as told:
            with open(writing, "w"):
                words = [*dies_with_it, "sh", "-c", _RUN, folder, str(writing), *command]
                running = subprocess.Popen(words, **options)
            told.readline()  # from now on it does
        return running

    def socket(self) -> socket.socket:
        """Return a TCP socket of the node's network, to bind, listen on or connect from outside."""
        ours, its = socket.socketpair()
        with ours, its:
            send = [sys.executable, "-ISc", _SEND_SOCKET, str(its.fileno())]
            _run([*self.enter("net"), *send], pass_fds=[its.fileno()])
            _, files, _, _ = socket.recv_fds(ours, 1, 1)
        return socket.socket(fileno=files[0])

    def enter(self, *namespaces: str) -> list[str]:
        """Return how a command line begins that runs in namespaces of the node: net, pid, mount."""
        files = {"mount": "mnt", "pid": "pid_for_children"}
        chosen = ((name, files.get(name, name)) for name in ("user", *namespaces))
        options = [f"--{name}=/proc/{self.pid}/ns/{file}" for name, file in chosen]
        return ["nsenter", "--preserve-credentials", *options]

    def close(self) -> None:
        """End everything that runs in the node, and wait until it has."""
        if self._maker.poll() is None:
            self._maker.communicate()  # closes the pipe that process 1 reads


class TwoNodes:
    """Two nodes, joined by a cable.

    Parameters
    ----------
    rate : str
        Bits a second in each direction, as ``tc`` writes them.

    Raises
    ------
    OSError
        Where the system gives no namespaces to this user, or lacks a program; it says which.
    ValueError
        If the rate is none.

    Examples
    --------
    The nodes end with the block, with `close`, or with the process that made them::

        with TwoNodes(rate="100mbit") as nodes:
            server = nodes[0].popen(["python", "server.py"])
            client = nodes[1].popen(["python", "client.py", nodes[0].address])
            client.wait()

    >>> TwoNodes(rate="fast")
    Traceback (most recent call last):
        ...
    ValueError: a rate is bits a second, such as '100mbit' or '1gbit', got 'fast'
    """

    def __init__(self, rate: str = "100mbit") -> None:
        if not isinstance(rate, str) or not _RATE.fullmatch(rate):
            raise ValueError(f"a rate is bits a second, such as '100mbit' or '1gbit', got {rate!r}")
        if missing := [program for program in PROGRAMS if not shutil.which(program)]:
            raise OSError(f"two nodes need {', '.join(missing)}, of Linux's util-linux or iproute2")
        self._nodes = [Node("10.0.0.1", ["unshare", "--user", "--map-root-user"])]
        try:
            self._nodes.append(Node("10.0.0.2", self[0].enter()))
            self._join(rate)
        except BaseException:
            self.close()
            raise

    def _join(self, rate: str) -> None:
        """Lay the cable: a pair of interfaces, one in each node, each with a limit of its own."""
        for node in self._nodes:
            _run([*node.enter("net"), "ip", "link", "set", "lo", "up"])
        cable = f"ip link add eth0 type veth peer name eth0 netns {self[1].pid}"
        _run([*self[0].enter("net"), *cable.split()])
        for node in self._nodes:
            for command in (
                f"ip address add {node.address}/24 dev eth0",
                "ip link set eth0 up",
                f"tc qdisc add dev eth0 root tbf rate {rate} burst 64kb latency 400ms",
            ):
                _run([*node.enter("net"), *command.split()])

    def __getitem__(self, number: int) -> Node:
        return self._nodes[number]

    def __len__(self) -> int:
        return len(self._nodes)

    def unplug(self) -> None:
        """Take the cable out: what either node sends is lost, without a word to the sender."""
        _run([*self[1].enter("net"), "ip", "link", "set", "eth0", "down"])

    def plug(self) -> None:
        """Put the cable back."""
        _run([*self[1].enter("net"), "ip", "link", "set", "eth0", "up"])

    def close(self) -> None:
        """End everything that runs in the nodes, and wait until it has."""
        for node in reversed(self._nodes):
            node.close()

    def __enter__(self) -> "TwoNodes":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _run(command: list[str], **options: Any) -> None:
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
