"""Where a rank is, read from its stack: the learner's line, and what it waits for."""

import dis
import linecache
import site
import sysconfig
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import Any

from ..waits import awaited_in
from .excerpt import excerpt
from .protocol import Failure, Place

_C10D = "distributed_c10d.py"
_MESSAGES = ("send", "isend", "recv", "irecv", "send_object_list", "recv_object_list")
LONGEST_CODE = 200
"""Characters of a learner's line that are kept."""
_LONGEST_NAME = 200
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
    # Of a pending operation: wait is in C, so it is not on the stack.
    waits_in = "work.wait" if frame is not None and _is_in_wait(frame) else ""
    details: dict[str, Any] = {}
    for inner in _outwards(frame):
        # The outermost one is the function that the learner called.
        waits_in, details = _wait_of(inner, names) or (waits_in, details)
        if is_learners(inner.f_code.co_filename):
            place = _line_of(inner.f_code.co_filename, inner.f_lineno)
            break
    else:
        place = Place()
    ran, used = _seconds()
    return replace(place, waits_in=waits_in, ran=ran, used=used, **details)


def _is_in_wait(frame: FrameType) -> bool:
    """Whether the innermost frame is inside a function in C that it calls by the name ``wait``."""
    if "wait" not in frame.f_code.co_names:  # which spares reading long cells
        return False
    code = list(dis.get_instructions(frame.f_code))
    called = next((step for step in code if step.offset == frame.f_lasti), None)
    if called is None or "CALL" not in called.opname:
        return False
    begins = _beginning(called)
    return any(
        step.argval == "wait" and step.opname.startswith("LOAD") and _beginning(step) == begins
        for step in code[: code.index(called)]
    )


def _beginning(step: dis.Instruction) -> tuple[int | None, ...]:
    at = step.positions
    return (None, None) if at is None else (at.lineno, at.col_offset)


def _wait_of(frame: FrameType, names: Mapping[int, str]) -> tuple[str, dict[str, Any]] | None:
    """Return what a frame waits in, and for whom; None if it does not wait."""
    awaited = awaited_in(frame)
    if awaited is not None:
        details = _members(awaited.group, names)
        return awaited.call, {**details, "peer": awaited.peer, "message": awaited.what}
    name = frame.f_code.co_name
    if frame.f_code.co_filename.endswith(_C10D) and not name.startswith("_"):
        return name, _awaited(frame, names)
    return None


def _members(group: Any, names: Mapping[int, str]) -> dict[str, Any]:
    """Return the ranks of a group, and what it is called."""
    import torch.distributed as dist  # the notebook's process never needs it

    if not isinstance(group, dist.ProcessGroup):
        return {}
    ranks = tuple(dist.get_process_group_ranks(group))
    return {"group": ranks, "group_name": names.get(id(group), "")}


def _seconds() -> tuple[float, float]:
    """Return what the thread that works has used of the CPU, and the process without this thread.

    A thread that stays in one wait uses nothing at all; data on its way to it does, in the threads
    of gloo.
    """
    used = time.process_time() - time.thread_time()
    if not hasattr(time, "pthread_getcpuclockid"):  # macOS
        return 0.0, used
    clock = time.pthread_getcpuclockid(threading.main_thread().ident or 0)
    return time.clock_gettime(clock), used


def _line_of(file: str, line: int) -> Place:
    return Place(file, line, excerpt(linecache.getline(file, line).strip(), line=LONGEST_CODE))


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _awaited(frame: FrameType, names: Mapping[int, str]) -> dict[str, Any]:
    """Return whom a function of torch.distributed waits for, from its arguments."""
    import torch.distributed as dist

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
    return {**_members(group, names), "peer": peer if isinstance(peer, int) else None}


def failure_of(error: BaseException, names: Mapping[int, str]) -> Failure:
    """Return what a rank raised, without the frames that are not the learner's."""
    at = time.perf_counter()
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    learners = [frame for frame in frames if is_learners(frame.f_code.co_filename)]
    lines = dict(traceback.walk_tb(error.__traceback__))
    place = Place()
    if learners:
        frame = learners[-1]
        file, line = frame.f_code.co_filename, lines[frame]
        place = _line_of(file, line)
    elif isinstance(error, SyntaxError):
        code = excerpt((error.text or "").strip(), line=LONGEST_CODE)
        place = Place(error.filename or "", error.lineno or 0, code)
    summary = traceback.StackSummary.from_list(
        [entry for entry in traceback.extract_tb(error.__traceback__) if is_learners(entry[0])]
    )
    trace = "".join([*summary.format(), *traceback.format_exception_only(error)])
    disconnects = _disconnects(error)
    return Failure(
        kind=type(error).__name__[:_LONGEST_NAME],
        message=excerpt(_message(error)),
        place=place,
        trace=excerpt(trace),
        disconnects=disconnects,
        timed_out=disconnects and _timed_out(error),
        awaited=_awaited_in(frames, names) if disconnects else (),
        at=at,
    )


def _awaited_in(frames: Sequence[FrameType], names: Mapping[int, str]) -> tuple[int, ...]:
    """Return the other ranks that the outermost wait of a traceback waited for, if it is known."""
    import torch.distributed as dist

    with suppress(Exception):  # whatever became of the groups
        waits = (_wait_of(frame, names) for frame in frames)
        _, details = next((wait for wait in waits if wait), ("", {}))
        ranks = details.get("group", ()) if details.get("peer") is None else (details["peer"],)
        return tuple(rank for rank in ranks if rank != dist.get_rank())
    return ()


def _timed_out(error: BaseException) -> bool:
    return any("timed out" in text.lower() for text in _runtime_errors(error))


def _disconnects(error: BaseException) -> bool:
    """Whether an error comes from gloo, or from what was done about one that does."""
    return any("gloo" in text or "timed out" in text for text in _runtime_errors(error))


def _runtime_errors(error: BaseException) -> Iterator[str]:
    """Yield the texts of an error and of those that it follows from, if they are RuntimeErrors."""
    seen: set[int] = set()
    before: BaseException | None = error
    while before is not None and id(before) not in seen:
        seen.add(id(before))
        if isinstance(before, RuntimeError):
            yield _text(before)
        before = before.__cause__ or before.__context__


def _text(value: object, show: Callable[[object], str] = str) -> str:
    try:
        return show(value)
    except BaseException:
        return "(its message cannot be shown)"


def _message(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"the rank called exit({'' if error.code is None else _text(error.code, repr)})"
    if isinstance(error, EOFError) and "reading a line" in _text(error):
        return "a rank has no keyboard to read from; give it its input as an argument"
    return _text(error).partition("\nException raised from")[0].strip()
