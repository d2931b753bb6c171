"""What is wrong with a plan is said, and is what is wrong; what is right is accepted."""

import re
from itertools import chain

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from schedule.plans import changed, plans, reordered

from mpviz.schedule import Action, Plan, parse, validate
from mpviz.timeline import simulate


def reason(plan: Plan) -> str:
    """Why the plan is refused; empty if it is not."""
    try:
        validate(plan)
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("given", "shown"),
    [("0F0", "'0F0'"), (None, "None"), ("0F0 0B0 " * 20, "'0F0 0B0 0F0 ... 0B0 0F0 0B0 '")],
)
def test_what_is_no_plan_is_no_plan(given: object, shown: str) -> None:
    with pytest.raises(ValueError) as refused:
        validate(given)  # type: ignore[arg-type]
    assert str(refused.value) == f"expected a Plan, got {shown}; read text with schedule.parse"


# ---- each rule, in the words of its message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "0F0 2F0 0B0\n1F0 1B0",  # chunks=1 is said below
            "unknown stage: rank 0 runs 2F0 at position 1, but the stages are 0 … 1 (pp=2 × "
            "chunks=1)",
        ),
        (
            "0F0 0F7 0B0\n1F0 1B0",
            "unknown microbatch: rank 0 runs 0F7 at position 1, but the microbatches are 0 … 0",
        ),
        (
            "0F0 1F0 0B0\n1B0",
            "wrong rank: rank 0 runs 1F0 at position 1, but stage 1 is on rank 1",
        ),
        (
            "0F0 0B0 0F0\n1F0 1B0",
            "twice: rank 0 runs 0F0 at position 0 and again at position 2",
        ),
        (
            "0F0 0B0\n1F0 1B0 1W0",
            "mixed backward: rank 1 runs 1B0 at position 1 and 1W0 at position 2, but B is I and "
            "W in one",
        ),
        (
            "0B0\n1F0 1B0",
            "a receive that never has its send: rank 1 runs 1F0 at position 0, which takes what "
            "0F0 sends, but no rank runs that",
        ),
        (
            "0F0 0B0\n1F0",
            "a receive that never has its send: rank 0 runs 0B0 at position 1, which takes what "
            "1B0 or 1I0 sends, but no rank runs that",
        ),
        ("0F0 0B0\n1B0", "missing: rank 1 never runs 1F0"),
        ("0F0\n1F0 1B0", "missing: rank 0 never runs 0B0"),
        ("0F0 0W0\n1F0 1B0", "missing: rank 0 never runs 0I0"),
        ("0F0 0I0\n1F0 1B0", "missing: rank 0 never runs 0W0"),
        (
            "0F0 0B0\n1B0 1F0",
            "backward before its forward: rank 1 runs 1B0 at position 0 and 1F0 at position 1",
        ),
        (
            "0F0 0B0\n1I0 1F0 1W0",
            "backward before its forward: rank 1 runs 1I0 at position 0 and 1F0 at position 1",
        ),
        (
            "0F0 0W0 0I0\n1F0 1B0",
            "W before its I: rank 0 runs 0W0 at position 1 and 0I0 at position 2",
        ),
        (
            "0F0 0B0 0F1 0B1\n1F0 1F1 1B0 1B1",
            "deadlock: rank 0 waits at 0B0 (position 1) for 1B0 of rank 1, which waits at 1F1 "
            "(position 1) for 0F1 of rank 0",
        ),
        (
            # Rank 0 waits too, but is not in the circle.
            "0F0 0F1 0B0 0B1\n1F0 1B0 1F1 1B1\n2F0 2F1 2B0 2B1",
            "deadlock: rank 1 waits at 1B0 (position 1) for 2B0 of rank 2, which waits at 2F1 "
            "(position 1) for 1F1 of rank 1",
        ),
        (
            # A rank may be in its own way.
            "0F0 3F0 0B0 3B0\n1F0 2F0 2B0 1B0",
            "deadlock: rank 0 waits at 0B0 (position 2) for 1B0 of rank 1, which waits at 2B0 "
            "(position 2) for 3B0 of rank 0",
        ),
        (
            "2F0 0F0 2B0 0B0\n1F0 3F0 3B0 1B0",
            "deadlock: rank 0 waits at 2F0 (position 0) for 1F0 of rank 1, which waits at 1F0 "
            "(position 0) for 0F0 of rank 0",
        ),
        (
            "1F0 0F0 1B0 0B0",
            "deadlock: rank 0 waits at 1F0 (position 0) for 0F0 of rank 0",
        ),
    ],
)
def test_a_broken_rule_is_named_with_action_rank_and_position(text: str, message: str) -> None:
    chunks = 2 if "3F0" in text or "\n" not in text else 1
    microbatches = 2 if "F1" in text else 1
    plan = parse(text, chunks=chunks, microbatches=microbatches)
    assert reason(plan) == message


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (Action(-1, "F", 0), "unknown stage: rank 0 runs -1F0 at position 0"),
        (Action(0, "F", -1), "unknown microbatch: rank 0 runs 0F-1 at position 0"),
        (Action(0, "X", 0), "unknown kind: rank 0 runs 0X0 at position 0, but an action is one of"),
        (Action(0, "FB", 0), "unknown kind: rank 0 runs 0FB0 at position 0"),
    ],
)
def test_what_cannot_be_written_is_refused_too(action: Action, message: str) -> None:
    plan = Plan(pp=1, microbatches=1, actions=((action,),))
    assert reason(plan).startswith(message)


