"""What a world of ranks needs of the machine, checked before any rank starts.

A machine that runs out of files, processes or space in the middle of a start fails in many ways,
most of which do not name the cause.
"""

import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ..layout import ParallelLayout
from ..names import GROUP_KINDS

if sys.platform != "win32":  # where a World says that it does not run
    import resource

_FILES_OF_NOTEBOOK = 3
"""Pipes that the notebook holds for each rank."""

_FILES_OF_RANK = 24
_FILES_OF_GROUP = 5
"""Besides one connection for each other member."""

_TASKS_OF_RANK = 8
_TASKS_OF_GROUP = 3
"""Threads that gloo runs in each rank."""

_LIMITS_ON_TASKS = (
    "/proc/sys/kernel/pid_max",
    "/proc/sys/kernel/threads-max",
    "/sys/fs/cgroup/pids.max",
)

_BYTES_OF_PAIR = 64
_BYTES_OF_WORLD = 16_000
"""What the ranks write to find each other."""

_BYTES_OF_TABLE = 32_768
"""Where each rank writes what it calls."""

_GIGABYTE = 10**9


class StartError(RuntimeError):
    """Ranks that did not start; the text says why, and what to do about it."""

    def __init__(self, cause: str) -> None:
        super().__init__(f"the ranks did not start: {cause}")

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]  # the frames in between are ours


def most_threads(world_size: int) -> int:
    """Return how many threads each of so many ranks may use: all together, no machine's worth.

    Examples
    --------
    >>> most_threads(10**6)
    1
    """
    return max(1, min(max(64, os.cpu_count() or 1), 4096 // world_size))


def check(layout: ParallelLayout, folder: Path) -> None:
    """Raise unless there are files, processes and space enough for the ranks of a layout."""
    sizes = _group_sizes(layout)
    _check_files(layout.world_size, sizes)
    _check_tasks(layout.world_size, sizes)
    _check_space(layout.world_size, folder)


def _group_sizes(layout: ParallelLayout) -> list[int]:
    """Return the sizes of the groups that a rank is in, and the world's."""
    groups = set()
    for kind in GROUP_KINDS:
        with suppress(ValueError):
            groups.add(layout.groups(kind).of(0))
    return [layout.world_size, *map(len, groups)]


def _check_files(world_size: int, sizes: list[int]) -> None:
    notebook = _open_files() + _FILES_OF_NOTEBOOK * world_size + 20
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _most_files(hard)
    need = max(_files_of_rank(sizes), notebook)
    if need > most:
        raise StartError(
            f"{world_size} ranks need up to {need} open files in one process, and {most} are "
            f"allowed (ulimit -Hn); about {world_size * most // need} ranks would fit"
        )
    if need > soft != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _files_of_rank(sizes: list[int]) -> int:
    return _FILES_OF_RANK + sum(size + _FILES_OF_GROUP for size in sizes)


def _most_files(hard: int) -> int:
    # macOS says "unlimited" and takes no more than 10240; where there are a billion, some programs
    # that a cell starts would close them all, one by one.
    return 10_240 if hard == resource.RLIM_INFINITY else min(hard, 65_536)


def raise_open_files() -> None:
    """Let this process open as many files as it may."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (_most_files(hard), hard))


def _open_files() -> int:
    for folder in ("/proc/self/fd", "/dev/fd"):
        with suppress(OSError):
            return len(os.listdir(folder))
    return 100


def _check_tasks(world_size: int, sizes: list[int]) -> None:
    need = world_size * _tasks_of_rank(sizes)
    most = min(_most_tasks(), default=need)
    if need > most:
        raise StartError(
            f"{world_size} ranks need about {need} processes and threads, and {most} are allowed; "
            f"about {world_size * most // need} ranks would fit"
        )


def _tasks_of_rank(sizes: list[int]) -> int:
    return _TASKS_OF_RANK + _TASKS_OF_GROUP * len(sizes)


def _most_tasks() -> Iterable[int]:
    """Return the limits on processes and threads that hold here."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if soft != resource.RLIM_INFINITY and os.geteuid() != 0:
        yield soft
    for file in _LIMITS_ON_TASKS:
        with suppress(OSError, ValueError):
            yield int(Path(file).read_text())


def _check_space(world_size: int, folder: Path) -> None:
    probe = folder / "probe"
    try:
        probe.write_bytes(bytes(_bytes_needed(world_size)))
    except OSError as error:
        raise StartError(
            f"{folder.parent}: {error.strerror}; set TMPDIR to a folder with room, "
            f"and restart the kernel"
        ) from None
    finally:
        with suppress(OSError):
            probe.unlink()


def _bytes_needed(world_size: int) -> int:
    return _BYTES_OF_WORLD + _BYTES_OF_TABLE * world_size + _BYTES_OF_PAIR * world_size**2


def address_space() -> str:
    """Return a remark on the limit of memory that holds here, if one does."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return ""
    return f"; a process may use {limit / _GIGABYTE:.1f} GB of memory here (ulimit -v): raise that"
