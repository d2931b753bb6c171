"""What `World` does when all goes well: calls, cells, who runs, and the groups it finds."""

import functools
import json
import math
import subprocess
import sys
import time

import pytest

from mpviz import GROUP_KINDS, TP_PP_DP_ORDER, ParallelLayout
from mpviz.world import World

LAYOUT = ParallelLayout(nodes=1, gpus_per_node=4, tp=2, pp=2)


@pytest.fixture(scope="module")
def world():
    with World(LAYOUT, timeout=30) as world:
        yield world


# ---- calls: what is filled in, and where


CALLS = {
    "nothing": (lambda: "done", (), ["done"] * 4),
    "one argument": (lambda x: x, (7,), [7] * 4),
    "rank alone": (lambda rank: rank, (), [0, 1, 2, 3]),
    "rank first": (lambda rank, x: (rank, x), ("x",), [(r, "x") for r in range(4)]),
    "rank last": (lambda x, rank: (rank, x), ("x",), [(r, "x") for r in range(4)]),
    "rank between": (lambda x, rank, y: (x, rank, y), (1, 2), [(1, r, 2) for r in range(4)]),
    "all coordinates": (
        lambda pp_rank, tp_rank, cp_rank, dp_rank, world_size: (
            tp_rank,
            cp_rank,
            dp_rank,
            pp_rank,
            world_size,
        ),
        (),
        [(0, 0, 0, 0, 4), (1, 0, 0, 0, 4), (0, 0, 0, 1, 4), (1, 0, 0, 1, 4)],
    ),
    "layout": (lambda layout, rank: layout.coordinates(rank)["pp"], (), [0, 0, 1, 1]),
    "groups": (lambda groups: sorted(groups)[:3], (), [["cp", "dp", "dp-cp"]] * 4),
    "a default that is used": (lambda x, y=2: (x, y), (1,), [(1, 2)] * 4),
    "a default that is not used": (lambda x, y=2: (x, y), (1, 3), [(1, 3)] * 4),
    "rank after a default": (lambda x=1, rank=None: (x, rank), (), [(1, r) for r in range(4)]),
    "rank after a given default": (
        lambda x=1, rank=None: (x, rank),
        (9,),
        [(9, r) for r in range(4)],
    ),
    "a default instead of the rank": (lambda rank=17: rank, (), [0, 1, 2, 3]),
    "keyword-only": (lambda x, *, rank, y=3: (x, rank, y), (1,), [(1, r, 3) for r in range(4)]),
    "any number": (lambda *xs: xs, (1, 2, 3), [(1, 2, 3)] * 4),
    "none of any number": (lambda *xs: xs, (), [()] * 4),
    "any number and rank": (
        lambda first, *xs, rank: (first, xs, rank),
        (1, 2, 3),
        [(1, (2, 3), r) for r in range(4)],
    ),
    "rank, then any number": (
        lambda rank, *xs: (rank, xs),
        (1, 2),
        [(r, (1, 2)) for r in range(4)],
    ),
    "keywords are left alone": (lambda x, **more: (x, more), (1,), [(1, {})] * 4),
    "positional only": (lambda x, rank, /: (x, rank), (1,), [(1, r) for r in range(4)]),
    "a builtin without signature": (max, (3, 8, 5), [8] * 4),
    "a builtin with one": (math.gcd, (12, 18), [6] * 4),
    "a type": (int, ("12",), [12] * 4),
    "a partial": (
        functools.partial(lambda x, rank, y: (x, rank, y), 1),
        (2,),
        [(1, r, 2) for r in range(4)],
    ),
    "a partial by name": (
        functools.partial(lambda x, y, rank: (x, y, rank), y=5),
        (1,),
        [(1, 5, r) for r in range(4)],
    ),
}


@pytest.mark.parametrize("call", CALLS)
def test_names_of_the_rank_are_filled_in_and_arguments_go_to_the_others(world, call):
    function, args, expected = CALLS[call]
    assert list(world.run(function, *args)) == expected


def test_methods_and_callable_objects(world):
    # By value: the ranks cannot import this file.
    source = "class Doubler:" + "\n    def __call__(self, x, rank): return 2 * x + rank\n"
    source += "    def method(self, rank, x=5): return (rank, x)\n"
    names = {"__name__": "__main__"}
    exec(source, names)
    doubler = names["Doubler"]()
    assert list(world.run(doubler, 10)) == [20, 21, 22, 23]
    assert list(world.run(doubler.method)) == [(r, 5) for r in range(4)]
    assert list(world.run(doubler.method, 6)) == [(r, 6) for r in range(4)]


def test_a_rank_gets_its_own_copy_of_an_argument(world):
    numbers = [1]
    assert list(world.run(lambda xs, rank: xs.append(rank) or xs, numbers)) == [
        [1, rank] for rank in range(4)
    ]
    assert numbers == [1]


