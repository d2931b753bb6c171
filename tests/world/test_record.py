"""What a recorded run tells of every operation, on four real ranks: tp pairs 0 1 and 2 3."""

import textwrap
from collections import defaultdict

import pytest

from mpviz import Event, ParallelLayout
from mpviz.world import World
from mpviz.world.calls import KINDS

EVERYONE = (0, 1, 2, 3)
# torch 2.13 renames two operations; before, the new names are not there.
ONLY_IN_NEW_TORCH = {"all_gather_single", "reduce_scatter_single"}


@pytest.fixture(scope="module")
def world():
    layout = ParallelLayout(nodes=1, gpus_per_node=4, tp=2, pp=2)
    with World(layout, timeout=30) as world:
        world.cell("import torch, torch.distributed as dist\nfrom datetime import timedelta")
        yield world


def recorded(world, source, *, only=None):
    """Record a cell; return what each rank did, without the times, which are checked here."""
    events = world.cell(textwrap.dedent(source), record=True, only=only).events
    assert all(isinstance(event, Event) and 0 < event.start < event.end < 30 for event in events)
    by_rank = defaultdict(list)
    for event in events:
        by_rank[event.rank].append((event.name, event.group, event.bytes, event.peer))
    return dict(by_rank)


def tp(rank):
    return (0, 1) if rank < 2 else (2, 3)


# Each operation on a tensor of 3 float32 = 12 bytes in the tp group of two, and what it counts:
# what this rank contributes. Roots are rank 1 and rank 3: the last of each group.
OPERATIONS = {
    "all_reduce": ("dist.all_reduce(x, group=tp)", 12, None),
    "broadcast": ("dist.broadcast(x, src=last, group=tp)", 12, "last"),
    "reduce": ("dist.reduce(x, dst=last, group=tp)", 12, "last"),
    "all_gather": ("dist.all_gather([x.clone(), x.clone()], x, group=tp)", 12, None),
    "all_gather_into_tensor": ("dist.all_gather_into_tensor(two, x, group=tp)", 12, None),
    "all_gather_single": ("dist.all_gather_single(two, x, group=tp)", 12, None),
    "reduce_scatter": ("dist.reduce_scatter(x, [x.clone(), x.clone()], group=tp)", 24, None),
    "reduce_scatter_tensor": ("dist.reduce_scatter_tensor(x, two, group=tp)", 24, None),
    "reduce_scatter_single": ("dist.reduce_scatter_single(x, two, group=tp)", 24, None),
    "gather": (
        "dist.gather(x, [x.clone(), x.clone()] if rank == last else None, dst=last, group=tp)",
        12,
        "last",
    ),
    "scatter": (
        "dist.scatter(x, [x.clone(), x.clone()] if rank == last else None, src=last, group=tp)",
        12,
        "last",
    ),
    "all_to_all": (
        "dist.all_to_all([x.clone(), x.clone()], [x.clone(), x.clone()], group=tp)",
        24,
        None,
    ),
    "all_to_all_single": ("dist.all_to_all_single(two.clone(), two, group=tp)", 24, None),
    "barrier": ("dist.barrier(group=tp)", 0, None),
}
VARIABLES = """
    x, two = torch.ones(3), torch.ones(6)
    tp, last, other = groups["tp"], rank | 1, rank ^ 1
"""


def test_no_operation_is_left_out_here():
    assert set(KINDS) == {*OPERATIONS, "send", "recv", "isend", "irecv"}


@pytest.mark.parametrize("name", OPERATIONS)
def test_one_collective_is_one_event(world, name):
    source, size, peer = OPERATIONS[name]
    if name in ONLY_IN_NEW_TORCH and not all(world.run(_has, name)):
        pytest.skip(f"this torch has no {name}")
    seen = recorded(world, VARIABLES + f"    {source}")
    assert seen == {rank: [(name, tp(rank), size, rank | 1 if peer else None)] for rank in EVERYONE}


