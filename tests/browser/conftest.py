"""A real JupyterLab, started as a reader starts it, and a real Chromium to look at it."""

import os
import shutil

import nbformat
import pytest
from browser import kernels, pages, servers
from xdist.scheduler import LoadScopeScheduling

# What shares a page or a server stays in one process: by a part of the tests' names. (The groups
# of pytest-xdist 3.8 have no effect with pytest 9.2, which reads no `_nodeid` of a test.)
SHARED = {
    "notebook_7": "Notebook 7",
    "voila": "Voilà",
    "test_explorers": "sliders in JupyterLab",
    "test_own_sliders": "sliders in JupyterLab",
    "test_saved_pages": "saved pages",
    "test_nbconvert": "slides",
}
SLIDERS = "03_move_the_sliders.ipynb"


class Together(LoadScopeScheduling):
    """Tests that share something as one piece of work, each other test as its own."""

    def _split_scope(self, nodeid):
        return next((scope for part, scope in SHARED.items() if part in nodeid), nodeid)


def pytest_xdist_make_scheduler(config, log):
    """Let `--dist loadgroup` mean that."""
    return Together(config, log) if config.getvalue("dist") == "loadgroup" else None


@pytest.fixture(scope="session")
def lab():
    """Serve a copy of the lessons through `make lab`."""
    with servers.serving(servers.JUPYTERLAB) as server:
        yield server


@pytest.fixture(scope="session")
def notebook_7():
    """Serve a copy of the lessons through Notebook 7."""
    with servers.serving(servers.NOTEBOOK_7) as server:
        yield server


@pytest.fixture(scope="session")
def voila():
    """Serve a copy of the lessons as pages of Voilà."""
    with servers.serving(servers.VOILA) as server:
        yield server


@pytest.fixture(scope="session")
def chromium():
    """Start the system's Chromium; without one, skip, or fail where one is required."""
    if not (found := pages.found_browser()):
        required = os.environ.get("MPVIZ_REQUIRE_BROWSER") == "1"
        (pytest.fail if required else pytest.skip)(f"no browser here: none of {pages.BROWSERS}")
    with pages.chromium(found) as browser:
        yield browser


@pytest.fixture
def page(chromium):
    """Open an empty tab that remembers what went wrong in it, as `page.errors`."""
    with pages.tab(chromium) as page:
        yield page


@pytest.fixture(scope="session")
def sliders(lab, chromium):
    """Open the lesson with the explorers in JupyterLab and run it: its page, with `.kernel`."""
    lessons = lab.folder / "notebooks"
    mine = shutil.copy(lessons / SLIDERS, lessons / "sliders.ipynb")  # a kernel of its own
    cells = nbformat.read(mine, as_version=4).cells
    with pages.tab(chromium) as page:
        code = sum(cell.cell_type == "code" for cell in cells)
        pages.run_in_jupyterlab(page, lab, mine.name, code)
        with kernels.kernel_of(lab) as page.kernel:
            yield page
