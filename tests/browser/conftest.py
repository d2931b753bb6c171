"""A real JupyterLab, started as a reader starts it, and a real Chromium to look at it."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import nbformat
import psutil
import pytest
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[2]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
# JupyterLab takes cells out of the page while they are out of view; here all are looked at.
SETTINGS = {"@jupyterlab/notebook-extension/tracker.jupyterlab-settings": {"windowingMode": "none"}}


class Lab(NamedTuple):
    url: str
    token: str

    def address(self, path):
        return f"{self.url}{path}?token={self.token}"


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


def stop(server):
    """End make, JupyterLab and its kernels, which have process groups of their own."""
    if server.poll() is not None:
        return
    family = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    os.killpg(server.pid, signal.SIGTERM)
    for process in psutil.wait_procs(family, timeout=20)[1]:
        process.kill()
    server.wait(timeout=10)


@pytest.fixture(scope="session")
def lab():
    """Serve a copy of the lessons through `make lab`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        unanswered_copy(folder / "notebooks")
        with (folder / "log").open("w") as log:
            server = subprocess.Popen(
                ["make", "lab", f"LESSON={folder}/notebooks/00_start_here.ipynb",
                 "LAB_ARGS=--no-browser --ServerApp.port=0"],
                cwd=ROOT, env=own_environment(folder), start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        try:
            if not (found := where_it_listens(server, folder / "runtime", seconds=60)):
                pytest.fail("make lab did not come up:\n" + (folder / "log").read_text()[-3000:])
            yield found
        finally:
            stop(server)


def where_it_listens(server, runtime, seconds):
    """Wait until JupyterLab has written down its address; None if it ends or says nothing."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and server.poll() is None:
        for path in runtime.glob("jpserver-*.json"):
            if text := path.read_text():
                said = json.loads(text)
                return Lab(said["url"], said["token"])
        time.sleep(0.1)
    return None


@pytest.fixture(scope="session")
def chromium():
    """Start the system's Chromium; without one, skip, or fail where one is required."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not found:
        required = os.environ.get("MPVIZ_REQUIRE_BROWSER") == "1"
        (pytest.fail if required else pytest.skip)(f"no browser here: none of {BROWSERS}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium):
    """Open an empty tab that remembers what went wrong in it, as `page.errors`."""
    with chromium.new_context(viewport={"width": 1400, "height": 900}) as context:
        page = context.new_page()
        page.errors = []
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.on("console", lambda said: said.type == "error" and page.errors.append(said.text))
        yield page