def _has(name):
    import torch.distributed as dist

    return hasattr(dist, name)


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_pending_collective_is_one_event_that_ends_when_its_wait_does(world, name):
    source = OPERATIONS[name][0].removesuffix(")") + ", async_op=True)"
    if name in ONLY_IN_NEW_TORCH and not all(world.run(_has, name)):
        pytest.skip(f"this torch has no {name}")
    events = world.cell(
        textwrap.dedent(VARIABLES)
        + "import time\n"
        + f"work = {source}\n"
        + "time.sleep(0.05)\n"
        + "work.wait(timeout=timedelta(seconds=9))\n"
        + "time.sleep(0.05)\n"
        + "dist.barrier()\n",
        record=True,
    ).events
    for rank in EVERYONE:
        pending, later = (event for event in events if event.rank == rank)
        assert (pending.name, pending.group) == (name, tp(rank))
        assert pending.duration > 0.05
        assert pending.end + 0.05 <= later.start


def test_a_pending_operation_can_be_asked_all_that_torchs_can(world):
    source = """
    work = dist.all_reduce(torch.ones(1), async_op=True)
    work.wait()
    time.sleep(0.3)
    work.wait()
    try:
        work.wait(there_is_no_such=1)
    except TypeError as error:
        said = str(error)
    of_torch = isinstance(work, dist.Work)  # FSDP waits for no other
    work.is_completed(), work.get_future().done(), "incompatible" in said, of_torch
    """
    results = world.cell("import time" + textwrap.dedent(source), record=True)
    assert list(results) == 4 * [(True, True, True, True)]
    assert len(results.events) == 4
    # The first wait counts.
    assert all(event.duration < 0.3 for event in results.events)


def test_threads_are_recorded_side_by_side(world):
    source = """
    import threading, time
    def late(seconds, group):
        time.sleep(seconds * (rank == 0))
        dist.barrier(group)
    threads = [
        threading.Thread(target=late, args=(seconds, dist.new_group())) for seconds in (0.4, 0.01)
    ]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    """
    events = world.cell("import time" + textwrap.dedent(source), record=True).events
    for rank in EVERYONE[1:]:
        slow, fast = sorted((e for e in events if e.rank == rank), key=lambda e: -e.duration)
        assert slow.end - fast.end > 0.2


def test_what_nobody_waits_for_ends_with_the_run(world):
    events = world.cell(
        "import time\n"
        "forgotten = dist.barrier(async_op=True)\n"
        "time.sleep(0.2)\n"
        "waited = dist.barrier(async_op=True)\n"
        "waited.wait()\n",
        record=True,
    ).events
    for rank in EVERYONE:
        forgotten, waited = (event for event in events if event.rank == rank)
        assert forgotten.duration > 0.2
        assert forgotten.end >= waited.end


@pytest.mark.parametrize(
    ("send", "recv"),
    [
        ("dist.send(x, dst=3)", "dist.recv(x, src=0)"),
        ("dist.send(x, 3)", "dist.recv(x, 0)"),
        ("dist.isend(x, dst=3).wait()", "dist.irecv(x, src=0).wait()"),
        ("dist.send(x, group_dst=3)", "dist.recv(x, group_src=0)"),
    ],
)
def test_a_message_names_its_other_end(world, send, recv):
    seen = recorded(
        world,
        f"""
        x = torch.ones(5, dtype=torch.float64)
        if rank == 0: {send}
        if rank == 3: {recv}
        """,
    )
    sent, received = (text.partition(".")[2].partition("(")[0] for text in (send, recv))
    assert seen == {0: [(sent, EVERYONE, 40, 3)], 3: [(received, EVERYONE, 40, 0)]}


