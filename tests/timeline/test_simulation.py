"""Simulated plans against the closed forms of the papers, and against playing them through."""

from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from schedule.plans import plans

from mpviz import schedule
from mpviz.schedule import Action, Plan, parse
from mpviz.timeline import Timeline, simulate

HALVES = {"F": 1, "I": 1, "W": 1}
SIZES = [(pp, m) for pp in range(1, 9) for m in range(1, 33)]


@pytest.mark.parametrize("backward", [1, 2, 3])
def test_gpipe_and_1f1b_take_as_long_as_the_papers_say(backward: int) -> None:
    # Huang et al. 2019; Narayanan et al. 2021, section 2.2: (m + p - 1)(F + B).
    for p, m in SIZES:
        for make in (schedule.gpipe, schedule.one_forward_one_backward):
            timeline = simulate(make(pp=p, microbatches=m), {"F": 1, "B": backward})
            assert timeline.makespan == (m + p - 1) * (1 + backward)
            assert timeline.bubble_fraction == pytest.approx((p - 1) / (m + p - 1), abs=1e-12)
            assert timeline.bubble_overhead == pytest.approx((p - 1) / m, abs=1e-12)


def test_the_numbers_of_the_figure() -> None:
    for make in (schedule.gpipe, schedule.one_forward_one_backward):
        assert simulate(make(pp=4, microbatches=8), {"F": 1, "B": 1}).makespan == 22
        assert simulate(make(pp=4, microbatches=8), {"F": 1, "B": 2}).makespan == 33


@pytest.mark.parametrize("chunks", [2, 3, 4])
@pytest.mark.parametrize("backward", [1, 2])
def test_interleaving_makes_the_bubble_v_times_smaller(chunks: int, backward: int) -> None:
    # Narayanan et al. 2021, section 2.2.2: (p - 1)/(v m) of the ideal time.
    for p, m in SIZES:
        if p > 1 and m % p == 0:
            plan = schedule.interleaved_1f1b(pp=p, microbatches=m, chunks=chunks)
            timeline = simulate(plan, {"F": 1, "B": backward})
            assert timeline.makespan == (chunks * m + p - 1) * (1 + backward)
            overhead = (p - 1) / (chunks * m)
            assert timeline.bubble_overhead == pytest.approx(overhead, abs=1e-12)


@pytest.mark.parametrize(("f", "i", "w"), [(1, 1, 1), (2, 3, 2), (3, 2, 1)])
def test_zb_h1_saves_two_weight_gradients_of_each_bubble(f: int, i: int, w: int) -> None:
    # Qi et al. 2023 (arXiv 2401.10241), table 2: (p - 1)(F + I - W), where 1F1B has
    # (p - 1)(F + I + W).
    for p, m in SIZES:
        if m >= p:
            plan = schedule.zero_bubble_h1(pp=p, microbatches=m)
            makespan = simulate(plan, {"F": f, "I": i, "W": w}).makespan
            assert makespan == m * (f + i + w) + (p - 1) * (f + i - w)


def test_when_the_bubble_of_zb_h1_is_that_of_the_paper() -> None:
    for p, m in [(1, 1), (2, 1), (2, 2), (2, 5), (3, 2), (3, 3), (3, 4), (4, 8), (6, 6), (6, 13)]:
        plan = schedule.zero_bubble_h1(pp=p, microbatches=m)
        for f, i, w in product((1, 2, 3), repeat=3):
            bubble = simulate(plan, {"F": f, "I": i, "W": w}).makespan - m * (f + i + w)
            exact = p == 1 or (m >= p and w <= min(f, i))
            assert (bubble == (p - 1) * (f + i - w)) == exact
            assert bubble >= (p - 1) * (f + i - w)


def test_zb_h1_with_few_microbatches_waits_for_them() -> None:
    # Not in the paper: with m < p the last of the pipeline is what takes the time.
    for p, m in SIZES:
        makespan = simulate(schedule.zero_bubble_h1(pp=p, microbatches=m), HALVES).makespan
        assert makespan == max(3 * m + p - 1, 2 * (m + p) - 1)


