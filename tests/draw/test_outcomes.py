"""Of a run that failed, the picture leads to the cause: by colour, border and sign."""

from itertools import pairwise

import pytest
from draw.test_legible import check

from mpviz import ParallelLayout, draw
from mpviz.draw.canvas.scene import Box, Label
from mpviz.draw.canvas.theme import INK, PAPER
from mpviz.world.pool import Run
from mpviz.world.protocol import CELL, Failure, Outcome, Place
from mpviz.world.report import Diagnosis
from mpviz.world.world import RanksError

LAYOUT = ParallelLayout(nodes=1, gpus_per_node=8, tp=2, pp=2)
LINE = Place(CELL, 3, "x = 1 / 0")
DONE = Outcome()
RAISED = Outcome(failure=Failure("ValueError", "three", LINE, ""))
BUSY = Place(CELL, 5, "while True: pass")


def waits(*group, peer=None):
    return Place(CELL, 2, "dist.all_reduce(x)", "all_reduce", group, "dp", peer)


def pictured(outcomes=None, died=None, places=None):
    run = Run(outcomes or {}, died=died or {}, places=places or {})
    return RanksError(Diagnosis(LAYOUT, run, 2.0)).picture


def signs(picture):
    """By sign, the ranks that have it in the text."""
    found = {"✗": set(), "…": set()}
    for line in picture.text.splitlines()[2:-1]:
        words = line.split()
        for sign, rank in pairwise(words):
            if sign in found:
                found[sign].add(int(rank.rstrip(":")))
    return found["✗"], found["…"]


CASES = {
    "a rank that never comes": (
        dict.fromkeys(range(1, 8), DONE),
        {},
        {0: waits(0, 2)},
        ({2}, {0}),
        "✗ 2: never came (done)",
    ),
    "a rank that was not asked": (
        {3: DONE},
        {},
        {0: waits(peer=1)},
        ({1}, {0}),
        "✗ 1: never came (not asked to run)",
    ),
    "a rank that computes on": (
        dict.fromkeys(range(4, 8), DONE),
        {},
        {0: waits(0, 2), 1: waits(1, 3), 2: BUSY, 3: BUSY},
        ({2, 3}, {0, 1}),
        "✗ 2: never came (busy)",
    ),
    "a rank that raised": (
        {r: RAISED if r == 5 else DONE for r in range(1, 8)},
        {},
        {0: waits(0, 2, 5)},
        ({5}, {0}),
        "✗ 5: raised ValueError",
    ),
    "a rank that died": (
        dict.fromkeys(range(2, 8), DONE),
        {1: -9},
        {0: waits(0, 1)},
        ({1}, {0}),
        "✗ 1: died, killed by signal 9 (SIGKILL)",
    ),
    "two that wait for each other": (
        dict.fromkeys(range(2, 8), DONE),
        {},
        {0: waits(peer=1), 1: waits(peer=0)},
        (set(), {0, 1}),
        "… 0: waits in all_reduce",
    ),
    "one that never ends": (
        dict.fromkeys(range(1, 8), DONE),
        {},
        {0: BUSY},
        ({0}, set()),
        "✗ 0: busy",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_who_is_the_cause_and_who_waits(name):
    outcomes, died, places, wanted, words = CASES[name]
    picture = pictured(outcomes, died, places)
    assert signs(picture) == wanted
    assert words in picture.text
    check(picture.scene)


def test_the_cause_has_a_colour_a_border_and_a_sign_of_its_own():
    outcomes, died, places, *_ = CASES["a rank that never comes"]
    picture = pictured(outcomes, died, places)
    cells = {box.rank: box for box in picture.scene.of(Box) if box.rank is not None}
    cause, waiting, other = cells[2], cells[0], cells[5]
    assert len({cause.face, waiting.face, other.face}) == 3 and other.face == PAPER
    assert cause.edge == INK and cause.line > 2 * other.line and waiting.line == other.line
    words = [label.text for label in picture.scene.of(Label)]
    assert "✗ the cause" in words and "… waits for another rank" in words
    assert sum(word.startswith("✗ never came") for word in words) == 1


def test_on_a_large_cluster_the_copy_with_the_cause_is_drawn_large():
    layout = ParallelLayout(nodes=128, tp=8, pp=4)
    states = dict.fromkeys(range(1024), "waits in recv") | {777: "done"}
    picture = draw.outcomes(layout, states, causes=[777], waiting=[r for r in states if r != 777])
    cells = {box.rank: box for box in picture.scene.of(Box) if box.rank is not None}
    assert 777 in cells and cells[777].edge == INK and cells[777].line > 2
    assert "777" in {label.text for label in picture.scene.of(Label)}
    check(picture.scene)


def test_signs_that_do_not_occur_are_not_explained():
    picture = draw.outcomes(LAYOUT, {0: "done"})
    assert "✗" not in picture.text and "…" not in picture.text


def test_a_rank_that_is_none_is_refused():
    with pytest.raises(ValueError, match="rank 8 is out of range"):
        draw.outcomes(LAYOUT, {}, causes=[8])
