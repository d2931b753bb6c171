"""What a world has run, as a script for torchrun: the cells in order, and no World."""

import ast
import pickle
import re
import shlex
import symtable
from collections.abc import Iterable
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

from .._checks import listed
from ..layout import ParallelLayout
from .binding import OWN_NAMES
from .protocol import Job
from .source import CallSource, NoSourceError, source_of_call

_LARGEST_CALL = 1 << 20
"""Bytes of a function with its arguments that are kept; more is data, and no text for a script."""

_HEADER = '''\
"""What a notebook did on its ranks. Start it with

    torchrun --nnodes {layout.nodes} --nproc-per-node {layout.gpus_per_node} {name}

`mpviz.parallel.init` says what several nodes need; {batch} is for Slurm.
"""

import random

import numpy
import torch

from mpviz import ParallelLayout, parallel, schedule

layout = {layout!r}
{state} = parallel.init(layout)
rank, world_size, groups = {state}.rank, {state}.world_size, {state}.groups
tp_rank, cp_rank = {state}.tp_rank, {state}.cp_rank
dp_rank, pp_rank = {state}.dp_rank, {state}.pp_rank
torch.set_num_threads({threads})


def {show}(value):
    """Print on rank 0 what each rank has, the same from several ranks once."""
    import torch.distributed as dist

    texts = [""] * dist.get_world_size()
    dist.all_gather_object(texts, value if isinstance(value, str) else repr(value))
    for text in dict.fromkeys(texts) if dist.get_rank() == 0 else ():
        who = " ".join(str(rank) for rank, other in enumerate(texts) if other == text)
        line = ("ranks " if " " in who else "rank ") + who + " │ " + text + "\\n"
        print(line, end="", flush=True)  # in one piece: other ranks print too

'''

_SEEDS = """
# The ranks start, and begin with random numbers of their own.{again}
for seed in (torch.manual_seed, random.seed, numpy.random.seed):
    seed(rank)
"""

_END = "\n\ntorch.distributed.barrier()\ntorch.distributed.destroy_process_group()\n"

_BATCH = """\
#!/bin/bash
#SBATCH --nodes={layout.nodes}
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task={layout.gpus_per_node}
##SBATCH --gpus-per-node={layout.gpus_per_node}

# torchrun runs once on each node; all meet at the first.
export FIRST=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
# export GLOO_SOCKET_IFNAME=eth0  # the interface that reaches the other nodes

srun bash -c 'torchrun --nnodes {layout.nodes} --nproc-per-node {layout.gpus_per_node} \\
    --rdzv-backend c10d --rdzv-id "$SLURM_JOB_ID" --rdzv-endpoint "$FIRST:29500" \\
    --rdzv-conf "is_host=$((SLURM_NODEID == 0))" "$0"' {name}
"""


@dataclass
class PastRun:
    """A cell or a call that ranks have run.

    Attributes
    ----------
    source : str
        Of a cell; empty for a call.
    call : bytes
        A function with its arguments, pickled; empty if that is more than 1 MB.
    ranks : tuple of int
        Who ran it.
    start : int
        Which start of the ranks these were: others have other variables.
    well : bool
        Whether it went well.
    shown : bool
        Whether a rank returned anything.
    """

    source: str
    call: bytes
    ranks: tuple[int, ...]
    start: int
    well: bool = False
    shown: bool = False

    @property
    def title(self) -> str:
        """Its first line of code, or the name of its function."""
        if self.source:
            lines = (line.strip() for line in self.source.splitlines())
            first = next((line for line in lines if line and not line.startswith("#")), "")
            return f"the cell {first[:60]!r}"
        if not self.call:
            return "world.run"
        function, _ = pickle.loads(self.call)
        return f"world.run({getattr(function, '__name__', function)})"


@dataclass
class History:
    """What a world has run, in order, and how often its ranks have started."""

    runs: list[PastRun] = field(default_factory=list)
    starts: int = 0

    def begun(self, job: Job, ranks: Iterable[int]) -> None:
        """Note a run."""
        call = job.call if len(job.call) <= _LARGEST_CALL else b""
        self.runs.append(PastRun(job.source, call, tuple(ranks), self.starts))

    def went_well(self, *, shown: bool) -> None:
        """Note how the last run ended."""
        self.runs[-1].well, self.runs[-1].shown = True, shown


def write_script(
    history: History,
    layout: ParallelLayout,
    path: str | PathLike[str],
    *,
    threads: int,
    without: Iterable[int] = (),
    overwrite: bool = False,
) -> Path:
    """Write a script and Slurm's file beside it; see `World.script`."""
    path = Path(path)
    batch = path.with_suffix(".sbatch")
    there = [str(file) for file in (path, batch) if file.exists()]
    if there and not overwrite:
        raise FileExistsError(
            f"{listed(there, ' and ')}: there already; overwrite=True replaces it"
        )
    writer = _Writer(_chosen(history.runs, without), layout.world_size)
    fill = {"layout": layout, "threads": threads, "state": writer.state, "show": writer.show}
    header = _HEADER.format(name=path.name, batch=batch.name, **fill)
    path.write_text(header + writer.body() + _END)
    batch.write_text(_BATCH.format(layout=layout, name=shlex.quote(path.name)))
    return path


def _chosen(runs: list[PastRun], without: Iterable[int]) -> dict[int, PastRun]:
    """Return the runs that were not left out, by number from 1."""
    left_out, numbered = set(without), dict(enumerate(runs, 1))
    if unknown := left_out - set(numbered):
        got = listed(sorted(unknown, key=str))
        raise ValueError(f"without= takes numbers of runs, 1 to {len(runs)}, got {got}")
    return {number: run for number, run in numbered.items() if number not in left_out}


