"""Ranks for the tests of the exercises that are tried on them."""

from contextlib import nullcontext

import pytest

from mpviz.exercises import ranks
from mpviz.world import World


@pytest.fixture(scope="module")
def kept_ranks():
    """Try answer after answer on the same ranks; a reader's tries have ranks of their own."""
    worlds = {}

    def kept(layout, timeout):
        if (layout, timeout) not in worlds:
            worlds[layout, timeout] = World(layout, timeout=timeout)
        return nullcontext(worlds[layout, timeout])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mpviz.world.World", kept)
        yield
    for world in worlds.values():
        world.close()


@pytest.fixture
def impatient(monkeypatch):
    """Give an answer that hangs two seconds, not ten: all ranks are long where they wait."""
    monkeypatch.setattr(ranks, "SECONDS", 2.0)
