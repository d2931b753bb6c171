"""Every group of every kind, against the class in Megatron that enumerates them."""

from collections import Counter
from dataclasses import dataclass
from itertools import permutations

import pytest
from oracles.configurations import AXES, Configuration, configurations

from mpviz import GROUP_KINDS

pytestmark = [pytest.mark.oracle, pytest.mark.timeout(300)]

COUNT, LARGEST_WORLD = 600, 512

# On its expert grid Megatron says tp and dp for what mpviz calls etp and edp.
EXPERT_TOKENS = {"ep": "ep", "etp": "tp", "edp": "dp", "etp-ep": "tp-ep", "etp-ep-pp": "tp-ep-pp"}
DENSE_KINDS = [kind for kind in GROUP_KINDS if kind not in EXPERT_TOKENS]

Nested = list[list[int]]


class Refused(Exception):
    pass


@dataclass
class Megatron:
    """The two generators of ``initialize_model_parallel``; the expert one is None if refused."""

    dense: object
    expert: object | None

    def groups(self, kind: str) -> Nested:
        from megatron.core import parallel_state

        if kind in EXPERT_TOKENS:
            return self.expert.get_ranks(EXPERT_TOKENS[kind])
        if kind == "embedding":
            ranks_of = parallel_state.default_embedding_ranks
        elif kind == "position_embedding":
            ranks_of = parallel_state.default_position_embedding_ranks
        else:
            return self.dense.get_ranks(kind)
        return [ranks_of(ranks) for ranks in self.dense.get_ranks("pp")]


def megatron(asked: Configuration) -> Megatron:
    """Build the generators, with the checks that initialize_model_parallel makes around them."""
    from megatron.core.parallel_state import RankGenerator

    if asked.world % (asked.tp * asked.cp * asked.pp):
        raise Refused
    dp = asked.world // (asked.tp * asked.cp * asked.pp)
    sizes = {"tp": asked.tp, "cp": asked.cp, "pp": asked.pp, "ep": 1, "dp": dp}
    try:
        dense = RankGenerator(**sizes, order=asked.order)
    except RuntimeError as refused:
        raise Refused from refused
    return Megatron(dense, _expert(asked, dense, dp))


def _expert(asked: Configuration, dense: object, dp: int) -> object | None:
    from megatron.core.parallel_state import RankGenerator

    etp = asked.tp if asked.expert_tp is None else asked.expert_tp
    if asked.world % (etp * asked.ep * asked.pp):
        return None
    edp = asked.world // (etp * asked.ep * asked.pp)
    sizes = {"tp": etp, "cp": 1, "pp": asked.pp, "ep": asked.ep, "dp": edp}
    try:
        expert = RankGenerator(**sizes, order=asked.order)
    except RuntimeError:
        return None
    pp_last = asked.order.endswith("pp") or asked.pp == 1 or edp == dp
    return expert if pp_last and dense.get_ranks("pp") == expert.get_ranks("pp") else None


def compare(asked: Configuration) -> str:
    """Compare one configuration; return what came of it."""
    try:
        theirs = megatron(asked)
    except Refused:
        with pytest.raises(ValueError):
            asked.layout()
        return "refused"
    experts = asked.ep > 1 or asked.expert_tp not in (None, asked.tp)
    if theirs.expert is None and experts:
        with pytest.raises(ValueError):
            asked.layout()
        return "experts refused"
    ours = asked.layout()
    for kind in DENSE_KINDS:
        assert ours.groups(kind).tolist() == theirs.groups(kind), kind
    for kind in EXPERT_TOKENS:
        if theirs.expert is None:
            # The dense groups above are right; only experts could not stand in this order.
            with pytest.raises(ValueError):
                ours.groups(kind)
        else:
            assert ours.groups(kind).tolist() == theirs.groups(kind), kind
    if theirs.expert is None:
        return "dense only"
    return "with experts" if experts else "dense"


def test_every_kind_in_every_order_equals_megatrons_rank_generator() -> None:
    outcomes: Counter[str] = Counter()
    orders, largest = set(), 0
    for asked in configurations(COUNT, largest_world=LARGEST_WORLD):
        try:
            outcome = compare(asked)
        except BaseException as failure:
            failure.add_note(f"in {asked}")
            raise
        outcomes[outcome] += 1
        orders.add(asked.order)
        largest = max(largest, asked.world)
    print(f"\n{dict(outcomes)} in {len(orders)} orders, up to {largest} ranks")
    # The draw must not quietly become all easy, or all impossible.
    assert outcomes["dense"] + outcomes["with experts"] >= 300
    assert min(outcomes["dense"], outcomes["with experts"]) >= 100
    assert min(outcomes["refused"], outcomes["experts refused"], outcomes["dense only"]) >= 10
    assert any(order.count("-") < len(AXES) - 1 for order in orders)
    assert largest > LARGEST_WORLD // 2


@pytest.mark.parametrize("order", ["-".join(order) for order in permutations(AXES)])
def test_every_order_of_five_axes(order: str) -> None:
    # Four different sizes, so that no two axes can be taken for each other.
    asked = Configuration(world=120, tp=2, cp=3, pp=4, ep=1, expert_tp=None, order=order)
    assert compare(asked) == ("dense" if order.endswith("pp") else "dense only")


@pytest.mark.parametrize(
    ("asked", "outcome"),
    [
        # expert-dp takes the place of cp, and is 2: an order without dp cannot hold it.
        (Configuration(4, tp=2, cp=2, pp=1, ep=1, expert_tp=None, order="tp-cp"), "dense only"),
        (Configuration(8, tp=2, cp=2, pp=2, ep=1, expert_tp=None, order="tp-cp-pp"), "dense only"),
        # Only the experts are cut by tp, and the order does not name it.
        (Configuration(8, tp=1, cp=1, pp=2, ep=1, expert_tp=2, order="dp-pp"), "experts refused"),
        # dp is the same for both; the strides of pp are not.
        (
            Configuration(8, tp=2, cp=1, pp=2, ep=2, expert_tp=1, order="tp-pp-ep-dp"),
            "experts refused",
        ),
        # The order that Llama 3 was trained in, smaller.
        (
            Configuration(64, tp=2, cp=4, pp=4, ep=1, expert_tp=None, order="tp-cp-ep-pp-dp"),
            "dense only",
        ),
    ],
    ids=lambda value: getattr(value, "order", value),
)
def test_refusals_that_random_draws_seldom_meet(asked: Configuration, outcome: str) -> None:
    assert compare(asked) == outcome