def test_zb_v_has_no_bubble_once_a_rank_has_begun() -> None:
    # Qi et al. 2023, section 6, for F = I = W: rank r begins after r forwards, and never waits.
    for p, m in SIZES:
        if p > 1:
            timeline = simulate(schedule.zero_bubble_v(pp=p, microbatches=m), HALVES)
            assert timeline.makespan == max(6 * m + p - 1, 4 * (m + p) - 2)
            if m >= 2 * p - 1:
                for rank in range(p):
                    mine = [event for event in timeline.work if event.rank == rank]
                    assert (mine[0].start, mine[-1].end) == (rank, rank + 6 * m)


def test_the_papers_memory() -> None:
    for p, m in SIZES:
        peaks = {
            plan.name: simulate(plan).peak_in_flight for plan in all_plans_of(p, m) if m >= 2 * p
        }
        for name, peak in peaks.items():
            assert (
                peak
                == {
                    "GPipe": (m,) * p,
                    "1F1B": tuple(range(p, 0, -1)),
                    "ZB-H1": (p,) * p,
                    "ZB-V": (2 * p,) * p,
                }[name]
            )


def all_plans_of(p: int, m: int) -> list[Plan]:
    makes = [schedule.gpipe, schedule.one_forward_one_backward, schedule.zero_bubble_h1]
    makes += [schedule.zero_bubble_v] * (p > 1)
    return [make(pp=p, microbatches=m) for make in makes]


def test_interleaving_holds_its_warm_up_and_one_more() -> None:
    # Warm-up of Narayanan et al. 2021: 2(p-r-1) + (v-1)p forwards; the next comes before the
    # first backward.
    for p, v in ((2, 2), (4, 2), (4, 3), (8, 4)):
        plan = schedule.interleaved_1f1b(pp=p, microbatches=4 * p, chunks=v)
        held = tuple(2 * (p - r - 1) + (v - 1) * p + 1 for r in range(p))
        assert simulate(plan).peak_in_flight == held


# ---- against playing it through, second by second


def played(plan: Plan, seconds: dict[str, int], link: int) -> dict[Action, tuple[int, int]]:
    """Start and end of each action: look at every rank in every second."""
    when: dict[Action, tuple[int, int]] = {}
    left = [list(mine) for mine in plan.actions]
    free = [0] * plan.pp
    now = 0
    while any(left):
        for rank, mine in enumerate(left):
            while mine and free[rank] <= now and _arrived(plan, mine[0], when, link) <= now:
                action = mine.pop(0)
                free[rank] = now + seconds[action.kind]
                when[action] = now, free[rank]
        now += 1
        assert now < 10_000
    return when


def _arrived(plan: Plan, action: Action, when: dict[Action, tuple[int, int]], link: int) -> float:
    stage, kind, k = action
    if kind == "W" or (kind == "F" and stage == 0) or (kind != "F" and stage == plan.stages - 1):
        return 0
    other = stage - 1 if kind == "F" else stage + 1
    sent = [when[a] for a in ((other, c, k) for c in ("F" if kind == "F" else "BI")) if a in when]  # type: ignore[index]
    delay = link if plan.placement[other] != plan.placement[stage] else 0
    return sent[0][1] + delay if sent else float("inf")


@given(
    plans(pp=4, microbatches=5),
    st.fixed_dictionaries({kind: st.integers(1, 4) for kind in "FBIW"}),
    st.integers(0, 3),
)
def test_every_action_starts_as_soon_as_it_can(
    plan: Plan, seconds: dict[str, int], link: int
) -> None:
    timeline = simulate(plan, seconds, link)
    found = {(e.stage, e.name, e.microbatch): (e.start, e.end) for e in timeline.work}
    assert found == played(plan, seconds, link)


@given(plans(), st.integers(0, 3))
def test_a_rank_works_waits_for_a_message_or_is_done(plan: Plan, link: int) -> None:
    timeline = simulate(plan, link=link)
    for rank in range(plan.pp):
        mine = [event for event in timeline.events if event.rank == rank]
        assert mine[0].start == 0
        assert all(a.end == b.start for a, b in pairwise(mine))
        for waits in (event for event in mine if event.name == "recv"):
            assert waits.duration > 0
            assert waits.group == tuple(range(plan.pp)) and waits.peer != rank
            after = mine[mine.index(waits) + 1]
            assert (waits.stage, waits.microbatch) == (after.stage, after.microbatch)