class _Writer:
    """Writes runs in order; ValueError names those of which there can be no text.

    Attributes
    ----------
    state, show : str
        Names of the script's own that no run uses.
    """

    def __init__(self, runs: dict[int, PastRun], world_size: int) -> None:
        self._runs = runs
        self._sources: dict[int, str | CallSource] = {}
        refused = []
        for number, run in runs.items():
            try:
                self._sources[number] = _source(run, world_size)
            except NoSourceError as why:
                refused.append((number, f"run {number}, {run.title}: {why}"))
        if refused:
            numbers, reasons = zip(*refused, strict=True)
            raise ValueError(
                f"{'; '.join(reasons)}. A script has what all ranks did and what went well; "
                f"without={list(numbers)} leaves out what these did"
            )
        texts = [run.source for run in runs.values()]
        self._of_cells = set().union(OWN_NAMES, *map(_bound_names, texts))
        self._words = set(re.findall(r"\w+", f"{texts} {self._sources}"))
        self._defined: dict[str, str] = {}
        self.state, self.show = self._unused("state"), self._unused("show")

    def body(self) -> str:
        """Return the runs as the lines of a script."""
        parts, start = [], None
        for number, run in self._runs.items():
            if run.start != start:
                again = " Those before are gone." if start is not None else ""
                parts.append(_SEEDS.format(again=again))
                start = run.start
            source = self._sources[number]
            text = self._cell(source, run) if isinstance(source, str) else self._call(number, run)
            parts.append(f"\n# ---- run {number}\n\n{text}\n")
        return "".join(parts)

    def _cell(self, source: str, run: PastRun) -> str:
        text = _shown(source, self.show) if run.shown else source
        lost = sorted(_bound_names(source) & set(OWN_NAMES))
        again = (f"{name} = {self.state}.{name}  # the rank's own again" for name in lost)
        return "\n".join([text, *again])

    def _call(self, number: int, run: PastRun) -> str:
        source = self._sources[number]
        assert isinstance(source, CallSource)
        if not source.taken and self._is_free(source):
            text, call = self._definition(source), source.call
        else:
            name = self._unused(f"run_{number}")
            inner = f"{source.taken}{source.definition}\n\nreturn {source.call}"
            text, call = f"def {name}():\n{_indented(inner)}\n\n\n", f"{name}()"
        return text + (f"{self.show}({call})" if run.shown else call)

    def _is_free(self, source: CallSource) -> bool:
        """Whether the name of a function means nothing else in the script."""
        before = self._defined.get(source.name, source.definition)
        return source.name not in self._of_cells and before == source.definition

    def _definition(self, source: CallSource) -> str:
        """Return the text of a function the first time."""
        if source.name in self._defined:
            return ""
        self._defined[source.name] = source.definition
        return f"{source.definition}\n\n\n"

    def _unused(self, name: str) -> str:
        while name in self._words:
            name += "_"
        return name


def _source(run: PastRun, world_size: int) -> str | CallSource:
    """Return the text of a run; NoSourceError where there can be none."""
    if not run.well:
        raise NoSourceError("it failed")
    if len(run.ranks) < world_size:
        raise NoSourceError(f"it ran on {listed(run.ranks)} alone")
    if run.source:
        if "from __future__" in run.source:
            raise NoSourceError("an import from __future__ stands only at the top of a file")
        return run.source.strip("\n")
    if not run.call:
        raise NoSourceError(f"its arguments are more than {_LARGEST_CALL:,} bytes")
    source = source_of_call(*pickle.loads(run.call))
    both = _bound_names(source.taken) & set(OWN_NAMES) & set(re.findall(r"\w+", source.call))
    if both:
        raise NoSourceError(
            f"{listed(sorted(both), ' and ')} of the notebook and of the rank have one name"
        )
    return source


def _bound_names(source: str) -> set[str]:
    r"""Return the names that a cell gives to something, from inside functions too.

    >>> sorted(_bound_names("import os.path\nx = [y for y in a]\ndef f(z):\n    global t; t = 1"))
    ['f', 'os', 't', 'x']
    """
    names: set[str] = set()
    tables = [symtable.symtable(source, "a cell", "exec")]
    while tables:
        table = tables.pop()
        tables += table.get_children()
        top = table.get_type() == "module"
        names |= {
            symbol.get_name()
            for symbol in table.get_symbols()
            if (symbol.is_assigned() or symbol.is_imported())
            and (top or symbol.is_declared_global())
        }
    return names


def _shown(source: str, show: str) -> str:
    r"""Return a cell that passes its last expression to a function.

    >>> _shown("a = 1\na, 2  # both", "show")
    'a = 1\nshow((a, 2))  # both'
    """
    last = ast.parse(source).body[-1]
    assert isinstance(last, ast.Expr) and last.end_lineno is not None
    lines = source.split("\n")
    first, end = lines[last.lineno - 1].encode(), lines[last.end_lineno - 1].encode()
    text = ast.get_source_segment(source, last)
    if isinstance(last.value, ast.Tuple):
        text = f"({text})"
    before = "\n".join([*lines[: last.lineno - 1], first[: last.col_offset].decode()])
    after = "\n".join([end[last.end_col_offset :].decode(), *lines[last.end_lineno :]])
    return f"{before}{show}({text}){after}"


def _indented(text: str) -> str:
    """Indent code, and leave the text in it as it is."""
    inside: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant | ast.JoinedStr) and node.end_lineno:
            inside |= set(range(node.lineno + 1, node.end_lineno + 1))  # of a text
    return "\n".join(
        line if number in inside or not line else f"    {line}"
        for number, line in enumerate(text.split("\n"), 1)
    )
