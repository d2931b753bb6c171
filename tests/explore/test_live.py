"""A curve that grows while a loop is under way, and ■ between two of its steps."""

import signal

import IPython.display
import pytest

from mpviz import draw, explore
from mpviz.explore import live


@pytest.fixture
def shown(monkeypatch):
    """Be in Jupyter, where each drawing is due; return what is displayed, and what replaces it."""
    shown = []

    class Handle:
        def update(self, data, metadata, raw):
            shown.append(("update", data, metadata))

    def display(data, metadata, raw, display_id):
        shown.append(("display", data, metadata))
        return Handle()

    monkeypatch.setattr(IPython.display, "display", display)
    monkeypatch.setattr(live, "_in_notebook", lambda: True)
    monkeypatch.setattr(live, "_SECONDS", -1.0)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job's may be ignored
    yield shown
    signal.signal(signal.SIGINT, before)


def test_it_is_there_from_the_start_and_grows_in_place(shown):
    with explore.curve("16 ranks", steps=3) as chart:
        for value in (3.5, 2.5, 1.5):
            chart.add(value)
    assert [how for how, _, _ in shown] == ["display", *["update"] * 4]
    assert {data["text/plain"] for _, data, _ in shown} == {"Loss: 16 ranks, 3 steps"}
    said = [metadata["image/png"]["alt"].splitlines()[-1].split()[2:] for *_, metadata in shown]
    assert said[0] == ["–", "–", "–"] and said[2] == ["3.50", "2.50", "–"]
    assert said[-1] == ["3.50", "2.50", "1.50"]
    assert len({data["image/png"] for _, data, _ in shown}) == 4


def test_it_is_drawn_no_more_often_than_one_can_see(shown, monkeypatch):
    monkeypatch.setattr(live, "_SECONDS", 60.0)
    with explore.curve("fast") as chart:
        for value in range(100):
            chart.add(value)
    assert len(shown) == 2


def test_an_interrupt_waits_for_the_next_value(shown):
    before = signal.getsignal(signal.SIGINT)
    finished, chart = [], explore.curve("16 ranks", steps=9)
    with pytest.raises(KeyboardInterrupt, match="after 3 of 9 steps"), chart:
        for step in range(9):
            if step == 2:
                signal.raise_signal(signal.SIGINT)
            finished.append(step)
            chart.add(1.0)
    assert finished == [0, 1, 2] and len(chart.values) == 3
    assert signal.getsignal(signal.SIGINT) is before
    assert shown[-1][2]["image/png"]["alt"] == chart.picture.text


def test_a_second_interrupt_does_not_wait(shown):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), explore.curve("16 ranks") as chart:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("it waited")
    assert chart.values == [] and signal.getsignal(signal.SIGINT) is before


def test_elsewhere_its_text_is_printed_at_the_end(monkeypatch, capsys):
    monkeypatch.setattr(live, "_in_notebook", lambda: False)
    with explore.curve("16 ranks") as chart:
        chart.add(1)
        assert capsys.readouterr().out == ""
    assert capsys.readouterr().out == f"{draw.curves({'16 ranks': [1]})}\n"