def test_a_plan_without_actions_misses_the_first() -> None:
    assert reason(Plan(pp=2, microbatches=1, actions=((), ()))) == "missing: rank 0 never runs 0F0"


def test_stages_may_differ_in_how_they_go_back() -> None:
    validate(parse("0F0 0B0\n1F0 1I0 1W0"))
    validate(parse("0F0 0I0 0W0\n1F0 1B0"))


def test_a_plan_may_place_its_stages_anywhere() -> None:
    validate(parse("1F0 1B0\n0F0 0B0", placement=(1, 0)))
    assert reason(parse("1F0 1B0\n0F0 0B0")).startswith("wrong rank")


# ---- any plan, broken anywhere


@st.composite
def spots(draw: st.DrawFn, least_pp: int = 1) -> tuple[Plan, int, int]:
    """A valid plan, a rank, and a position of it."""
    plan = draw(plans(least_pp=least_pp))
    rank = draw(st.integers(0, plan.pp - 1))
    return plan, rank, draw(st.integers(0, len(plan.actions[rank]) - 1))


@given(spots())
def test_an_action_left_out_is_missed(spot: tuple[Plan, int, int]) -> None:
    plan, rank, position = spot
    ranks = [list(mine) for mine in plan.actions]
    stage, kind, microbatch = dropped = ranks[rank].pop(position)
    said = reason(changed(plan, ranks))
    if (kind == "F" and stage < plan.stages - 1) or (kind in "BI" and stage > 0):
        assert said.startswith("a receive that never has its send: ")
        assert f"{dropped}" in said or f"{stage}B{microbatch} or {stage}I{microbatch}" in said
    else:
        assert said == f"missing: rank {rank} never runs {dropped}"


@given(spots(), st.data())
def test_an_action_done_again_is_noticed(spot: tuple[Plan, int, int], data: st.DataObject) -> None:
    plan, rank, position = spot
    ranks = [list(mine) for mine in plan.actions]
    again = data.draw(st.integers(0, len(ranks[rank])))
    ranks[rank].insert(again, ranks[rank][position])
    first, second = sorted([again, position + (again <= position)])
    assert reason(changed(plan, ranks)) == (
        f"twice: rank {rank} runs {plan.actions[rank][position]} at position {first} and again at "
        f"position {second}"
    )


@given(spots(least_pp=2), st.data())
def test_an_action_on_another_rank_is_noticed(
    spot: tuple[Plan, int, int], data: st.DataObject
) -> None:
    plan, rank, position = spot
    other = data.draw(st.sampled_from([r for r in range(plan.pp) if r != rank]))
    ranks = [list(mine) for mine in plan.actions]
    moved = ranks[rank].pop(position)
    at = data.draw(st.integers(0, len(ranks[other])))
    ranks[other].insert(at, moved)
    assert reason(changed(plan, ranks)) == (
        f"wrong rank: rank {other} runs {moved} at position {at}, but stage {moved.stage} is on "
        f"rank {rank}"
    )


