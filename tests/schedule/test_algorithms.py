"""Collectives as steps, beside torch's own on gloo, the formulas, and the ring of lesson 04."""

from fractions import Fraction
from pathlib import Path

import nbformat
import numpy as np
import pytest

from mpviz import ParallelLayout, cost
from mpviz.schedule import ALGORITHMS, CollectivePlan, Send, collective, replay
from mpviz.world import World

HERE = Path(__file__).parent
PROGRAM = (HERE / "algorithms_ranks.py").read_text()
PAIRS = [(name, algorithm) for name, known in ALGORITHMS.items() for algorithm in known]
IN_PAIRS = {"recursive_doubling", "recursive_halving", "halving_doubling"}


def plans(sizes=range(1, 9)):
    return [
        collective(name, n, algorithm)
        for name, algorithm in PAIRS
        for n in sizes
        if algorithm not in IN_PAIRS or n in (1, 2, 4, 8, 16, 32)
    ]


every_plan = pytest.mark.parametrize("plan", plans([*range(1, 10), 16, 17, 32]), ids=str)


# ---- what they end in


def expected(plan):
    """Of each rank and each chunk that counts there, whose data is in it: by the definitions."""
    n, everyone = plan.ranks, tuple(range(plan.ranks))
    whole = range(plan.chunks)
    return {
        "broadcast": [[(0,) for _ in whole]] * n,
        "all_gather": [[(chunk,) for chunk in whole]] * n,
        "reduce_scatter": [[everyone]] * n,
        "all_reduce": [[everyone for _ in whole]] * n,
        "all_to_all": [[(rank,) for rank in everyone]] * n,
    }[plan.name]


@every_plan
def test_every_addend_is_summed_once_and_everything_arrives(plan):
    held = plan.held()
    found = [[held[rank][chunk] for chunk in plan.outputs(rank)] for rank in range(plan.ranks)]
    assert found == expected(plan)


def test_an_addend_that_came_twice_shows():
    twice = (Send(0, 1, (0,), True),)
    assert CollectivePlan("all_reduce", "by hand", 2, 1, (twice, twice)).held()[1] == {0: (0, 0, 1)}


@every_plan
def test_nobody_sends_what_it_does_not_hold_nor_to_itself(plan):
    for step, sends in enumerate(plan.steps):
        held = plan.held(step)
        assert sends, "an empty step"
        for send in sends:
            assert send.sender != send.receiver and set(send.chunks) <= set(held[send.sender])
            assert {send.sender, send.receiver} <= set(range(plan.ranks))
        # One message each way, and no chunk arrives where another sends it in the same step.
        assert len({send.sender for send in sends}) == len(sends)
        assert len({send.receiver for send in sends}) == len(sends)


@every_plan
def test_what_is_held_in_the_end_is_what_real_numbers_say(plan):
    # Rank r brings 2**r in each chunk: the sum's bits say whose data is in it.
    held = plan.held()
    size = [len(plan.inputs(rank)) or plan.chunks for rank in range(plan.ranks)]
    found = replay(plan, [np.full(n, 2**rank) for rank, n in enumerate(size)])
    for rank in range(plan.ranks):
        bits = [sum(2**origin for origin in held[rank][c]) for c in plan.outputs(rank)]
        assert found[rank].tolist() == bits


@pytest.fixture(scope="module")
def world():
    with World(ParallelLayout(nodes=1, gpus_per_node=8), timeout=60) as world:
        world.cell(PROGRAM)
        yield world


def tensor_of(rank, n):
    return np.arange(3.0 * n) * (rank + 1) + 1000 * rank


@pytest.mark.parametrize(("name", "algorithm"), PAIRS)
def test_sends_and_receives_of_real_ranks_end_in_what_torch_computes(world, name, algorithm):
    mine = [plan for plan in plans() if (plan.name, plan.algorithm) == (name, algorithm)]
    sizes = [plan.ranks for plan in mine]
    source = f"results([schedule.collective({name!r}, n, {algorithm!r}) for n in {sizes}])"
    found = list(world.cell(source))
    for number, plan in enumerate(mine):
        n = plan.ranks
        replayed = replay(plan, [tensor_of(rank, n) for rank in range(n)])
        for rank in range(8):
            if rank >= n:
                assert found[rank][number] is None
                continue
            by_hand, by_torch, steps = found[rank][number]
            assert by_hand == by_torch == replayed[rank].tolist(), (plan, rank)
            assert steps == [numbers(plan, rank, step) for step in range(len(plan.steps) + 1)]