def test_what_a_function_uses_comes_along(world):
    factor = 3
    assert list(world.run(lambda rank: factor * math.sqrt(rank**2))) == [0.0, 3.0, 6.0, 9.0]


@pytest.mark.parametrize(
    ("function", "args", "says"),
    [
        (lambda x: x, (), "missing 1 required positional argument: 'x'"),
        (lambda rank: rank, (1,), "takes 1 positional argument but 2 were given"),
        (lambda x, *, y: x, (1,), "missing 1 required keyword-only argument: 'y'"),
    ],
)
def test_too_few_or_too_many_arguments_fail_on_every_rank(world, function, args, says):
    pids = world.pids
    with pytest.raises(RuntimeError, match="4 of 4 ranks raised TypeError") as raised:
        world.run(function, *args)
    assert says in str(raised.value)
    assert world.pids == pids and list(world.run(lambda: 1)) == [1] * 4


def test_calls_and_cells_do_not_share_variables_but_a_process(world):
    world.cell("import sys; sys.kept_here = rank * 11")
    assert list(world.run(lambda: __import__("sys").kept_here)) == [0, 11, 22, 33]


# ---- cells


def test_a_cell_ends_with_its_last_expression(world):
    assert list(world.cell("x = 10 * rank\nx + 1")) == [1, 11, 21, 31]
    assert list(world.cell("x")) == [0, 10, 20, 30]
    assert list(world.cell("x = 1")) == [None] * 4
    assert list(world.cell("x;")) == [None] * 4


@pytest.mark.parametrize("source", ["", "\n", "   \n\n", "# only words", "pass"])
def test_a_cell_without_a_result(world, source):
    results = world.cell(source)
    assert results.all_none and list(results) == [None] * 4


def test_a_cell_defines_functions_that_see_its_variables(world):
    world.cell("offset = 100\ndef shifted(): return rank + offset")
    assert list(world.cell("shifted()")) == [100, 101, 102, 103]
    world.cell("offset = 200")
    assert list(world.cell("shifted()")) == [200, 201, 202, 203]


def test_a_cell_with_an_error_in_it_reaches_no_rank(world):
    world.cell("reached = False")
    with pytest.raises(SyntaxError):
        world.cell("reached = True\nif x")
    assert list(world.cell("reached")) == [False] * 4


# ---- who runs


@pytest.mark.parametrize(
    ("only", "ranks"),
    [([2], (2,)), ([3, 0], (0, 3)), ((1, 1), (1,)), (range(2), (0, 1)), (iter([1, 2]), (1, 2))],
)
def test_only_these(world, only, ranks):
    results = world.run(lambda rank: rank, only=only)
    assert results.ranks == ranks and list(results) == list(ranks)


def test_only_a_group_can_use_the_group(world):
    assert list(world.cell("import torch, torch.distributed as dist; x = torch.ones(1)")) == 4 * [
        None
    ]
    source = "dist.all_reduce(x, group=groups['tp']); x.item()"
    assert list(world.cell(source, only=LAYOUT.groups("tp")[1])) == [2.0, 2.0]
    assert list(world.cell("x.item()")) == [1.0, 1.0, 2.0, 2.0]


# ---- arguments that are refused, before any rank starts


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"layout": 4}, "a World takes a ParallelLayout, got 4"),
        ({"timeout": 0}, "timeout must be a number of seconds above 0, got 0"),
        ({"timeout": -1.0}, "timeout must be a number of seconds above 0, got -1.0"),
        ({"timeout": float("nan")}, "got nan"),
        ({"timeout": float("inf")}, "got inf"),
        ({"timeout": "60"}, "got '60'"),
        ({"timeout": True}, "got True"),
        ({"threads": 0}, "threads must be a whole number ≥ 1, got 0"),
        ({"threads": 1.5}, "threads must be a whole number ≥ 1, got 1.5"),
    ],
)
def test_a_world_that_cannot_be(arguments, says):
    with pytest.raises(ValueError, match=says):
        World(**{"layout": LAYOUT} | arguments)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"only": []}, r"only=\[\] leaves no rank to run on"),
        ({"only": [4]}, "rank 4 is out of range: 0 … 3"),
        ({"only": [-1]}, "rank must be a whole number ≥ 0, got -1"),
        ({"only": [1.5]}, "rank must be a whole number ≥ 0, got 1.5"),
        ({"only": "01"}, "rank must be a whole number ≥ 0, got '0'"),
        ({"timeout": 0}, "timeout must be a number of seconds above 0"),
        ({"timeout": None, "only": [0, 9]}, "rank 9 is out of range"),
    ],
)
def test_a_run_that_cannot_be_starts_no_rank(arguments, says):
    world = World(LAYOUT)
    with pytest.raises(ValueError, match=says):
        world.run(lambda: 1, **arguments)
    with pytest.raises(ValueError, match=says):
        world.cell("1", **arguments)
    assert world.pids == []


