"""What hypothesis draws, and the loops that the code is compared with."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import product

from hypothesis import strategies as st

from mpviz import ParallelLayout, RankGrid

AXES = ("tp", "cp", "ep", "dp", "pp")
EXPERT_NAMES = {"tp": "etp", "dp": "edp"}

small = st.integers(1, 4)


def divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]


@st.composite
def grids(draw: st.DrawFn) -> RankGrid:
    names = draw(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=4, unique=True))
    return RankGrid(tuple(names), tuple(draw(small) for _ in names))


@st.composite
def dense_layouts(draw: st.DrawFn) -> ParallelLayout:
    """Any sizes in any order; axes of size 1 are sometimes left out of it."""
    sizes = {axis: draw(small) for axis in ("tp", "cp", "dp", "pp")} | {"ep": 1}
    world = sizes["tp"] * sizes["cp"] * sizes["dp"] * sizes["pp"]
    order = draw(st.permutations(AXES))
    said = [axis for axis in order if sizes[axis] > 1 or draw(st.booleans())]
    return ParallelLayout(
        **_cluster(draw, world),
        tp=sizes["tp"],
        cp=sizes["cp"],
        pp=sizes["pp"],
        order="-".join(said or order),
    )


@st.composite
def expert_layouts(draw: st.DrawFn) -> ParallelLayout:
    """Dense and expert grids of different sizes; then the order must end in pp."""
    tp, cp, dp, pp = (draw(small) for _ in range(4))
    stage = tp * cp * dp
    expert_tp = draw(st.sampled_from(divisors(stage)))
    ep = draw(st.sampled_from(divisors(stage // expert_tp)))
    order = "-".join([*draw(st.permutations(AXES[:-1])), "pp"])
    cluster = _cluster(draw, stage * pp)
    return ParallelLayout(**cluster, tp=tp, cp=cp, pp=pp, ep=ep, expert_tp=expert_tp, order=order)


layouts = dense_layouts() | expert_layouts()


def _cluster(draw: st.DrawFn, world: int) -> dict[str, int]:
    gpus_per_node = draw(st.sampled_from(divisors(world)))
    return {"nodes": world // gpus_per_node, "gpus_per_node": gpus_per_node}


def naive_groups(
    axes: Sequence[str], sizes: Sequence[int], along: Sequence[str]
) -> list[list[int]]:
    """Walk through all places in rank order, counting, and drop each rank in its group's bag."""
    slowest_first = list(reversed(axes))
    bags: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for rank, place in enumerate(product(*(range(size) for size in reversed(sizes)))):
        bag = tuple(at for axis, at in zip(slowest_first, place, strict=True) if axis not in along)
        bags[bag].append(rank)
    return [bags[bag] for bag in sorted(bags)]
