"""The line that says how far a long run is."""

import sys

import IPython.display
import pytest

from mpviz.world import progress
from mpviz.world.progress import Progress


@pytest.fixture
def said(monkeypatch):
    """Be in Jupyter, where three seconds have gone by; return what is displayed."""
    said = []

    class Handle:
        def update(self, bundle, raw):
            said.append(bundle["text/plain"])

    def display(bundle, raw, display_id):
        said.append(bundle["text/plain"])
        return Handle()

    monkeypatch.setattr(IPython.display, "display", display)
    monkeypatch.setitem(sys.modules, "ipykernel", object())
    monkeypatch.setattr(progress, "_SILENT_SECONDS", 0.0)
    monkeypatch.delenv("MPVIZ_PROGRESS", raising=False)
    return said


def test_it_says_who_is_done_and_goes_away(said):
    with Progress(4) as line:
        line(1)
        line(3)
    assert said == ["1 of 4 ranks done, 0 s …", "3 of 4 ranks done, 0 s …", ""]


def test_it_is_silent_at_first(said, monkeypatch):
    monkeypatch.setattr(progress, "_SILENT_SECONDS", 60.0)
    with Progress(4) as line:
        line(1)
    assert said == []


def test_it_is_silent_where_outputs_are_compared(said, monkeypatch):
    monkeypatch.setenv("MPVIZ_PROGRESS", "0")
    with Progress(4) as line:
        line(1)
    assert said == []


def test_it_is_silent_outside_jupyter(said, monkeypatch):
    monkeypatch.delitem(sys.modules, "ipykernel")
    with Progress(4) as line:
        line(1)
    assert said == []
