"""A world to be broken, and what must be left of it."""

import signal
import tempfile

import pytest
import traces
from world.faults import LAYOUT, added

from mpviz import World


@pytest.fixture
def interruptible():
    """Ctrl-C raises, even where the tests run in the background of a shell, which turns it off."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A place for temporary folders that no other process of the machine uses."""
    before, tempfile.tempdir = tempfile.tempdir, str(tmp_path_factory.mktemp("t"))
    yield tmp_path_factory.getbasetemp() / tempfile.tempdir
    tempfile.tempdir = before


@pytest.fixture(scope="module")
def shared(folder):
    before = traces.rank_pids()
    with World(LAYOUT, timeout=20) as world:
        yield world
    assert traces.rank_pids() <= before
    assert list(folder.glob("mpviz-*")) == []


@pytest.fixture
def world(shared, folder):
    """A world that runs, and that does so again after the test, with nothing beside it."""
    before = traces.rank_pids() - set(shared.pids)
    shared.start()
    yield shared
    assert added(shared) == [3, 3]
    assert traces.rank_pids() == before | set(shared.pids)
    assert len(list(folder.glob("mpviz-*"))) == 1
