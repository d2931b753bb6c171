"""Plans as values, and as text."""

from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import given
from schedule.plans import plans

from mpviz import schedule
from mpviz.schedule import Action, Plan, looped, parse, v_shaped

BY_HAND = """
    0F0 0F1 0B0 0B1
    1F0 1B0 1F1 1B1
"""


def test_an_action_is_a_small_value() -> None:
    assert Action(2, "F", 0) == (2, "F", 0) == Action.parse("2F0") == Action.parse(" 2f0 ")
    assert (str(Action(1, "W", 13)), repr(Action(1, "W", 13))) == ("1W13", "1W13")
    assert Action(0, "F", 0) < Action(0, "F", 1) < Action(1, "B", 0)


@pytest.mark.parametrize("text", ["", "F0", "0F", "0G0", "-1F0", "0F0x", "0F 0", "0.5F0"])
def test_what_is_no_action_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no action; write the stage, one of F, B, I and W"):
        Action.parse(text)


def test_a_plan_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        parse(BY_HAND).pp = 3  # type: ignore[misc]


def test_plans_are_equal_when_the_ranks_do_the_same() -> None:
    plan = schedule.one_forward_one_backward(pp=2, microbatches=2)
    by_hand = parse(BY_HAND)
    assert by_hand == plan and hash(by_hand) == hash(plan)
    assert (by_hand.name, plan.name) == ("by hand", "1F1B")
    assert schedule.gpipe(pp=2, microbatches=2) != plan


def test_actions_may_be_given_as_lists() -> None:
    lists = [[Action(0, "F", 0), Action(0, "B", 0)]]
    assert Plan(pp=1, microbatches=1, actions=lists).actions == (tuple(lists[0]),)  # type: ignore[arg-type]


@given(plans(pp=8, microbatches=16))
def test_a_plan_is_what_its_text_says(plan: Plan) -> None:
    assert parse(plan.text) == plan


def test_a_plan_prints_one_line_for_each_rank() -> None:
    assert str(parse(BY_HAND)) == "rank 0  0F0 0F1 0B0 0B1\nrank 1  1F0 1B0 1F1 1B1"


def test_long_lines_and_many_ranks_are_shortened() -> None:
    lines = str(schedule.gpipe(pp=20, microbatches=13)).splitlines()
    assert len(lines) == 17 and lines[-1] == "… 4 more ranks"
    assert lines[0].startswith("rank 0   0F0 0F1") and lines[0].endswith("0B8 … 0B12")
    assert lines[10].startswith("rank 10  10F0")
    assert schedule.gpipe(pp=20, microbatches=13).text.splitlines()[19].count("19") == 26 + 1


def test_what_fits_in_24_words_is_not_shortened() -> None:
    assert str(schedule.gpipe(pp=2, microbatches=12)) == schedule.gpipe(pp=2, microbatches=12).text


@pytest.mark.parametrize(
    "text",
    [
        "rank 0: 0F0, 0F1, 0B0, 0B1\nrank 1: 1F0, 1B0, 1F1, 1B1",
        "\n\n rank 0  0F0 0F1 0B0 0B1 \n\n\n Rank 1 1F0 1B0 1F1 1B1\n",
        "0f0;0f1;0b0;0b1\n1F0|1B0|1F1|1B1",
        "\t0F0\t0F1 ,, 0B0 0B1\n1F0 1B0 1F1 1B1,",
    ],
)
def test_readers_may_write_as_they_like(text: str) -> None:
    assert parse(text) == parse(BY_HAND)


def test_a_rank_may_do_nothing() -> None:
    plan = parse("rank 0: 1F0\nrank 1:")
    assert plan.actions == ((Action(1, "F", 0),), ())


def test_the_sizes_are_those_the_text_speaks_of() -> None:
    plan = parse("0F0 2F0 2B0 0B0 \n 1F0 3F0 3B0 1B0")
    assert (plan.pp, plan.microbatches, plan.chunks, plan.stages) == (2, 1, 2, 4)
    assert plan.placement == (0, 1, 0, 1)
    assert plan.stages_of(1) == (1, 3)
    more = parse("0F0", microbatches=3, name="mine")
    assert (more.microbatches, more.name) == (3, "mine")


