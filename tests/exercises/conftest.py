"""How long the tests of the exercises wait for an answer that hangs."""

import pytest

from mpviz.exercises import ranks


@pytest.fixture
def impatient(monkeypatch):
    """Give an answer that hangs two seconds, not ten: all ranks are long where they wait."""
    monkeypatch.setattr(ranks, "SECONDS", 2.0)
