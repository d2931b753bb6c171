"""``%%ranks`` in an IPython shell, as a notebook's kernel is one."""

import builtins

import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from mpviz import ParallelLayout
from mpviz.world import RanksError, Results, World
from mpviz.world.magic import rank_list

LAYOUT = ParallelLayout(nodes=1, gpus_per_node=4, tp=2, pp=2)


@pytest.fixture(scope="module")
def world():
    with World(LAYOUT, timeout=30) as world:
        yield world


@pytest.fixture
def shell(tmp_path, world):
    # Without history: it would be a database in the user's home.
    config = Config(HistoryManager={"enabled": False})
    shell = InteractiveShell(config=config, ipython_dir=str(tmp_path))
    shell.run_line_magic("load_ext", "mpviz")
    shell.user_ns["world"] = world
    return shell


def ran(shell, cell):
    """Run a cell; return its result, or raise what it raised."""
    finished = shell.run_cell(cell)
    finished.raise_error()
    return finished.result


def refused(shell, cell):
    """Run a cell that must fail; return its error."""
    finished = shell.run_cell(cell)
    assert not finished.success
    return finished.error_in_exec or finished.error_before_exec


def test_the_magic_comes_with_the_extension_and_only_then(shell, tmp_path):
    bare = InteractiveShell(ipython_dir=str(tmp_path))
    assert "ranks" not in bare.magics_manager.magics["cell"]
    magic = shell.magics_manager.magics["cell"]["ranks"]
    shell.run_line_magic("reload_ext", "mpviz")
    assert shell.magics_manager.magics["cell"]["ranks"] == magic
    for option in ("--only", "--timeout", "--record", "world"):
        assert option in magic.__doc__


def test_the_last_expression_is_the_result_on_the_grid(shell, capsys, monkeypatch):
    # Doctests of the same run leave a `_` behind, which IPython then would not touch.
    monkeypatch.delattr(builtins, "_", raising=False)
    results = ran(shell, "%%ranks\nx = 2\nrank ** x")
    assert isinstance(results, Results) and list(results) == [0, 1, 4, 9]
    assert capsys.readouterr().out == f"Out[0]: \n{results!r}\n"
    assert shell.user_ns["_"] is results


@pytest.mark.parametrize("last", ["rank;", "None", "x = rank", "print(end='')"])
def test_nothing_is_shown_where_there_is_nothing_to_show(shell, capsys, last):
    assert ran(shell, f"%%ranks\n{last}") is None
    assert capsys.readouterr().out == ""


def test_variables_live_on(shell):
    ran(shell, "%%ranks\nkept = 10 * rank")
    ran(shell, "%%ranks\ndef twice(): return 2 * kept")
    assert list(ran(shell, "%%ranks\ntwice()")) == [0, 20, 40, 60]
    assert "kept" not in shell.user_ns


def test_a_cell_begins_with_the_ranks_own_variables(shell):
    results = ran(shell, "%%ranks\nrank, world_size, tp_rank, cp_rank, dp_rank, pp_rank")
    assert list(results) == [
        (0, 4, 0, 0, 0, 0),
        (1, 4, 1, 0, 0, 0),
        (2, 4, 0, 0, 0, 1),
        (3, 4, 1, 0, 0, 1),
    ]
    assert list(ran(shell, "%%ranks\nlen(groups['tp'].name()) > 0")) == [True] * 4
    assert list(ran(shell, "%%ranks\nlayout.pp")) == [2] * 4


def test_prints_come_in_rank_order_whoever_was_first(shell, capsys):
    assert (
        ran(shell, "%%ranks\nimport time\ntime.sleep(0.1 * (3 - rank))\nprint('I am', rank)")
        is None
    )
    assert capsys.readouterr().out == "".join(f"rank {rank} │ I am {rank}\n" for rank in range(4))


def test_what_several_print_alike_is_shown_once_and_before_the_result(shell, capsys):
    ran(shell, "%%ranks\nprint('lower' if rank < 2 else 'upper')\nrank")
    printed, _, shown = capsys.readouterr().out.partition("Out[0]: \n")
    assert printed == "ranks 0 1 │ lower\nranks 2 3 │ upper\n"
    assert shown.startswith("What every rank returned")


@pytest.mark.parametrize(
    ("only", "ranks"),
    [("2", (2,)), ("0,3", (0, 3)), ("1-2", (1, 2)), ("3,0-1", (0, 1, 3)), ("'0, 2'", (0, 2))],
)
def test_only(shell, only, ranks):
    assert ran(shell, f"%%ranks --only {only}\nrank").ranks == ranks