def numbers(plan, rank, step):
    """What a rank holds of each chunk after a step: the sum of what those in it have brought."""
    brought = []
    for of in range(plan.ranks):
        mine = plan.inputs(of)
        pieces = np.split(tensor_of(of, plan.ranks), len(mine)) if mine else ()
        brought.append(dict(zip(mine, pieces, strict=True)))
    return {
        chunk: sum(brought[of][chunk] for of in origins).tolist()
        for chunk, origins in plan.held(step)[rank].items()
    }


# ---- bytes and steps


def unit_link(latency):
    return cost.Link("", 1, 1, latency, "")


@pytest.mark.parametrize("n", range(1, 9))
def test_bytes_are_those_of_the_formulas(n):
    def most(name, algorithm):
        plan = collective(name, n, algorithm)
        return Fraction(int(plan.sent().max()), plan.chunks)

    ring = Fraction(n - 1, n)
    for name, algorithms in {
        "all_gather": ("ring", "direct"),
        "reduce_scatter": ("ring", "direct"),
        "all_to_all": ("direct",),
    }.items():
        assert {most(name, algorithm) for algorithm in algorithms} == {ring}
    assert most("all_reduce", "ring") == 2 * ring
    assert most("broadcast", "ring") == min(1, n - 1)
    assert most("broadcast", "tree") == most("all_reduce", "tree") == (n - 1).bit_length()
    if n in (1, 2, 4, 8):
        rounds = (1, 2, 4, 8).index(n)
        assert most("all_gather", "recursive_doubling") == ring
        assert most("reduce_scatter", "recursive_halving") == ring
        assert most("all_reduce", "halving_doubling") == 2 * ring
        assert most("all_reduce", "recursive_doubling") == rounds


@pytest.mark.parametrize("n", range(1, 17))
def test_the_cost_model_counts_the_same_bytes_and_steps(n):
    def seconds(what, size, latency):
        link = unit_link(latency)
        return what(size, n, inside=link, between=link) - cost.LAUNCH_SECONDS * (n > 1)

    size = 840 * n
    for name, what in {
        "all_reduce": cost.all_reduce_seconds,
        "all_gather": cost.all_gather_seconds,
        "reduce_scatter": cost.all_gather_seconds,
    }.items():
        plan = collective(name, n, "ring")
        assert seconds(what, size, 0.0) == pytest.approx(plan.bytes_sent(size).max(initial=0))
        assert seconds(what, 0, 1.0) == pytest.approx(len(plan.steps))
    exchanged = collective("all_to_all", n).bytes_sent(size).max()
    assert seconds(cost.all_to_all_seconds, size, 0.0) == pytest.approx(exchanged)


@pytest.mark.parametrize("n", [1, 2, 4, 8, 16])
def test_a_tree_takes_the_steps_that_the_cost_model_counts(n):
    link = unit_link(1.0)
    once = cost.tree_latency(n, n, link, link)
    assert len(collective("broadcast", n, "tree").steps) == once
    assert len(collective("all_reduce", n, "tree").steps) == 2 * once


@pytest.mark.parametrize("n", range(1, 9))
def test_all_messages_of_a_tree_are_one_for_each_other_rank(n):
    assert collective("broadcast", n, "tree").sent().sum() == n - 1
    assert collective("all_reduce", n, "tree").sent().sum() == 2 * (n - 1)


def test_bytes_so_far_grow_step_by_step():
    plan = collective("all_reduce", 4)
    sent = [plan.bytes_sent(6_400, step)[0] for step in range(7)]
    assert sent == [0, 1_600, 3_200, 4_800, 6_400, 8_000, 9_600]


# ---- lesson 04's ring


def ring_of_the_lesson():
    (path,) = (HERE.parents[1] / "notebooks").glob("04_*.ipynb")
    cells = nbformat.read(path, as_version=4).cells
    (source,) = (cell.source for cell in cells if "def ring_all_reduce" in cell.source)
    return source.removeprefix("%%ranks\n")