@given(plans(), st.data(), st.integers(0, 3))
def test_it_does_not_matter_which_rank_is_which(plan: Plan, data: st.DataObject, link: int) -> None:
    order = data.draw(st.permutations(range(plan.pp)))
    renamed = Plan(
        pp=plan.pp,
        microbatches=plan.microbatches,
        chunks=plan.chunks,
        actions=tuple(plan.actions[rank] for rank in order),
        placement=tuple(order.index(rank) for rank in plan.placement),
    )
    mine, theirs = simulate(renamed, link=link), simulate(plan, link=link)
    assert mine.makespan == theirs.makespan
    assert mine.peak_in_flight == tuple(theirs.peak_in_flight[rank] for rank in order)


# ---- what it is given

PLAN = schedule.one_forward_one_backward(pp=2, microbatches=3)


def test_stages_may_take_different_times() -> None:
    by_list = simulate(PLAN, {"F": [1, 2], "B": 2})
    assert by_list == simulate(PLAN, {"F": {1: 2, 0: 1}, "B": (2, 2)})
    assert {event.duration for event in by_list.work if event.stage == 1} == {2}
    assert by_list.busy == (9, 12)


def test_a_backward_is_both_halves() -> None:
    assert simulate(PLAN, {"F": 1, "I": 2, "W": 3}) == simulate(PLAN, {"F": 1, "B": 5})
    assert simulate(PLAN) == simulate(PLAN, {"F": 1, "B": 2})


def test_all_may_take_no_time() -> None:
    timeline = simulate(PLAN, {"F": 0, "B": 0})
    assert (timeline.makespan, timeline.bubble_fraction, timeline.bubble_overhead) == (0, 0, 0)


@pytest.mark.parametrize(
    ("durations", "link", "message"),
    [
        ({"F": 1}, 0, r"the plan runs B \(backward\); give durations\['B'\]"),
        ({"F": 1, "I": 1}, 0, r"the plan runs B \(backward\)"),
        ({"F": 1, "B": 1, "X": 1}, 0, "durations of 'X'. Kinds are F, B, I, W"),
        ({"F": -1, "B": 1}, 0, r"durations\['F'\] must be seconds ≥ 0, got -1"),
        ({"F": float("nan"), "B": 1}, 0, "must be seconds ≥ 0, got nan"),
        ({"F": "1", "B": 1}, 0, "must be one number, or one for each of 2 stages, got 1"),
        ({"F": None, "B": 1}, 0, "must be seconds ≥ 0, got None"),
        ({"F": True, "B": 1}, 0, "must be seconds ≥ 0, got True"),
        ({"F": [1, 1, 1], "B": 1}, 0, "one for each of 2 stages, got 3"),
        ({"F": {0: 1}, "B": 1}, 0, r"durations\['F'\] must have the stages 0 … 1, got 0"),
        ({"F": 1, "B": 1}, -0.5, "link must be seconds ≥ 0, got -0.5"),
        ({"F": 1, "B": 1}, float("inf"), "link must be seconds ≥ 0, got inf"),
    ],
)
def test_what_is_no_duration_is_refused(
    durations: dict[str, object], link: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        simulate(PLAN, durations, link)  # type: ignore[arg-type]


def test_text_is_not_simulated() -> None:
    with pytest.raises(ValueError, match="expected a Plan, got '0F0 0B0'; read text with"):
        simulate("0F0 0B0")  # type: ignore[arg-type]


def test_an_invalid_plan_is_not_simulated() -> None:
    with pytest.raises(ValueError, match="missing: rank 0 never runs 0B0"):
        simulate(parse("0F0"))
    with pytest.raises(ValueError, match="deadlock"):
        simulate(parse("0F0 0B0 0F1 0B1\n1F0 1F1 1B0 1B1"))


def test_a_simulation_can_be_repeated() -> None:
    for plan in all_plans_of(4, 8):
        assert simulate(plan) == simulate(plan)
        assert isinstance(simulate(plan), Timeline)