@pytest.mark.parametrize("only", ["x", "1-", "-2", "1-2-3", "3-1", "1.5", "²-3", "0-x"])
def test_only_what_is_a_list_of_ranks(shell, only):
    error = refused(shell, f"%%ranks --only={only}\nrank")
    assert isinstance(error, UsageError)
    assert f"--only takes ranks such as 0,2 or 4-7, got {only!r}" in str(error)


def test_only_ranks_that_there_are(shell):
    assert "rank 4 is out of range: 0 … 3" in str(refused(shell, "%%ranks --only 2-4\nrank"))


def test_what_rank_lists_may_look_like():
    assert rank_list("7") == [7]
    assert rank_list("0,2,4-7") == [0, 2, 4, 5, 6, 7]
    assert rank_list("3-3 1") == [3, 1]
    assert rank_list("") == []


def test_timeout(shell, tmp_path):
    slow = World(LAYOUT, timeout=60)
    shell.user_ns["slow"] = slow
    try:
        slow.start()
        error = refused(shell, "%%ranks slow --timeout 0.5\nimport time\ntime.sleep(30)")
        assert isinstance(error, RanksError)
        assert str(error).startswith("Not done after 0.5 s.\n")
        assert "line 2: time.sleep(30)" in str(error)
    finally:
        slow.close()
    assert isinstance(refused(shell, "%%ranks --timeout soon\n1"), UsageError)
    assert isinstance(refused(shell, "%%ranks --timeout 0\n1"), ValueError)


def test_record(shell, world):
    ran(shell, "%%ranks\nimport torch.distributed as dist")
    ran(shell, "%%ranks --record\ndist.barrier(group=groups['tp'])")
    recorded = world.events
    assert sorted((event.rank, event.name, event.group) for event in recorded) == [
        (0, "barrier", (0, 1)),
        (1, "barrier", (0, 1)),
        (2, "barrier", (2, 3)),
        (3, "barrier", (2, 3)),
    ]
    ran(shell, "%%ranks\ndist.barrier()")
    assert world.events == recorded
    ran(shell, "%%ranks --record --only 1\npass")
    assert world.events == ()


def test_what_a_failed_run_recorded_is_kept(shell, world):
    ran(shell, "%%ranks\nimport torch.distributed as dist")
    refused(shell, "%%ranks --record\ndist.barrier()\n1 / 0")
    assert [event.name for event in world.events] == ["barrier"] * 4


def test_a_world_of_another_name(shell, world):
    shell.user_ns |= {"small": world, "world": None}
    assert list(ran(shell, "%%ranks small\nrank")) == [0, 1, 2, 3]
    assert ran(shell, "%%ranks --only 1 small\nrank").ranks == (1,)


@pytest.mark.parametrize("value", ["missing", 5, None, LAYOUT])
def test_without_a_world_it_says_how_to_make_one(shell, value):
    if value == "missing":
        del shell.user_ns["world"]
    else:
        shell.user_ns["world"] = value
    error = refused(shell, "%%ranks\nrank")
    assert isinstance(error, UsageError)
    assert "%%ranks needs a World in the variable 'world'; say world = World(layout)" in str(error)


@pytest.mark.parametrize("line", ["--onyl 2", "world another", "--only"])
def test_an_option_that_there_is_not(shell, line):
    assert isinstance(refused(shell, f"%%ranks {line}\nrank"), UsageError)


def test_a_syntax_error_is_the_readers_line_and_reaches_no_rank(shell):
    ran(shell, "%%ranks\nreached = 0")
    error = refused(shell, "%%ranks\nreached = 1\nfor")
    assert isinstance(error, SyntaxError)
    assert (error.lineno, error.text.strip()) == (2, "for")
    assert list(ran(shell, "%%ranks\nreached")) == [0] * 4


def test_an_error_names_ranks_and_line_and_the_variables_stay(shell, capsys, world):
    pids = world.pids
    cell = "%%ranks\nprint('before', rank)\nlet = 5\nassert rank != 2, 'not two'"
    error = refused(shell, cell)
    assert isinstance(error, RanksError)
    says = (
        "1 of 4 ranks raised AssertionError: not two\n  rank 2, line 3: assert rank != 2, 'not two'"
    )
    assert str(error) == says
    shown = capsys.readouterr().out
    assert shown.startswith("".join(f"rank {rank} │ before {rank}\n" for rank in range(4)))
    # No frames of ours above the message.
    assert shown.rstrip().endswith(f"RanksError: {says}") and "Traceback" not in shown
    assert list(ran(shell, "%%ranks\nlet")) == [5] * 4 and world.pids == pids


def test_an_empty_cell(shell, capsys):
    assert ran(shell, "%%ranks\n\n") is None
    assert ran(shell, "%%ranks\n# nothing") is None
    assert capsys.readouterr().out == ""
