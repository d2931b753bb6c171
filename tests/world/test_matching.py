"""Ranks that call operations which do not go together, and what a run leaves open."""

import re
import time

import pytest

from mpviz import ParallelLayout, RanksError, World
from mpviz.world import unfinished as unfinished_calls
from mpviz.world.matching import matched
from mpviz.world.protocol import CELL, Operation, Summary
from mpviz.world.table import Table
from mpviz.world.unfinished import unfinished

PRELUDE = "import torch, torch.distributed as dist\n"


@pytest.fixture(scope="module")
def world():
    with World(ParallelLayout(nodes=1, gpus_per_node=4, tp=2), timeout=20) as world:
        yield world


def failed(world, source, **how):
    """What a cell says that goes wrong: soon, and before its deadline."""
    world.start()
    begun = time.monotonic()
    with pytest.raises(RanksError) as caught:
        world.cell(PRELUDE + source, **how)
    assert time.monotonic() - begun < 10, str(caught.value)
    return str(caught.value)


def values(world, source):
    return list(world.cell(PRELUDE + source))


# ---- mismatched

ODD = "x = torch.ones({}) if rank == {} else torch.ones({})\n"
DIFFERENT = {
    "type, same bytes": (
        ODD.format("4, dtype=torch.int32", 3, "4") + "dist.all_reduce(x)",
        ["all_reduce of 4 float32 (sum)", "all_reduce of 4 int32 (sum)"],
    ),
    "type, other bytes": (
        ODD.format("4, dtype=torch.float64", 0, "4") + "dist.all_reduce(x)",
        ["all_reduce of 4 float32 (sum)", "all_reduce of 4 float64 (sum)"],
    ),
    "size": (
        ODD.format("2", 1, "4") + "dist.all_reduce(x)",
        ["all_reduce of 2 float32 (sum)", "all_reduce of 4 float32 (sum)"],
    ),
    "size in a group of two": (
        ODD.format("2", 1, "4") + "dist.all_reduce(x, group=groups['tp'])",
        ["all_reduce of 2 float32 (sum)", "all_reduce of 4 float32 (sum)"],
    ),
    "reduction": (
        "dist.all_reduce(torch.ones(4), dist.ReduceOp.MAX if rank == 2 else dist.ReduceOp.SUM)",
        ["all_reduce of 4 float32 (max)", "all_reduce of 4 float32 (sum)"],
    ),
    "broadcast": (
        ODD.format("2", 0, "4") + "dist.broadcast(x, 0)",
        ["broadcast of 2 float32 with root 0", "broadcast of 4 float32 with root 0"],
    ),
    "root": (
        "dist.broadcast(torch.ones(4), 0 if rank else 1)",
        ["broadcast of 4 float32 with root 0", "broadcast of 4 float32 with root 1"],
    ),
    "all-gather": (
        ODD.format("2", 0, "4") + "dist.all_gather([x.clone() for _ in range(4)], x)",
        ["all_gather of 2 float32", "all_gather of 4 float32"],
    ),
    "reduce-scatter": (
        ODD.format("2", 0, "4") + "dist.reduce_scatter(x.clone(), 4 * [x])",
        ["reduce_scatter of 8 float32 (sum)", "reduce_scatter of 16 float32 (sum)"],
    ),
    "order": (
        "x = torch.ones(4)\n"
        "(dist.all_reduce if rank else lambda x: dist.broadcast(x, 0))(x)\n"
        "(dist.all_reduce if not rank else lambda x: dist.broadcast(x, 0))(x)",
        ["all_reduce of 4 float32 (sum)", "broadcast of 4 float32 with root 0"],
    ),
    "long message": (
        "if rank == 0: dist.send(torch.ones(5), 1)\nif rank == 1: dist.recv(torch.ones(3), 0)",
        ["5 float32", "3 float32", "a message is received in a tensor of its own size"],
    ),
    "short message": (
        "if rank == 0: dist.send(torch.ones(3), 1)\nif rank == 1: dist.recv(torch.ones(5), 0)",
        ["5 float32", "3 float32", "a message is received in a tensor of its own size"],
    ),
    "message of another type": (
        "if rank == 0: dist.isend(torch.ones(4), 1).wait()\n"
        "if rank == 1: dist.irecv(torch.ones(2, dtype=torch.float64), 0).wait()",
        ["4 float32", "2 float64", "a message is received in a tensor of its own size"],
    ),
    "second message": (
        "for n in (2, 3):\n"
        "    if rank == 0: dist.send(torch.ones(n), 1)\n"
        "    if rank == 1: dist.recv(torch.ones(2), 0)",
        ["3 float32", "2 float32"],
    ),
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_what_does_not_go_together_is_told_at_once(world, what):
    source, words = DIFFERENT[what]
    said = failed(world, source)
    assert "raised ValueError: this rank " in said
    assert all(word in said for word in words), said
    assert "all came" not in said, said
    assert values(world, "x = torch.ones(1); dist.all_reduce(x); x.item()") == [4.0] * 4


SAME = {
    "all-to-all of uneven parts": """
        out, mine = torch.empty(4 * (rank + 1)), torch.ones(1 + 2 + 3 + 4)
        dist.all_to_all_single(out, mine, 4 * [rank + 1], [1, 2, 3, 4])
    """,
    "messages by tag, in another order": """
        if rank == 0: sends = [dist.isend(torch.ones(n), 1, tag=n) for n in (3, 5)]
        if rank == 1: [dist.recv(torch.ones(n), 0, tag=n) for n in (5, 3)]
    """,
    "objects of different sizes": """
        there = [None] * 4
        dist.all_gather_object(there, "x" * 100 * rank)
        dist.broadcast_object_list([rank], src=2)
    """,
    "groups at different times": """
        if rank < 2: dist.all_reduce(torch.ones(3), group=groups["tp"])
        dist.all_reduce(torch.ones(2))
        if rank > 1: dist.all_reduce(torch.ones(5), group=groups["tp"])
    """,
    "from whoever comes first": """
        if rank: dist.send(torch.ones(1), 0)
        else: [dist.recv(torch.ones(1)) for _ in range(3)]
    """,
    "a size from whoever comes first, then that rank's tensor": """
        if rank:
            dist.send(torch.tensor([rank]), 0)
            dist.send(torch.ones(rank), 0)
        else:
            for _ in range(3):
                size = torch.zeros(1, dtype=torch.int64)
                sender = dist.recv(size)
                dist.recv(torch.zeros(int(size)), sender)
    """,
    "the same, the first not waited for at once": """
        if rank == 1:
            dist.send(torch.tensor([3]), 0)
            dist.send(torch.ones(2), 0)
        if rank == 0:
            first = dist.irecv(torch.zeros(1, dtype=torch.int64))
            dist.recv(torch.zeros(2), 1)  # as many bytes: gloo may have dealt them the other way
            first.wait()
    """,
    "threads with a group each": """
        import threading, time
        def sums(group, size):
            for n in range(30):
                time.sleep(0.001 * ((n + rank + size) % 3))
                dist.all_reduce(torch.ones(size), group=group)
        threads = [
            threading.Thread(target=sums, args=(dist.new_group(), size)) for size in (1, 2, 3)
        ]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
    """,
    "a call that torch refuses": """
        if rank == 1:
            for wrong in (lambda: dist.all_reduce(7), lambda: dist.send(torch.ones(1), 99),
                          lambda: dist.all_reduce(torch.ones(1), op="most"), dist.broadcast):
                try: wrong()
                except Exception: pass
        dist.all_reduce(torch.ones(2))
    """,
    "a call that gloo's part of torch refuses": """
        import time
        if rank == 1:
            try: dist.all_gather([torch.ones(1)] * 3, torch.ones(1))
            except RuntimeError: pass
        else: time.sleep(0.3)
        dist.all_reduce(torch.ones(2))
    """,
    "who is not in the group": """
        lower = dist.new_group([0, 1])
        dist.all_reduce(torch.ones(1 if rank < 2 else 7), group=lower)
    """,
    "a batch of messages": """
        right, left = (rank + 1) % 4, (rank - 1) % 4
        send = dist.P2POp(dist.isend, torch.ones(3), right)
        receive = dist.P2POp(dist.irecv, torch.ones(3), left)
        for work in dist.batch_isend_irecv([send, receive]): work.wait()
    """,
    "nobody waits for what all have called": """
        work = dist.all_reduce(torch.ones(1), async_op=True)
        dist.barrier()
    """,
}


@pytest.mark.parametrize("what", SAME)
def test_what_goes_together_is_left_alone(world, what):
    import textwrap

    pids = world.start().pids
    world.cell(PRELUDE + textwrap.dedent(SAME[what]))
    assert world.pids == pids


def test_the_comparison_can_be_turned_off():
    with World(ParallelLayout(nodes=1, gpus_per_node=2), check=False) as world:
        source = PRELUDE + "x = torch.ones(1, dtype=[torch.int32, torch.float32][rank])\n"
        assert len(world.cell(source + "dist.all_reduce(x)\nx.item()")) == 2


def test_a_message_to_a_rank_that_is_not_in_the_group_is_refused(world):
    said = failed(world, "if rank == 0: dist.send(torch.ones(1), 99)")
    assert "ValueError: send: rank 99 is not in this group of ranks 0 1 2 3" in said
    said = failed(world, "if rank == 0: dist.recv(torch.ones(1), 3, group=groups['tp'])")
    assert "ValueError: recv: rank 3 is not in this group of ranks 0 1" in said


# ---- left open

OPEN = {
    "a collective": (
        "if rank == 0: dist.all_reduce(torch.ones(1), async_op=True)",
        ["open: all_reduce, line 2: if rank == 0:", "rank 0 called it, ranks 1 2 3 never did"],
    ),
    "of a group": (
        "if rank % 2: dist.all_reduce(torch.ones(1), group=groups['tp'], async_op=True)",
        [
            "open: all_reduce, line 2: if rank % 2:",
            "tp group 0 1: rank 1 called it, rank 0 never did",
            "tp group 2 3: rank 3 called it, rank 2 never did",
        ],
    ),
    "a send": (
        "if rank == 2: dist.isend(torch.ones(1), 3)",
        ["open: isend to another rank, line 2", "rank 2 called it, rank 3 never received"],
    ),
    "a receive": (
        "if rank == 2: work = dist.irecv(torch.ones(1), 3)",
        ["open: irecv from another rank, line 2", "rank 2 called it, rank 3 never sent"],
    ),
    "a send of two": (
        "if rank == 0: sends = [dist.isend(torch.ones(1), 1) for _ in range(2)]\n"
        "if rank == 1: dist.recv(torch.ones(1), 0)",
        ["open: isend to another rank, line 2", "rank 0 called it, rank 1 never received"],
    ),
    "with ranks that were not asked": (
        "work = dist.isend(torch.ones(1), 1)",
        ["rank 0 called it, rank 1 never received"],
    ),
}


@pytest.mark.parametrize("what", OPEN)
def test_what_is_left_open_is_named_where_it_was_left(world, what):
    source, words = OPEN[what]
    said = failed(world, source, only=[0] if "asked" in what else None)
    assert all(word in said for word in words), said
    assert said.endswith("The ranks start anew with the next run; their variables are gone.")
    assert values(world, "x = torch.ones(1); dist.all_reduce(x); x.item()") == [4.0] * 4


def test_what_is_left_open_after_more_than_are_kept_is_told_as_well(world, monkeypatch):
    world.cell("from mpviz.world import matching\nmatching.MOST_KEPT = 20")
    monkeypatch.setattr(unfinished_calls, "MOST_KEPT", 20)
    # Alone in its group, a rank waits for nobody.
    source = "x = torch.ones(1)\nfor _ in range(21): dist.all_reduce(x, group=groups['cp'])\n"
    source += "if rank == 0: work = dist.all_reduce(torch.ones(1), async_op=True)"
    with pytest.raises(RanksError, match="open: one of 20 operations or more on rank"):
        world.cell(PRELUDE + source)
    assert values(world, "x = torch.ones(1); dist.all_reduce(x); x.item()") == [4.0] * 4


def test_what_a_rank_that_raised_left_open_costs_the_ranks_and_no_word(world):
    source = "if rank == 0: work = dist.isend(torch.ones(1), 1)\nif rank == 1: raise KeyError('k')"
    said = failed(world, source).split("\n")
    assert said[0] == "1 of 4 ranks raised KeyError: 'k'"
    assert said[2:] == ["The ranks start anew with the next run; their variables are gone."]
    assert values(world, "x = torch.ones(1); dist.all_reduce(x); x.item()") == [4.0] * 4


def test_a_hang_in_a_later_call_says_in_which(world):
    source = """x = torch.ones(1)
if rank == 0: work = dist.all_reduce(x, async_op=True)
dist.all_reduce(x)"""
    said = failed(world, source, timeout=2)
    assert "rank 0 waits in all_reduce, line 4: dist.all_reduce(x)" in said
    came = "all ranks: rank 0 came for call 2, never came: ranks 1 2 3 (done, after 1 call)"
    assert came in said


def test_who_came_and_was_done_before_is_not_said_to_be_missing(world):
    # The root and some others are through at once; whoever passes on to rank 3 waits for it.
    source = "x = torch.ones(10**6)\nif rank != 3: dist.broadcast(x, 0)\nif rank == 3: 0"
    world.start()
    with pytest.raises(RanksError) as caught:
        world.cell(PRELUDE + source, timeout=2)
    said = str(caught.value)
    assert re.search(r"all ranks: ranks 0 1 2 came, never came: rank 3 \(done\)", said), said
    assert "✗ 3: never came (done)" in caught.value.picture.text
    assert caught.value.picture.text.count("never came") == 1


# ---- the parts

SUM = Operation("all_reduce", (0, 1), "0", 16, 4, "float32", "sum", file=CELL, line=3)


def test_a_table_tells_what_others_wrote_and_nothing_of_other_keys(tmp_path):
    first, second = (Table(tmp_path / "table", rank, 2) for rank in range(2))
    import numpy as np

    both = np.array([0, 1])
    first.write(5, SUM)
    assert second.differing(5, SUM, both) == {}
    odd = SUM._replace(elements=2)
    (seen,) = second.differing(5, odd, both).values()
    assert (seen.name, seen.elements, seen.dtype, seen.line) == ("all_reduce", 4, "float32", 3)
    assert second.differing(6, odd, both) == second.differing(5 + 1024, odd, both) == {}
    first.erase(5)
    assert second.differing(5, odd, both) == {}


def test_sizes_are_not_held_against_a_rank_that_took_from_anybody():
    sent = [Operation("send", (0, 1), "0", 8, n, "float32", peer=1) for n in (1, 3)]
    taken = [
        Operation("recv", (0, 1), "0", 8, n, "float32", peer=peer)
        for n, peer in ((1, None), (3, 0))
    ]
    left = Operation("barrier", (0, 1), "0")
    layout = ParallelLayout(nodes=1, gpus_per_node=2, tp=2)
    said = unfinished(layout, {0: [*sent, left], 1: taken})
    assert [line.partition(",")[0] for line in said] == [
        "open: barrier",
        "  all ranks: rank 0 called it",
    ]


def test_summaries_match_when_everything_found_its_counterpart():
    group = "0", (0, 1)
    one = Summary({group: (2, 77)}, sent={("0", 0, 1): (1, 5)})
    two = Summary({group: (2, 77)}, received={("0", 0, 1): (1, 5)})
    assert matched({0: one, 1: two})
    assert not matched({0: one})
    assert not matched({0: one, 1: Summary({group: (1, 77)}, received=two.received)})
    assert not matched({0: one, 1: Summary({group: (2, 78)}, received=two.received)})
    assert not matched({0: one, 1: Summary({group: (2, 77)})})
    assert matched({0: one, 1: Summary({group: (2, 77)}, from_any=1)})
    assert not matched({0: one, 1: Summary({group: (2, 77)}, from_any=2)})
    assert not matched({0: Summary({group: (2, 77)}), 1: Summary({group: (2, 77)}, from_any=1)})
