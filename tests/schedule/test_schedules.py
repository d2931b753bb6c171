"""The schedules: what the papers say of their orders, and the sizes that they refuse."""

from collections.abc import Callable
from itertools import takewhile

import pytest
from schedule.plans import all_plans, plans_of

from mpviz.schedule import (
    Plan,
    gpipe,
    interleaved_1f1b,
    one_forward_one_backward,
    validate,
    zero_bubble_h1,
    zero_bubble_v,
)


def warm_up(plan: Plan, rank: int) -> int:
    """Forwards before the one that the first backward follows."""
    return len(list(takewhile(lambda action: action.kind == "F", plan.actions[rank]))) - 1


def test_every_plan_of_every_size_is_valid() -> None:
    number = 0
    for plan in all_plans():
        validate(plan)
        number += 1
    assert number == 1151


@pytest.mark.parametrize("pp", [1, 2, 4, 8])
@pytest.mark.parametrize("microbatches", [8, 16, 32])
def test_1f1b_warms_up_with_p_minus_r_minus_1(pp: int, microbatches: int) -> None:
    for make in (one_forward_one_backward, zero_bubble_h1):
        plan = make(pp=pp, microbatches=microbatches)
        found = [warm_up(plan, rank) for rank in range(pp)]
        assert found == [pp - rank - 1 for rank in range(pp)]


@pytest.mark.parametrize("pp", [2, 4, 8])
@pytest.mark.parametrize("chunks", [2, 3, 4])
@pytest.mark.parametrize("rounds", [2, 4])
def test_interleaving_warms_up_twice_as_fast_and_a_round_for_each_chunk_more(
    pp: int, chunks: int, rounds: int
) -> None:
    plan = interleaved_1f1b(pp=pp, microbatches=rounds * pp, chunks=chunks)
    found = [warm_up(plan, rank) for rank in range(pp)]
    assert found == [2 * (pp - rank - 1) + (chunks - 1) * pp for rank in range(pp)]


def test_warming_up_ends_with_the_microbatches() -> None:
    assert one_forward_one_backward(pp=4, microbatches=1) == gpipe(pp=4, microbatches=1)
    rank_0 = interleaved_1f1b(pp=4, microbatches=4, chunks=2).actions[0]
    assert "".join(action.kind for action in rank_0) == 8 * "F" + 8 * "B"


def test_gpipe_runs_all_forwards_first() -> None:
    kinds = ["".join(a.kind for a in mine) for mine in gpipe(pp=3, microbatches=5).actions]
    assert kinds == 3 * ["FFFFFBBBBB"]


def test_one_rank_needs_no_pipeline() -> None:
    assert str(one_forward_one_backward(pp=1, microbatches=2)) == "rank 0  0F0 0B0 0F1 0B1"
    assert str(zero_bubble_h1(pp=1, microbatches=1)) == "rank 0  0F0 0I0 0W0"


@pytest.mark.parametrize("pp", [2, 3, 8])
def test_every_half_is_there_once(pp: int) -> None:
    for plan in plans_of(pp, 2 * pp):
        kinds = [a.kind for mine in plan.actions for a in mine]
        each = plan.stages * plan.microbatches
        halved = plan.name.startswith("ZB")
        assert {k: kinds.count(k) for k in "FBIW"} == {
            "F": each, "B": 0 if halved else each, "I": each * halved, "W": each * halved,
        }  # fmt: skip


@pytest.mark.parametrize("make", [gpipe, one_forward_one_backward, zero_bubble_h1, zero_bubble_v])
@pytest.mark.parametrize("name", ["pp", "microbatches"])
@pytest.mark.parametrize("value", [0, -1, 2.0, "4", None, True])
def test_sizes_are_whole_numbers_from_1(
    make: Callable[..., Plan], name: str, value: object
) -> None:
    with pytest.raises(ValueError, match=f"{name} must be a whole number ≥ 1, got"):
        make(**{"pp": 4, "microbatches": 8, name: value})


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((1, 4, 2), "chunks=2 interleaves the stages of a pipeline; pp=1 has none"),
        ((4, 8, 1), "chunks=1 leaves nothing to interleave; take one_forward_one_backward, or "
                    "chunks may be 2, 3 …"),
        ((4, 6, 2), "interleaving deals microbatches to pp=4 ranks 4 at a time, and 4 does not "
                    "divide 6; microbatches may be 4 or 8"),
        ((4, 3, 2), "4 does not divide 3; microbatches may be 4, 8 …"),
        ((4, 8, 0), "chunks must be a whole number ≥ 1, got 0"),
        ((4, 8, 1.5), "chunks must be a whole number ≥ 1, got 1.5"),
    ],
)  # fmt: skip
def test_what_cannot_be_interleaved_says_what_could(
    sizes: tuple[int, int, int], message: str
) -> None:
    pp, microbatches, chunks = sizes
    with pytest.raises(ValueError) as refused:
        interleaved_1f1b(pp=pp, microbatches=microbatches, chunks=chunks)
    assert str(refused.value).endswith(message)


def test_a_v_needs_two_ranks() -> None:
    with pytest.raises(ValueError, match="pp=1 has none to go to"):
        zero_bubble_v(pp=1, microbatches=4)