def test_a_v_is_recognised() -> None:
    plan = schedule.zero_bubble_v(pp=2, microbatches=2)
    assert parse(plan.text).placement == (0, 1, 1, 0) == plan.placement
    assert parse("0F0 3F0 \n 1F0 2F0", placement=(1, 0, 1, 0)).placement == (1, 0, 1, 0)


def test_stages_go_round_or_turn_back() -> None:
    assert looped(4) == v_shaped(4, chunks=1) == (0, 1, 2, 3)
    assert looped(2, 3) == (0, 1, 0, 1, 0, 1)
    assert v_shaped(2, 3) == (0, 1, 1, 0, 0, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a plan has a line for each pipeline rank, and this text has none"),
        (" \n ", "this text has none"),
        ("rank 0:", "no rank does anything"),
        ("0F0 0X0", "line of rank 0: '0X0' is no action"),
        ("0F0\n1F0 F1", "line of rank 1: 'F1' is no action"),
        ("rank 1: 0F0", "line 1 of the ranks says 'rank 1:', not rank 0"),
        ("rank 0: 0F0\nrank 0: 0F0", "line 2 of the ranks says 'rank 0:', not rank 1"),
        ("0F0 0F1 … 0B9", r"line of rank 0 was shortened \(…\); plan.text has all of it"),
        ("0F0\n1F0 2F0", r"3 stages \(0 … 2\) cannot be dealt evenly to 2 ranks \(lines\); there "
                         r"may be 2, 4, 6 … stages"),
        ("0F0 0F99999999", "0F99999999 is out of all proportion to a plan of 2 actions"),
    ],
)  # fmt: skip
def test_text_that_is_no_plan_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(text)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"pp": 0}, "pp must be a whole number ≥ 1, got 0"),
        ({"microbatches": 1.5}, "microbatches must be a whole number ≥ 1, got 1.5"),
        ({"chunks": True}, "chunks must be a whole number ≥ 1, got True"),
        ({"pp": 3}, "pp=3 ranks need as many lines, got 2"),
        ({"placement": (0, 0)}, "placement must name each of the 2 ranks 1 times"),
        ({"placement": (0,)}, "placement must name each of the 2 ranks"),
        ({"actions": (("0F0",), ())}, "a plan is made of actions, got '0F0'; read text by parse"),
    ],
)
def test_sizes_that_disagree_are_refused(sizes: dict[str, object], message: str) -> None:
    given = {"pp": 2, "microbatches": 1, "actions": ((), ())} | sizes
    with pytest.raises(ValueError, match=message):
        Plan(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (Action(0.5, "F", 0), "the stage of 0.5F0 must be a whole number, got 0.5"),  # type: ignore[arg-type]
        (Action(0, "F", "0"), "the microbatch of 0F0 must be a whole number, got '0'"),  # type: ignore[arg-type]
        (Action(True, "F", 0), "the stage of TrueF0 must be a whole number, got True"),
        (Action(0, "F", None), "the microbatch of 0FNone must be a whole number"),  # type: ignore[arg-type]
    ],
)
def test_stages_and_microbatches_are_whole(action: Action, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Plan(pp=1, microbatches=1, actions=((Action(0, "F", 0), action),))


def test_whole_numbers_of_numpy_are_whole() -> None:
    counted = Action(np.int64(0), "F", np.int32(0))  # type: ignore[arg-type]
    assert Plan(pp=1, microbatches=1, actions=((counted,),)) == parse("0F0")


def test_messages_cross_ranks_and_no_v_turns() -> None:
    assert schedule.gpipe(pp=1, microbatches=8).messages == 0
    assert schedule.gpipe(pp=4, microbatches=8).messages == 2 * 8 * 3
    assert schedule.interleaved_1f1b(pp=4, microbatches=8, chunks=2).messages == 2 * 8 * 7
    assert schedule.zero_bubble_v(pp=4, microbatches=8).messages == 2 * 8 * 6
