"""``%%ranks`` in an IPython shell, as a notebook's kernel is one."""

import builtins

import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from mpviz import ParallelLayout
from mpviz.world import RanksError, Results, World
from mpviz.world.magic import CellSyntaxError, rank_list

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
        assert "line 3: time.sleep(30)" in str(error)
    finally:
        slow.close()


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


def test_a_syntax_error_is_the_readers_line_and_reaches_no_rank(shell):
    ran(shell, "%%ranks\nreached = 0")
    error = refused(shell, "%%ranks\nreached = 1\nfor")
    assert isinstance(error, CellSyntaxError)
    assert (error.error.lineno, error.error.text.strip()) == (3, "for")
    assert list(ran(shell, "%%ranks\nreached")) == [0] * 4


def test_an_error_names_ranks_and_line_and_the_variables_stay(shell, capsys, world):
    pids = world.pids
    cell = "%%ranks\nprint('before', rank)\nlet = 5\nassert rank != 2, 'not two'"
    error = refused(shell, cell)
    assert isinstance(error, RanksError)
    says = (
        "1 of 4 ranks raised AssertionError: not two\n  rank 2, line 4: assert rank != 2, 'not two'"
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


# ---- what is refused is one line


def shown(shell, capsys, cell):
    """What the reader of a cell that fails sees."""
    capsys.readouterr()
    refused(shell, cell)
    said = capsys.readouterr()
    return said.out + said.err


REFUSED = {
    "no such rank": ("--only 9", "rank 9 is out of range: 0 … 3"),
    "no list of ranks": ("--only x", "--only takes ranks such as 0,2 or 4-7, got 'x'"),
    "an open quotation": ("--only '0", "No closing quotation"),
    "a timeout below 0": ("--timeout -3", "timeout must be a number of seconds above 0, got -3.0"),
    "a timeout of 0": ("--timeout 0", "timeout must be a number of seconds above 0, got 0.0"),
    "a timeout that never ends": ("--timeout inf", "timeout must be a number of seconds above 0"),
    "no number": ("--timeout x", "argument --timeout: invalid float value: 'x'"),
    "an unknown flag": ("--onyl 2", "unrecognized arguments: --onyl"),
    "two names": ("world another", "unrecognized arguments: another"),
    "a flag without its value": ("--only", "argument --only: expected one argument"),
    "no World": ("LAYOUT", "%%ranks needs a World in the variable 'LAYOUT'"),
}


@pytest.mark.parametrize(("line", "says"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_is_one_line(shell, capsys, line, says):
    shell.user_ns["LAYOUT"] = LAYOUT
    text = shown(shell, capsys, f"%%ranks {line}\nrank")
    assert text.startswith(f"UsageError: {says}")
    assert text.count("\n") == 1


SYNTAX = {
    "a word too few": ("x = 1\nfor", 3, "    for\n       ^\n"),
    "in the first line": ("for", 2, "    for\n       ^\n"),
    "found late": ("x = 1\nreturn x", 3, "    return x\n    ^^^^^^^^\n"),
    "indented": ("if rank:\nx = 1", 3, "    x = 1\n    ^\n"),
    "a bracket": ("x = 1\ny = (x,\nz = 2\n", 3, "    y = (x,\n        ^\n"),
}


@pytest.mark.parametrize(("cell", "line", "mark"), SYNTAX.values(), ids=SYNTAX)
def test_a_syntax_error_shows_the_line_and_where(shell, capsys, cell, line, mark):
    text = shown(shell, capsys, f"%%ranks\n{cell}")
    head, *_, last = text.rstrip().split("\n")
    assert head == f"  Line {line} of the cell"
    assert last.startswith(("SyntaxError: ", "IndentationError: "))
    assert mark in text
    assert "mpviz" not in text and "ranks cell" not in text and "Traceback" not in text


# ---- the lines are those the reader counts


def test_the_line_of_the_magic_is_the_first(shell):
    assert list(ran(shell, "%%ranks\nimport sys; sys._getframe().f_lineno")) == [2] * 4
    error = refused(shell, "%%ranks\n\nlet = 5\n1 / 0")
    assert "ranks 0 1 2 3, line 4: 1 / 0" in str(error)
    error = refused(shell, "%%ranks --timeout 0.5\n\nimport time; time.sleep(30)")
    assert "line 3: import time; time.sleep(30)" in str(error)


def test_a_cell_given_as_text_counts_its_own_lines(world):
    with pytest.raises(RanksError, match="line 2: 1 / 0"):
        world.cell("let = 5\n1 / 0")
    with pytest.raises(SyntaxError) as caught:
        world.cell("let = 5\nfor")
    assert caught.value.lineno == 2


def test_a_function_of_an_earlier_cell_shows_its_own_line(shell):
    ran(shell, "%%ranks\ndef fails(rank):\n    assert rank < 0, 'of the first cell'")
    error = refused(shell, "%%ranks\nx = 'the second cell'\ny = 'the second cell'\nfails(rank)")
    assert "line 3: assert rank < 0, 'of the first cell'" in str(error)


def test_the_source_of_what_a_cell_defines_can_be_read(shell):
    ran(shell, "%%ranks\nfrom __future__ import annotations\ndef f(x: no_type):\n    return x")
    ran(shell, "%%ranks\nother = 'cell'")
    source = ran(shell, "%%ranks\nimport inspect\ninspect.getsource(f)")
    assert list(source) == ["def f(x: no_type):\n    return x\n"] * 4