def test_peers_are_ranks_of_the_world_also_within_a_group(world):
    seen = recorded(
        world,
        """
        x = torch.ones(1)
        pp = groups["pp"]
        if rank == 1: dist.send(x, group=pp, group_dst=1)
        if rank == 3: dist.recv(x, group=pp, group_src=0)
        dist.broadcast(x, group=pp, group_src=1)
        """,
    )
    assert seen == {
        0: [("broadcast", (0, 2), 4, 2)],
        1: [("send", (1, 3), 4, 3), ("broadcast", (1, 3), 4, 3)],
        2: [("broadcast", (0, 2), 4, 2)],
        3: [("recv", (1, 3), 4, 1), ("broadcast", (1, 3), 4, 3)],
    }


def test_a_recv_from_anybody_has_no_peer(world):
    seen = recorded(
        world,
        """
        x = torch.ones(1)
        if rank == 0: dist.send(x, 1)
        if rank == 1: dist.recv(x)
        """,
    )
    assert seen[1] == [("recv", EVERYONE, 4, None)]


def test_a_root_that_is_left_out_is_rank_0(world):
    seen = recorded(
        world,
        """
        x = torch.ones(1)
        dist.gather(x, [torch.ones(1) for _ in range(4)] if rank == 0 else None)
        dist.scatter(x, [torch.ones(1) for _ in range(4)] if rank == 0 else None)
        """,
    )
    each = [("gather", EVERYONE, 4, 0), ("scatter", EVERYONE, 4, 0)]
    assert seen == dict.fromkeys(EVERYONE, each)


BATCH = """
    mine, theirs = torch.ones(2), torch.zeros(2)
    right, left = (rank + 1) % 4, (rank - 1) % 4
    batch = [dist.P2POp(dist.isend, mine, right), dist.P2POp(dist.irecv, theirs, left)]
"""


@pytest.mark.parametrize("made", ["in the recording", "before it", "in another recording"])
def test_a_batch_of_messages(world, made):
    if made != "in the recording":
        world.cell(textwrap.dedent(BATCH), record=made == "in another recording")
    cell = textwrap.dedent(
        """
        for work in dist.batch_isend_irecv(batch):
            work.wait()
        assert theirs.tolist() == [1.0, 1.0]
        """
    )
    seen = recorded(world, textwrap.dedent(BATCH) + cell if made == "in the recording" else cell)
    assert seen == {
        rank: [("isend", EVERYONE, 8, (rank + 1) % 4), ("irecv", EVERYONE, 8, (rank - 1) % 4)]
        for rank in EVERYONE
    }


def test_a_batch_that_a_recording_made_can_be_sent_when_it_is_over(world):
    world.cell(textwrap.dedent(BATCH), record=True)
    world.cell("for work in dist.batch_isend_irecv(batch): work.wait()")
    assert list(world.cell("theirs.tolist()")) == [[1.0, 1.0]] * 4


def test_objects_are_gathered_by_the_two_collectives_they_take(world):
    seen = recorded(
        world,
        """
        everything = [None] * 4
        dist.all_gather_object(everything, {"rank": rank})
        assert everything == [{"rank": r} for r in range(4)]
        """,
    )
    # First how long each pickle is, an int64; then the pickles.
    assert len(set(map(tuple, seen.values()))) == 1
    (lengths, pickles) = seen[0]
    assert lengths == ("all_gather", EVERYONE, 8, None)
    assert pickles[:2] == ("all_gather", EVERYONE) and 10 < pickles[2] < 100


def test_the_order_of_a_rank_is_the_order_of_its_program(world):
    seen = recorded(
        world,
        """
        x = torch.ones(1)
        for number in range(5):
            dist.all_reduce(x)
            dist.barrier(group=groups["tp"])
        """,
    )
    assert [name for name, *_ in seen[2]] == 5 * ["all_reduce", "barrier"]


def test_events_come_in_order_of_time_and_overlap_across_ranks(world):
    results = world.cell("import time\ntime.sleep(0.05 * rank)\ndist.barrier()", record=True)
    assert [event.rank for event in results.events] == [0, 1, 2, 3]
    # One clock: nobody leaves the barrier before the last one comes.
    assert min(event.end for event in results.events) > results.events[-1].start