def test_what_is_not_a_function_is_refused():
    world = World(LAYOUT)
    with pytest.raises(ValueError, match="run takes a function and its arguments, got 5"):
        world.run(5)
    with pytest.raises(ValueError, match="no group kind"):
        world.observed("xx")
    assert world.pids == []


def test_how_it_reads():
    world = World(LAYOUT)
    assert repr(world) == f"World({LAYOUT!r}), not started"
    with world:
        assert repr(world) == f"World({LAYOUT!r}), running"
        assert len(set(world.pids)) == 4
    assert repr(world) == f"World({LAYOUT!r}), not started"


def test_it_starts_with_the_first_run_and_again_after_its_end():
    world = World(LAYOUT)
    try:
        first = list(world.run(lambda: __import__("os").getpid()))
        assert first == world.pids
        assert world.start() is world and world.pids == first
        world.close()
        world.close()
        assert world.pids == []
        assert not set(world.run(lambda: __import__("os").getpid())) & set(first)
    finally:
        world.close()


# ---- the groups that there are


def cluster(world_size, **sizes):
    return ParallelLayout(nodes=1, gpus_per_node=world_size, **sizes)


LAYOUTS = [
    cluster(1),
    cluster(2),
    cluster(2, tp=2),
    cluster(2, pp=2),
    cluster(3, pp=3),
    cluster(3, cp=3),
    cluster(4, tp=2),
    cluster(4, pp=4),
    cluster(4, tp=2, pp=2),
    cluster(4, ep=2),
    cluster(4, ep=4, tp=2, expert_tp=1),
    cluster(4, tp=2, pp=2, order="pp-dp-cp-tp-ep"),
    cluster(5),
    cluster(6, tp=2, pp=3),
    cluster(6, tp=3, order=TP_PP_DP_ORDER),
    ParallelLayout(nodes=2, gpus_per_node=4, tp=2, pp=2),
    cluster(8, tp=2, pp=2, order=TP_PP_DP_ORDER),
    cluster(8, tp=2, cp=2, pp=2),
    cluster(8, tp=2, pp=2, order="dp-tp-cp-ep-pp"),
    cluster(8, tp=4, ep=2, expert_tp=2),
    cluster(8, tp=2, ep=2, pp=2),
    cluster(8, tp=4, ep=4, expert_tp=1, pp=2),
    cluster(8, cp=4, tp=2, ep=2),
    cluster(8, pp=8),
]


def test_the_layouts_are_twenty_and_more():
    assert len(set(LAYOUTS)) == len(LAYOUTS) >= 20


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: repr(layout)[14:])
def test_the_groups_observed_are_the_groups_drawn(layout):
    with World(layout, timeout=60) as world:
        for kind in GROUP_KINDS:
            assert world.observed(kind) == layout.groups(kind), kind


def test_observed_is_asked_of_the_ranks():
    with World(LAYOUT) as world:
        world.cell("import torch.distributed as dist\ndist.get_process_group_ranks = lambda g: [9]")
        assert world.observed("tp").tolist() == [[9]]


# ---- what the notebook's own process needs

PROGRAM = """
import json, sys
from mpviz import ParallelLayout, World

with World(ParallelLayout(nodes=1, gpus_per_node=2, tp=2)) as world:
    def ones(rank):
        import torch
        return torch.full((2,), float(rank))
    before = world.run(ones, record=True)
    shown = repr(before)
    world.cell("import torch; torch.ones(1)")
    lazy = "torch" not in sys.modules
    values = [value.tolist() for value in before]
    print(json.dumps([lazy, shown, values, "torch" in sys.modules]))
"""


def test_a_notebook_that_only_shows_tensors_never_imports_torch():
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=90
    )
    assert finished.returncode == 0, finished.stderr
    lazy, shown, values, then = json.loads(finished.stdout)
    assert lazy
    assert "tensor([1., 1.])" in shown
    assert values == [[0.0, 0.0], [1.0, 1.0]]
    assert then


def test_ranks_share_a_clock_and_run_at_the_same_time(world):
    began = time.perf_counter()
    times = list(world.run(lambda: (__import__("time").sleep(0.3), time.perf_counter())[1]))
    assert time.perf_counter() - began < 4 * 0.3
    assert all(began < moment < time.perf_counter() for moment in times)


def test_each_rank_draws_its_own_random_numbers(world):
    def draws():
        import random

        import numpy as np
        import torch

        return torch.rand(1).item(), random.random(), float(np.random.rand())

    first = list(world.run(draws))
    assert all(len(set(column)) == 4 for column in zip(*first, strict=True))
