"""One rank: a process that waits for jobs, does them, and can say at any time where it is."""

import ast
import faulthandler
import inspect
import linecache
import os
import pickle
import random
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import torch
import torch.distributed as dist

from ..layout import ParallelLayout
from ..names import GROUP_KINDS
from ..timeline import Event
from .output import Capture
from .protocol import Job, Outcome, Place, cell_name
from .record import recording
from .whereabouts import failure_of, place_of

OWN_NAMES = (
    *("rank", "world_size", "tp_rank", "cp_rank", "dp_rank", "pp_rank"),
    *("groups", "layout"),
)
"""The variables every rank begins with."""

_LONGEST_TEXT = 4_000


class GroupsOfRank(Mapping[str, dist.ProcessGroup]):
    """The process groups this rank is in, by kind: ``groups["tp"]``."""

    def __init__(self, rank: int, groups: dict[str, dist.ProcessGroup]) -> None:
        self._rank = rank
        self._groups = groups

    def __getitem__(self, kind: str) -> dist.ProcessGroup:
        if kind in self._groups:
            return self._groups[kind]
        raise ValueError(
            f"rank {self._rank} is in no {kind!r} group; it is in {', '.join(self._groups)}"
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._groups)

    def __len__(self) -> int:
        return len(self._groups)

    def __contains__(self, kind: object) -> bool:
        return kind in self._groups

    def __repr__(self) -> str:
        ranks = {kind: dist.get_process_group_ranks(group) for kind, group in self.items()}
        return "\n".join(f"{kind:19} {' '.join(map(str, who))}" for kind, who in ranks.items())


def main(
    rank: int,
    layout: ParallelLayout,
    folder: str,
    jobs: Connection,
    control: Connection,
    *,
    deadline: float,
    threads: int,
) -> None:
    """Join the world as one rank and serve it for as long as it lives."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the world decides what an interrupt means
    capture = Capture(Path(folder) / f"rank-{rank}.log")
    names: dict[int, str] = {}
    _stay_answerable(control, names, Path(folder) / f"rank-{rank}.stack")
    try:
        namespace = _join(rank, layout, folder, names, deadline, threads)
    except BaseException as error:
        jobs.send(Outcome(failure=failure_of(error, names), output=capture.taken()))
        return
    jobs.send(Outcome())
    while True:
        try:
            job = pickle.loads(jobs.recv_bytes())
        except (EOFError, OSError):
            os._exit(0)  # the owner is dead
        jobs.send_bytes(pickle.dumps(_done(job, namespace, capture, names)))


def _stay_answerable(control: Connection, names: Mapping[int, str], stack: Path) -> None:
    """Answer "where are you?" from a thread; end with the world, whatever the rank is doing."""
    working = threading.main_thread().ident or 0

    def serve() -> None:
        while True:
            try:
                control.recv()
                place = Place()
                with suppress(Exception):  # whatever the learner's code did to torch or itself
                    place = place_of(sys._current_frames()[working], names)
                control.send(place)
            except (EOFError, OSError):
                os._exit(0)

    threading.Thread(target=serve, daemon=True).start()
    # A loop in C that never lets another thread run still obeys a signal.
    faulthandler.register(signal.SIGUSR1, file=stack.open("w"), all_threads=False)


def _join(
    rank: int,
    layout: ParallelLayout,
    folder: str,
    names: dict[int, str],
    deadline: float,
    threads: int,
) -> dict[str, Any]:
    """Make every process group of the layout; return the variables a cell begins with."""
    torch.set_num_threads(threads)
    # Whatever the hostname resolves to, ranks of one machine meet on loopback.
    os.environ["GLOO_SOCKET_IFNAME"] = "lo0" if sys.platform == "darwin" else "lo"
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/rendezvous",
        rank=rank,
        world_size=layout.world_size,
        # The world's own deadline comes first: it explains what gloo would only report.
        timeout=timedelta(seconds=deadline + 600),
    )
    # Forks of one process would all draw the same. (torch.manual_seed also prepares for CUDA.)
    for seed in (torch.default_generator.manual_seed, random.seed, np.random.seed):
        seed(rank)
    groups = _groups_of(rank, layout)
    if dist.group.WORLD is not None:
        names[id(dist.group.WORLD)] = "world"
    for kind, group in groups.items():
        names.setdefault(id(group), kind)
    at = layout.coordinates(rank)
    return {
        "__name__": "__main__",
        "rank": rank,
        "world_size": layout.world_size,
        **{f"{axis}_rank": at[axis] for axis in ("tp", "cp", "dp", "pp")},
        "groups": GroupsOfRank(rank, groups),
        "layout": layout,
    }


def _groups_of(rank: int, layout: ParallelLayout) -> dict[str, dist.ProcessGroup]:
    """Create this rank's group of every kind; kinds with the same members share one."""
    made: dict[tuple[int, ...], dist.ProcessGroup] = {}
    groups = {}
    for kind in GROUP_KINDS:
        try:
            members = layout.groups(kind).of(rank)
        except ValueError:
            continue  # a middle stage has no embeddings; a dense order may have no expert grid
        if members not in made:
            # Only members synchronise, so a world of many groups still starts at once.
            made[members] = dist.new_group(
                list(members), use_local_synchronization=True, group_desc=kind
            )
        groups[kind] = made[members]
    return groups


