"""Where a rank is, read from its stack: the learner's line, and what it waits for."""

import linecache
import site
import sysconfig
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import Any

from .protocol import Failure, Place

_C10D = "distributed_c10d.py"
_AGREEMENT = str(Path(__file__).parents[1] / "parallel" / "agreement.py")
_RECORDER = str(Path(__file__).with_name("record.py"))
_MESSAGES = ("send", "isend", "recv", "irecv", "send_object_list", "recv_object_list")
_LONGEST_LINE = 200
_PACKAGE = str(Path(__file__).parents[1])
_LIBRARIES = tuple(
    {
        *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
        *site.getsitepackages(),
        site.getusersitepackages(),
        _PACKAGE,
        "<frozen",
        "<string>",
    }
)


@lru_cache(maxsize=512)
def is_learners(file: str) -> bool:
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
    in_python = False
    for inner in _outwards(frame):
        code = inner.f_code
        if _communicates(code.co_filename, code.co_name):
            # The outermost one is the function that the learner called.
            waits_in, details = code.co_name, _awaited(inner, names)
        if is_learners(code.co_filename):
            place = _line_of(code.co_filename, inner.f_lineno)
            if not in_python and ".wait(" in place.code:
                waits_in = "work.wait"  # of a pending operation: in C, so not on the stack
            return replace(place, waits_in=waits_in, **details)
        in_python |= code.co_filename != _RECORDER
    return Place(waits_in=waits_in, **details)


def _communicates(file: str, function: str) -> bool:
    """Whether a function waits for other ranks, and has their group among its variables."""
    if file == _AGREEMENT:
        return function == "agree"
    return file.endswith(_C10D) and not function.startswith("_")


def _line_of(file: str, line: int) -> Place:
    return Place(file, line, linecache.getline(file, line).strip()[:_LONGEST_LINE])


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _awaited(frame: FrameType, names: Mapping[int, str]) -> dict[str, Any]:
    """Return whom a function of torch.distributed waits for, from its arguments."""
    import torch.distributed as dist  # the notebook's process never needs it

    given = frame.f_locals
    if frame.f_code.co_name == "new_group":
        ranks = given.get("ranks")
        return {"group": tuple(ranks or range(dist.get_world_size())), "group_name": "new_group"}
    group = given.get("group")
    if not isinstance(group, dist.ProcessGroup):
        group = dist.group.WORLD
    if group is None:
        return {}
    ends = ("dst", "src") if frame.f_code.co_name in _MESSAGES else ()
    peer = next((given[name] for name in ends if given.get(name) is not None), None)
    members = tuple(dist.get_process_group_ranks(group))
    return {
        "group": members,
        "group_name": names.get(id(group), ""),
        "peer": peer if isinstance(peer, int) else None,
    }


def failure_of(error: BaseException, names: Mapping[int, str]) -> Failure:
    """Return what a rank raised, without the frames that are not the learner's."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    learners = [frame for frame in frames if is_learners(frame.f_code.co_filename)]
    lines = dict(traceback.walk_tb(error.__traceback__))
    place = Place()
    if learners:
        frame = learners[-1]
        file, line = frame.f_code.co_filename, lines[frame]
        place = _line_of(file, line)
    elif isinstance(error, SyntaxError):
        place = Place(error.filename or "", error.lineno or 0, (error.text or "").strip())
    summary = traceback.StackSummary.from_list(
        [entry for entry in traceback.extract_tb(error.__traceback__) if is_learners(entry[0])]
    )
    trace = "".join([*summary.format(), *traceback.format_exception_only(error)])
    return Failure(type(error).__name__, _message(error), place, trace, _disconnects(error))


def _disconnects(error: BaseException | None) -> bool:
    """Whether an error comes from gloo, or from what was done about one that does."""
    if error is None:
        return False
    text = _text(error) if isinstance(error, RuntimeError) else ""
    return (
        "gloo" in text or "timed out" in text or _disconnects(error.__cause__ or error.__context__)
    )


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "(its message cannot be shown)"


def _message(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"the rank called exit({'' if error.code is None else error.code!r})"
    if isinstance(error, EOFError) and "reading a line" in _text(error):
        return "a rank has no keyboard to read from; give it its input as an argument"
    return _text(error).partition("\nException raised from")[0].strip()