def test_functions_of_a_module_are_recorded_too(world):
    # torch.nn.functional's collectives, Megatron and DDP's buckets call through the module.
    seen = recorded(
        world,
        """
        from torch.distributed import distributed_c10d
        distributed_c10d.all_reduce(torch.ones(1))
        """,
    )
    assert seen == {rank: [("all_reduce", EVERYONE, 4, None)] for rank in EVERYONE}


def test_who_is_not_in_a_group_has_no_event(world):
    world.cell("lower = dist.new_group([0, 1])")
    seen = recorded(world, "dist.all_reduce(torch.ones(1), group=lower)")
    assert seen == {rank: [("all_reduce", (0, 1), 4, None)] for rank in (0, 1)}


def test_what_raises_is_over_at_once(world):
    results = world.cell(
        "import time\n"
        "try:\n"
        "    dist.all_gather([], None)\n"
        "except TypeError as error:\n"
        "    said = str(error)\n"
        "time.sleep(0.2)\n",
        record=True,
    )
    assert len(results.events) == 4
    assert all(event.duration < 0.2 for event in results.events)


def test_a_wrong_call_raises_what_torch_says(world):
    source = (
        "try:\n    dist.all_reduce()\n    said = ''\n"
        "except TypeError as error:\n    said = str(error)\nsaid"
    )
    plain, seen = list(world.cell(source)), list(world.cell(source, record=True))
    assert plain == seen and "'tensor'" in seen[0]


def test_nothing_is_recorded_unless_asked_for(world):
    assert world.cell("dist.barrier()").events == ()
    assert world.run(lambda: None).events == ()


def test_only_some_ranks_recorded(world):
    seen = recorded(world, "dist.barrier(group=groups['tp'])", only=[2, 3])
    assert seen == {rank: [("barrier", (2, 3), 0, None)] for rank in (2, 3)}


FUNCTIONS = """
    import torch.distributed.distributed_c10d as c10d
    names = {names}
    now = [getattr(module, name, None) for module in (dist, c10d) for name in names]
    now.append(dist.P2POp.__init__)
"""


def test_the_functions_are_the_same_recorded_or_not(world):
    look = textwrap.dedent(FUNCTIONS.format(names=[*KINDS, "batch_isend_irecv"]))
    world.cell(look + "before = now")
    same = look + "all(a is b for a, b in zip(now, before, strict=True))"
    assert list(world.cell(same, record=True)) == [True] * 4
    assert list(world.cell(same)) == [True] * 4
    both = look + "now[: len(names)] == now[len(names) : -1]"  # P2POp tells them by identity
    assert list(world.cell(both)) == [True] * 4


def test_a_function_imported_by_name_in_an_earlier_cell_is_recorded(world):
    world.cell("from torch.distributed import all_reduce, isend, irecv")
    events = world.cell("all_reduce(torch.ones(3))", record=True).events
    assert [(event.name, event.bytes) for event in events] == [("all_reduce", 12)] * 4
    source = """
        work = isend(torch.ones(1), 1) if rank == 0 else None
        work = irecv(torch.ones(1), 0) if rank == 1 else work
        if work: work.wait()
    """
    seen = recorded(world, source)
    assert seen == {0: [("isend", EVERYONE, 4, 1)], 1: [("irecv", EVERYONE, 4, 0)]}


def test_a_function_imported_in_a_recorded_cell_still_works_later(world):
    world.cell("from torch.distributed import all_reduce as kept", record=True)
    assert list(world.cell("y = torch.ones(1); kept(y); y.item()")) == [4.0] * 4
    assert len(world.cell("kept(y)", record=True).events) == 4
    own = world.cell("work = kept(y, async_op=True); work.wait(); isinstance(work, dist.Work)")
    assert list(own) == [True] * 4
