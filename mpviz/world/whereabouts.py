"""Where a rank is, read from its stack: the learner's line, and what it waits for."""

import linecache
import site
import sysconfig
import traceback
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import Any

import torch.distributed as dist

from .protocol import Failure, Place

_C10D = "distributed_c10d.py"
_PACKAGE = str(Path(__file__).parents[1])
_LIBRARIES = tuple(
    {
        *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
        *site.getsitepackages(),
        _PACKAGE,
        "<frozen",
        "<string>",
    }
)


@lru_cache(maxsize=512)
def _is_learners(file: str) -> bool:
    """Whether a file is neither Python's, nor a package's, nor ours."""
    return not file.startswith(_LIBRARIES)


def place_of(frame: FrameType | None, names: Mapping[int, str]) -> Place:
    """Return where the stack under ``frame`` stands.

    Parameters
    ----------
    frame : frame
        The innermost.
    names : mapping
        What the process groups are called, by ``id``.
    """
    waits_in, details = "", {}
    for inner in _outwards(frame):
        code = inner.f_code
        if code.co_filename.endswith(_C10D) and not code.co_name.startswith("_"):
            # The outermost one is the function that the learner called.
            waits_in, details = code.co_name, _awaited(inner, names)
        if _is_learners(code.co_filename):
            text = linecache.getline(code.co_filename, inner.f_lineno).strip()
            return Place(code.co_filename, inner.f_lineno, text, waits_in, **details)
    return Place(waits_in=waits_in, **details)


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _awaited(frame: FrameType, names: Mapping[int, str]) -> dict[str, Any]:
    """Return whom a function of torch.distributed waits for, from its arguments."""
    given = frame.f_locals
    if frame.f_code.co_name == "new_group":
        ranks = given.get("ranks")
        return {"group": tuple(ranks or range(dist.get_world_size())), "group_name": "new_group"}
    group = given.get("group")
    if not isinstance(group, dist.ProcessGroup):
        group = dist.group.WORLD
    if group is None:
        return {}
    peer = next((given[name] for name in ("dst", "src") if given.get(name) is not None), None)
    members = tuple(dist.get_process_group_ranks(group))
    return {
        "group": members,
        "group_name": names.get(id(group), ""),
        "peer": peer if isinstance(peer, int) else None,
    }


def failure_of(error: BaseException, names: Mapping[int, str]) -> Failure:
    """Return what a rank raised, without the frames that are not the learner's."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    learners = [frame for frame in frames if _is_learners(frame.f_code.co_filename)]
    lines = dict(traceback.walk_tb(error.__traceback__))
    place = Place()
    if learners:
        frame = learners[-1]
        file, line = frame.f_code.co_filename, lines[frame]
        place = Place(file, line, linecache.getline(file, line).strip())
    elif isinstance(error, SyntaxError):
        place = Place(error.filename or "", error.lineno or 0, (error.text or "").strip())
    summary = traceback.StackSummary.from_list(
        [entry for entry in traceback.extract_tb(error.__traceback__) if _is_learners(entry[0])]
    )
    trace = "".join([*summary.format(), *traceback.format_exception_only(error)])
    return Failure(type(error).__name__, _message(error), place, trace)


def _message(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"the rank called exit({'' if error.code is None else error.code!r})"
    if isinstance(error, EOFError) and "reading a line" in str(error):
        return "a rank has no keyboard to read from; give it its input as an argument"
    return str(error).partition("\nException raised from")[0].strip()
