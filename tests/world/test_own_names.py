"""What a cell does to its rank does not reach the next cell without a word."""

import sys
import textwrap

import psutil
import pytest

from mpviz import ParallelLayout, World


@pytest.fixture(scope="module")
def world():
    with World(ParallelLayout(nodes=1, gpus_per_node=4, tp=2, pp=2), timeout=20) as world:
        yield world


def cell(world, source):
    return world.cell("import torch, torch.distributed as dist\n" + textwrap.dedent(source))


REBINDINGS = {
    "for rank in range(world_size): pass": ("rank", [0, 1, 2, 3]),
    "tp_rank += 5": ("tp_rank", [0, 1, 0, 1]),
    "del world_size": ("world_size", [4] * 4),
    "pp_rank = torch.ones(3)": ("pp_rank", [0, 0, 1, 1]),
    "groups = {}": ("len(groups) > 2", [True] * 4),
    "layout = None": ("layout.tp", [2] * 4),
    "dp_rank = True": ("dp_rank", [0] * 4),
}


@pytest.mark.parametrize("source", REBINDINGS)
def test_a_ranks_own_names_are_what_they_were(world, source):
    name, expected = REBINDINGS[source]
    told = cell(world, source).output
    assert list(cell(world, name)) == expected
    assert list(world.run(lambda rank, world_size: (rank, world_size))) == [
        (r, 4) for r in range(4)
    ]
    changed = [said for said in told.values() if "it is this rank's own again" in said]
    assert changed, told


def test_the_cell_itself_sees_what_it_set_and_is_told_once(world):
    results = cell(world, "for rank in range(world_size): pass\nrank")
    assert list(results) == [3] * 4
    said = "the cell set rank to 3; it is this rank's own again: choose another name"
    assert results.output == dict.fromkeys((0, 1, 2), said)  # rank 3 is rank 3
    assert cell(world, "rank").output == {}


def test_a_name_that_is_deleted_or_cannot_be_shown_is_told_too(world):
    source = """
        class Odd:
            def __repr__(self):
                raise KeyboardInterrupt
        rank = Odd()
        del tp_rank
    """
    (said,) = set(cell(world, source).output.values())
    assert "the cell set rank to something that cannot be shown; it is" in said
    assert "the cell deleted tp_rank; it is this rank's own again" in said
    assert list(cell(world, "rank")) == [0, 1, 2, 3]


@pytest.mark.parametrize("source", [b"1", None, 7, "x = '\ud800'"])
def test_a_cell_is_text(world, source):
    with pytest.raises(ValueError, match="a cell is text"):
        world.cell(source)


def test_a_cell_that_fails_is_told_as_well(world, capsys):
    from mpviz import RanksError

    with pytest.raises(RanksError):
        cell(world, "rank = 7\n1 / 0")
    assert "the cell set rank to 7" in capsys.readouterr().out
    assert list(cell(world, "rank")) == [0, 1, 2, 3]


def test_output_that_a_cell_replaced_comes_back(world):
    told = cell(world, "import os, sys\nsys.stdout = open(os.devnull, 'w')\nprint('lost')").output
    assert set(told.values()) == {
        "the cell replaced sys.stdout or sys.stderr; they are as before again"
    }
    assert cell(world, "print('seen')").output == dict.fromkeys(range(4), "seen")


def test_output_can_be_redirected_for_a_block(world):
    source = """
        import contextlib, io
        with contextlib.redirect_stdout(io.StringIO()) as text:
            print("inside")
        print("outside")
        text.getvalue()
    """
    results = cell(world, source)
    assert list(results) == ["inside\n"] * 4
    assert results.output == dict.fromkeys(range(4), "outside")


def test_output_is_a_stream_as_libraries_expect_one(world):
    source = """
        import subprocess, sys
        sys.stdout.buffer.write("bytés\\n".encode())
        sys.stdout.buffer.flush()
        assert sys.stdout.encoding == "utf-8" and not sys.stdout.isatty()
        sys.stdout.close()
        print("still")
        subprocess.run(["echo", "from below"], stdout=sys.stdout, check=True)
    """
    assert cell(world, source).output == dict.fromkeys(range(4), "bytés\nstill\nfrom below")


def test_a_fork_in_a_cell_does_not_answer_for_its_rank(world):
    source = """
        import os
        child = os.fork()
        "parent" if child else "child"
    """
    assert list(cell(world, source)) == ["parent"] * 4
    assert list(cell(world, "'next'")) == ["next"] * 4
    assert list(cell(world, "os.waitpid(child, 0)[1]")) == [0] * 4


def test_a_fork_that_raises_does_not_answer_either(world):
    source = """
        child = os.fork()
        if not child: raise KeyError("in the child")
        "parent"
    """
    assert list(cell(world, source)) == ["parent"] * 4
    assert list(cell(world, "rank")) == [0, 1, 2, 3]


DESTROYED = "The process groups were destroyed (destroy_process_group). The ranks start anew"


@pytest.mark.parametrize(
    "source",
    [
        "dist.destroy_process_group()",
        "if rank == 1: dist.destroy_process_group()",
        "dist.destroy_process_group(groups['tp'])",
    ],
)
def test_after_the_groups_are_destroyed_ranks_start_anew(world, capsys, source):
    before = world.start().pids
    assert list(cell(world, source + "\nrank * 10")) == [0, 10, 20, 30]
    assert capsys.readouterr().out.startswith(DESTROYED)
    assert world.pids == []
    total = (
        "x = torch.ones(1); dist.all_reduce(x, group=groups['tp']); dist.all_reduce(x); x.item()"
    )
    assert list(cell(world, total)) == [8.0] * 4
    assert set(world.pids).isdisjoint(before)


def test_what_fails_for_want_of_groups_says_that_ranks_start_anew(world):
    from mpviz import RanksError

    with pytest.raises(RanksError, match="anew"):
        cell(world, "dist.destroy_process_group()\ndist.all_reduce(torch.ones(1))")
    assert list(cell(world, "rank")) == [0, 1, 2, 3]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a fork with its parent")
def test_a_fork_ends_with_its_rank():
    with World(ParallelLayout(nodes=1, gpus_per_node=2), timeout=20) as world:
        children = list(world.cell("import os, time\nos.fork() or time.sleep(100)"))
        forks = [psutil.Process(child) for child in children]
    _, alive = psutil.wait_procs(forks, timeout=5)
    assert alive == []
