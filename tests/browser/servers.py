"""Jupyter servers as a reader starts them: each in a folder of its own, all gone at the end."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import nbformat
import psutil

ROOT = Path(__file__).parents[2]
# JupyterLab takes cells out of the page while they are out of view; here all are looked at.
SETTINGS = {"@jupyterlab/notebook-extension/tracker.jupyterlab-settings": {"windowingMode": "none"}}


class Server(NamedTuple):
    """One that listens: its address, its folder, and the process that was started."""

    url: str
    token: str
    folder: Path
    process: psutil.Process

    def address(self, path):
        return f"{self.url}{path}" + (f"?token={self.token}" if self.token else "")

    @property
    def log(self):
        """All that the server and its kernels have said until now."""
        return (self.folder / "log").read_text()


class Program(NamedTuple):
    """How to start a server on the lessons in a folder, and how to learn its address."""

    command: Callable
    listens: Callable


def jupyterlab(folder):
    lesson = folder / "notebooks" / "00_start_here.ipynb"
    return ["make", "lab", f"LESSON={lesson}", "LAB_ARGS=--no-browser --ServerApp.port=0"]


def notebook_7(folder):
    return [
        *(sys.executable, "-m", "notebook", "--no-browser", "--allow-root"),
        *("--ServerApp.port=0", f"--ServerApp.root_dir={folder / 'notebooks'}"),
    ]


def voila(folder):
    return [
        *(sys.executable, "-m", "voila", "--no-browser", "--port=0"),
        # Made for the page of Notebook 7 alone, whose package the tests have installed.
        "--VoilaConfiguration.extension_denylist=@jupyter-notebook/lab-extension",
        *(f"--Voila.connection_dir_root={folder}", str(folder / "notebooks")),
    ]


def written_down(folder, process):
    """Read the address that a Jupyter server leaves in its runtime folder; None before it listens.

    It writes the file first.
    """
    for path in (folder / "runtime").glob("jpserver-*.json"):
        if text := path.read_text():
            said = json.loads(text)
            with suppress(OSError), socket.create_connection(("localhost", said["port"]), 1):
                return Server(said["url"], said["token"], folder, process)
    return None


def seen_listening(folder, process):
    """Look for the socket of a server that says nowhere which one it took; None before."""
    for each in process.net_connections(kind="tcp"):
        if each.status == psutil.CONN_LISTEN:
            return Server(f"http://localhost:{each.laddr.port}/", "", folder, process)
    return None


JUPYTERLAB = Program(jupyterlab, written_down)
NOTEBOOK_7 = Program(notebook_7, written_down)
VOILA = Program(voila, seen_listening)


@contextmanager
def serving(program):
    """Serve a copy of the lessons until the block ends."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        unanswered_copy(folder / "notebooks")
        with (folder / "log").open("w") as log:
            started = subprocess.Popen(
                program.command(folder),
                cwd=ROOT, env=own_environment(folder), start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        try:
            yield listening(program, folder, started, seconds=60)
        finally:
            stop(started)


def unanswered_copy(folder):
    """Copy the lessons without their outputs: whatever shows up later was made by the run."""
    shutil.copytree(ROOT / "notebooks", folder)
    for path in folder.glob("*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        nbformat.write(notebook, path)


def own_environment(folder):
    """Keep the server away from the user's settings, and from the `make` that runs the tests."""
    for name, content in SETTINGS.items():
        path = folder / "config" / "lab" / "user-settings" / name
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(content))
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("JUPYTER", "MAKE", "MFLAGS"))}
    return kept | {
        "IPYTHONDIR": str(folder / "ipython"),
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_DATA_DIR": str(folder / "data"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
    }


def listening(program, folder, started, seconds):
    """Wait until the server answers for its address; raise with what it said if it does not."""
    deadline = time.monotonic() + seconds
    process = psutil.Process(started.pid)
    while time.monotonic() < deadline and started.poll() is None:
        if found := program.listens(folder, process):
            return found
        time.sleep(0.1)
    raise RuntimeError("it did not come up:\n" + (folder / "log").read_text()[-3000:])


def stop(started):
    """End the server and its kernels, which have process groups of their own."""
    if started.poll() is not None:
        return
    family = [psutil.Process(started.pid), *psutil.Process(started.pid).children(recursive=True)]
    os.killpg(started.pid, signal.SIGTERM)
    for process in psutil.wait_procs(family, timeout=20)[1]:
        process.kill()
    started.wait(timeout=10)
