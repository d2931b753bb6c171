"""What ranks returned, without any rank: outcomes are made by hand."""

import pickle

import pytest

from mpviz import Event, ParallelLayout
from mpviz.world.protocol import Outcome
from mpviz.world.results import Results, printed

LAYOUT = ParallelLayout(nodes=1, gpus_per_node=4, tp=2, pp=2)


def outcome(value=None, output="", events=()):
    if value is None:
        return Outcome(output=output, events=events)
    return Outcome(repr(value), pickle.dumps(value), output, events=events)


def results(values):
    return Results(LAYOUT, {rank: outcome(value) for rank, value in values.items()})


def test_a_sequence_in_rank_order_whoever_answered_first():
    found = results({2: "c", 0: "a", 3: "d", 1: "b"})
    assert list(found) == ["a", "b", "c", "d"]
    assert len(found) == 4
    assert found.ranks == (0, 1, 2, 3)
    assert found[0] == "a" and found[-1] == "d"
    assert found[1:3] == ["b", "c"] and found[::-1] == ["d", "c", "b", "a"]
    assert "c" in found and found.index("c") == 2
    with pytest.raises(IndexError):
        found[4]


def test_when_only_some_ran_positions_are_not_ranks():
    found = results({3: "d", 1: "b"})
    assert found.ranks == (1, 3)
    assert found[0] == "b" == found.of(1)
    assert found[1] == "d" == found.of(3)
    with pytest.raises(ValueError, match=r"rank 0 did not run; ranks that did: \[1, 3\]"):
        found.of(0)


def test_none_comes_back_as_none():
    found = results({0: None, 1: 7, 2: None, 3: None})
    assert list(found) == [None, 7, None, None]
    assert not found.all_none
    assert results({0: None, 1: None}).all_none


@pytest.mark.parametrize("nothing", [0, "", False, []])
def test_what_is_false_is_still_a_result(nothing):
    found = results({0: nothing})
    assert not found.all_none
    assert found[0] == nothing and found[0] is not None


def test_results_are_unpacked_only_when_looked_at():
    broken = Results(LAYOUT, {0: Outcome("tensor(1.)", b"no pickle")})
    assert "0: tensor(1.)" in repr(broken)
    assert len(broken) == 1 and not broken.all_none
    with pytest.raises(pickle.UnpicklingError):
        broken[0]


def test_shown_on_the_slide_grid():
    found = results({0: 1.5, 1: None, 2: "x", 3: [1, 2]})
    assert repr(found) == (
        "What every rank returned\n"
        "              pp 0     pp 1\n"
        "model₁  tp 0  0: 1.5   2: 'x'\n"
        "        tp 1  1: None  3: [1, 2]"
    )
    data, _ = found._repr_mimebundle_()
    assert data["text/plain"] == repr(found)
    assert data["image/png"]


def test_who_did_not_run_has_no_word_on_the_grid():
    assert repr(results({2: 5})) == (
        "What rank 2 returned\n"
        "              pp 0  pp 1\n"
        "model₁  tp 0  ·     2: 5\n"
        "        tp 1  ·     ·"
    )  # fmt: skip


def test_a_few_ranks_are_counted():
    assert repr(results({0: 1, 2: 5})).startswith("What 2 ranks returned\n")


def test_output_is_kept_by_rank_and_silence_left_out():
    outcomes = {1: outcome(output="one"), 0: outcome(output="nought"), 2: outcome(2)}
    found = Results(LAYOUT, outcomes)
    assert list(found.output.items()) == [(0, "nought"), (1, "one")]


def test_events_of_all_ranks_come_in_order_of_time():
    def event(rank, start):
        return Event(rank, "barrier", start, start + 9)

    found = Results(
        LAYOUT,
        {
            1: outcome(events=(event(1, 0.1), event(1, 0.4))),
            0: outcome(events=(event(0, 0.2), event(0, 0.3))),
        },
    )
    assert [(event.rank, event.start) for event in found.events] == [
        (1, 0.1),
        (0, 0.2),
        (0, 0.3),
        (1, 0.4),
    ]


@pytest.mark.parametrize(
    ("output", "shown"),
    [
        ({}, ""),
        ({3: "hi"}, "rank 3 │ hi"),
        ({0: "x", 1: "x"}, "ranks 0 1 │ x"),
        ({0: "x", 1: "x", 2: "x"}, "ranks 0–2 │ x"),
        (
            {rank: "even" if rank % 2 == 0 else "odd" for rank in range(4)},
            "ranks 0 2 │ even\nranks 1 3 │ odd",
        ),
        (
            dict.fromkeys((0, 1, 2, 4, 6, 7, 9, 10, 11), "x"),
            "ranks 0–2 4 6 7 9–11 │ x",
        ),
        ({0: "a\nb", 1: "c"}, "rank 0 │ a\n       │ b\nrank 1 │ c"),
        ({10: "b", 9: "a"}, "rank 9  │ a\nrank 10 │ b"),
        ({2: "same", 1: "other", 0: "same"}, "ranks 0 2 │ same\nrank 1    │ other"),
        ({0: "a\n\nb"}, "rank 0 │ a\n       │ \n       │ b"),
    ],
)
def test_what_was_printed(output, shown):
    assert printed(output) == shown
