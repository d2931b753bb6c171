"""Ranks that find imported what torch's optimizers need."""

import os
from contextlib import contextmanager
from pathlib import Path

import pytest

from mpviz.world import launch


@contextmanager
def server_from(program):
    """Fork the ranks that start meanwhile from a server of this program."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "_servers", {})
        patch.setattr(launch.server, "__file__", str(program))
        yield
        if server := launch._servers.get(os.getpid()):
            server.close()


@pytest.fixture(scope="package", autouse=True)
def optimizers():
    with server_from(Path(__file__).with_name("server_with_optimizers.py")):
        yield


@pytest.fixture
def plain_server():
    """Fork the ranks of a test from the server that readers have."""
    with server_from(Path(launch.__file__).with_name("server.py")):
        yield