# ---- doing a job


def _done(
    job: Job, namespace: dict[str, Any], capture: Capture, names: Mapping[int, str]
) -> Outcome:
    """Do a job and tell how it ended, whatever it did."""
    value, failure, text, packed = None, None, "", b""
    events: list[Event] = []
    with ExitStack() as stack:
        if job.record_from is not None:
            events = stack.enter_context(recording(namespace["rank"], job.record_from))
        try:
            value = _run_cell(job.source, namespace) if job.source else _call(job.call, namespace)
        except BaseException as error:
            failure = failure_of(error, names)
    if failure is None and value is not None:
        try:
            text, packed = _shown(value), _packed(value)
        except BaseException as error:
            failure = failure_of(error, names)
    return Outcome(text, packed, capture.taken(), failure, tuple(events))


def _run_cell(source: str, namespace: dict[str, Any]) -> Any:
    """Run a cell among the rank's variables; return the value of its last expression."""
    name = cell_name(source)
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    tree = ast.parse(source, name)
    last = tree.body[-1] if tree.body else None
    if not isinstance(last, ast.Expr) or source.rstrip().endswith(";"):
        exec(compile(tree, name, "exec"), namespace)
        return None
    exec(compile(ast.Module(tree.body[:-1], []), name, "exec"), namespace)
    return eval(compile(ast.Expression(last.value), name, "eval"), namespace)


def _call(call: bytes, namespace: Mapping[str, Any]) -> Any:
    """Call a function; parameters named as the rank's variables are filled in."""
    function, given = pickle.loads(call)
    own = {name: namespace[name] for name in OWN_NAMES}
    args, kwargs = _bound(function, list(given), own)
    return function(*args, **kwargs)


def _bound(
    function: Callable[..., Any], given: list[Any], own: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """Deal what was given to the parameters that do not bear a name of the rank's own."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return given, {}
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    in_line = True
    for parameter in parameters:
        if parameter.kind in (parameter.KEYWORD_ONLY, parameter.VAR_KEYWORD):
            in_line = False
        if parameter.name in own and not in_line:
            kwargs[parameter.name] = own[parameter.name]
        elif parameter.name in own:
            args.append(own[parameter.name])
        elif in_line and given and parameter.kind is not parameter.VAR_POSITIONAL:
            args.append(given.pop(0))
        elif parameter.kind is not parameter.VAR_POSITIONAL:
            in_line = False  # a default is used; whatever follows goes by name
    return [*args, *given], kwargs


def _shown(value: Any) -> str:
    """Return a result as text: as Python shows it, but text itself without quotes."""
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1] + "…"


def _packed(value: Any) -> bytes:
    try:
        packed: bytes = cloudpickle.dumps(value)
    except Exception as error:
        raise TypeError(
            f"the result, a {type(value).__name__}, cannot be sent back ({error}); "
            f"return numbers, text, arrays or tensors"
        ) from None
    return packed