@given(spots(), st.data())
def test_a_wrong_number_is_noticed(spot: tuple[Plan, int, int], data: st.DataObject) -> None:
    plan, rank, position = spot
    right = plan.actions[rank][position]
    wrong = right._replace(
        stage=data.draw(st.integers(0, plan.stages + 2)),
        microbatch=data.draw(st.integers(0, plan.microbatches + 2)),
    )
    assume(wrong != right)
    ranks = [list(mine) for mine in plan.actions]
    ranks[rank][position] = wrong
    said = reason(changed(plan, ranks))
    if wrong.stage >= plan.stages:
        assert said.startswith(f"unknown stage: rank {rank} runs {wrong} at position {position}")
    elif wrong.microbatch >= plan.microbatches:
        assert said.startswith(f"unknown microbatch: rank {rank} runs {wrong} at position")
    elif plan.placement[wrong.stage] != rank:
        assert said.startswith(f"wrong rank: rank {rank} runs {wrong} at position {position}")
    else:
        # Or the plan splits this stage's backward elsewhere, in another way: none here does.
        assert said.startswith(f"twice: rank {rank} runs {wrong} at position")


@given(spots(), st.data())
def test_a_wrong_kind_is_noticed(spot: tuple[Plan, int, int], data: st.DataObject) -> None:
    plan, rank, position = spot
    right = plan.actions[rank][position]
    kind = data.draw(st.sampled_from("FBIW".replace(right.kind, "")))
    ranks = [list(mine) for mine in plan.actions]
    ranks[rank][position] = right._replace(kind=kind)
    kinds = {action.kind for action in chain.from_iterable(plan.actions)}
    said = reason(changed(plan, ranks))
    if kind in kinds:
        assert said.startswith("twice: ")
    elif right.kind == "F" or kind == "B":
        assert said.startswith("mixed backward: ")
    else:
        assert said.startswith(("missing: ", "a receive that never has its send: "))


# ---- any order


def naively_executed(plan: Plan) -> list[Action]:
    """What can be done of a plan: look again at all ranks, until none can go on."""
    done: list[Action] = []
    left = [list(mine) for mine in plan.actions]
    last = plan.stages - 1
    while any(mine and _ready(mine[0], done, last) for mine in left):
        for mine in left:
            while mine and _ready(mine[0], done, last):
                done.append(mine.pop(0))
    return done


def _ready(action: Action, done: list[Action], last: int) -> bool:
    stage, kind, k = action
    if kind == "F":
        return stage == 0 or (stage - 1, "F", k) in done
    if kind == "W":
        return (stage, "I", k) in done
    returned = stage == last or (stage + 1, "B", k) in done or (stage + 1, "I", k) in done
    return returned and (stage, "F", k) in done


@given(plans().flatmap(reordered))
def test_an_order_is_refused_just_if_it_cannot_be_executed(plan: Plan) -> None:
    said, done = reason(plan), naively_executed(plan)
    everything = sorted(chain.from_iterable(plan.actions))
    if not said:
        assert sorted(done) == everything
        timeline = simulate(plan, link=0.25)
        assert len(timeline.work) == len(everything)
    else:
        assert len(done) < len(everything)
        assert said.startswith(("deadlock: ", "backward before its forward: ", "W before its I: "))
    if said.startswith("deadlock"):
        check_circle(plan, said, done)


WAIT = re.compile(r"waits at (\w+) \(position (\d+)\) for (\w+) of rank (\d+)")


def check_circle(plan: Plan, said: str, done: list[Action]) -> None:
    """Every word of a deadlock's message is true, and it comes back to where it began."""
    first = rank = int(said.split()[2])
    for waiting, position, needed, holder in WAIT.findall(said):
        action = plan.actions[rank][int(position)]
        assert str(action) == waiting and action not in done
        assert set(plan.actions[rank][: int(position)]) <= set(done)
        assert Action.parse(needed) in plan.actions[int(holder)]
        assert Action.parse(needed) not in done
        assert abs(Action.parse(needed).stage - action.stage) == 1
        rank = int(holder)
    assert rank == first
