"""Plans to test with: every schedule at every size, and what hypothesis draws and breaks."""

from collections.abc import Iterator

from hypothesis import strategies as st

from mpviz import schedule
from mpviz.schedule import Action, Plan

LARGEST_PP, MOST_MICROBATCHES, MOST_CHUNKS = 8, 32, 4


def plans_of(pp: int, microbatches: int) -> Iterator[Plan]:
    """Every schedule that there is at these sizes."""
    sizes = {"pp": pp, "microbatches": microbatches}
    yield schedule.gpipe(**sizes)
    yield schedule.one_forward_one_backward(**sizes)
    yield schedule.zero_bubble_h1(**sizes)
    if pp > 1:
        yield schedule.zero_bubble_v(**sizes)
    if pp > 1 and microbatches % pp == 0:
        for chunks in range(2, MOST_CHUNKS + 1):
            yield schedule.interleaved_1f1b(**sizes, chunks=chunks)


def all_plans() -> Iterator[Plan]:
    """Every schedule at every size up to p = 8, m = 32, v = 4: 1,151 of them."""
    for pp in range(1, LARGEST_PP + 1):
        for microbatches in range(1, MOST_MICROBATCHES + 1):
            yield from plans_of(pp, microbatches)


@st.composite
def plans(draw: st.DrawFn, pp: int = 4, microbatches: int = 6, least_pp: int = 1) -> Plan:
    """Any schedule of at most these sizes."""
    sizes = draw(st.integers(least_pp, pp)), draw(st.integers(1, microbatches))
    return draw(st.sampled_from(list(plans_of(*sizes))))


@st.composite
def reordered(draw: st.DrawFn, plan: Plan) -> Plan:
    """The same actions on the same ranks, a few of them elsewhere in the order."""
    ranks = [list(mine) for mine in plan.actions]
    for _ in range(draw(st.integers(1, 3))):
        mine = draw(st.sampled_from(ranks))
        action = mine.pop(draw(st.integers(0, len(mine) - 1)))
        mine.insert(draw(st.integers(0, len(mine))), action)
    return changed(plan, ranks)


def changed(plan: Plan, ranks: list[list[Action]]) -> Plan:
    """The plan with other actions."""
    return Plan(
        pp=plan.pp,
        microbatches=plan.microbatches,
        chunks=plan.chunks,
        actions=tuple(map(tuple, ranks)),
        placement=plan.placement,
    )