@pytest.mark.parametrize("n", range(1, 9))
def test_the_ring_of_the_lesson_takes_the_steps_of_the_plan(world, n):
    plan = collective("all_reduce", n, "ring")
    # Rank r brings tensors with a 1 at (chunk, r): what is sent tells chunk and addends.
    before = f"""
world_size, real = {n}, dist
parts = list(torch.zeros({n}, {n}, {n}))
for chunk, part in enumerate(parts):
    part[chunk, rank] = 1
dist = watching = Watching(real)
"""
    ran = f"{ring_of_the_lesson()}\n{before}\nring_all_reduce(parts)\ndist = real\nwatching.sent"
    watched = list(world.cell(ran, only=range(n), record=True))
    for rank, mine in enumerate(plan.of(rank) for rank in range(n)):
        sends, receives = [], []
        for step, (sent, received) in enumerate(mine):
            sends += [(s.receiver, _ones(plan.held(step)[rank], s.chunks)) for s in sent]
            receives += [s.sender for s in received]
        assert watched[rank] == sends
        events = [event for event in world.events if event.rank == rank]
        assert [e.peer for e in events if e.name == "isend"] == [to for to, _ in sends]
        assert [e.peer for e in events if e.name == "recv"] == receives
        total = sum(event.bytes for event in events if event.name == "isend")
        assert total == plan.bytes_sent(4 * n**3)[rank]


def _ones(held, chunks):
    return [[chunk, origin] for chunk in chunks for origin in held[chunk]]


# ---- as values


def test_a_plan_is_a_value_that_prints_itself():
    plan = collective("all_reduce", 4)
    assert plan == collective("all_reduce", ranks=4, algorithm="ring")
    assert hash(plan) == hash(collective("all_reduce", 4)) and plan != collective("all_gather", 4)
    assert str(plan) == "all-reduce of 4 ranks, ring"
    assert repr(collective("broadcast", 1)) == "broadcast of 1 rank, ring: 0 steps"
    with pytest.raises(AttributeError):
        plan.ranks = 5


def test_a_long_plan_is_shortened():
    lines = repr(collective("all_reduce", 64)).splitlines()
    assert len(lines) == 34 and lines[-1] == "… 94 more steps"
    assert lines[1].endswith("7→8 +7  … 56 more")


def test_a_send_is_a_small_value():
    assert str(Send(0, 4, (4, 5, 6, 7), True)) == "0→4 +4–7"


# ---- refusals


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: collective("reduce", 4), "no collective 'reduce' here; there are broadcast, "),
        (lambda: collective("all_gather", 4, "tree"), "no algorithm 'tree' for all_gather; it has"),
        (lambda: collective(["reduce"], 4), "no collective ['reduce'] here"),
        (lambda: collective("all_gather", 4, ["ring"]), "no algorithm ['ring'] for all_gather"),
        (lambda: collective("all_gather", 4).inputs(4), "rank must be 0 … 3, got 4"),
        (lambda: collective("all_gather", 4).outputs(-1), "rank must be a whole number ≥ 0"),
        (lambda: list(collective("all_gather", 4).of(4)), "rank must be 0 … 3, got 4"),
        (lambda: collective("all_gather", 4, "tree"), "ring, recursive_doubling and direct"),
        (lambda: collective("all_reduce", 0), "ranks must be a whole number ≥ 1, got 0"),
        (lambda: collective("all_reduce", 2.5), "ranks must be a whole number ≥ 1, got 2.5"),
        (lambda: collective("all_reduce", 257), "the steps of 257 ranks are not listed; at most"),
        (
            lambda: collective("all_reduce", 6, "halving_doubling"),
            "must be a power of two, got 6; 4 or 8 would fit, and ring or tree takes any number",
        ),
        (lambda: collective("all_reduce", 4).held(7), "step must be 0 … 6, got 7"),
        (lambda: collective("all_reduce", 4).sent(-1), "step must be a whole number ≥ 0, got -1"),
        (
            lambda: collective("all_reduce", 4).bytes_sent(6_401),
            "6401 bytes cannot be cut into 4 equal chunks; 6400 or 6404 can",
        ),
        (
            lambda: replay(collective("all_reduce", 8), [[1, 2, 3]] * 8),
            "3 elements cannot be cut into 8 equal chunks; 8 can",
        ),
        (
            lambda: replay(collective("all_gather", 2), [[1], [1, 2]]),
            "the ranks of a collective bring tensors of one shape",
        ),
        (lambda: replay(collective("all_gather", 2), [[1]]), "2 ranks need as many tensors, got 1"),
    ],
)
def test_what_does_not_fit_is_refused(call, said):
    with pytest.raises(ValueError) as refused:
        call()
    assert said in str(refused.value)
