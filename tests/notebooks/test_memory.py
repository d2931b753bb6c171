"""The lessons fit where they are launched: Binder ends a kernel at 2 GB."""

import re
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
WITH_RANKS = [path for path in sorted(NOTEBOOKS.glob("*.ipynb")) if "= World(" in path.read_text()]
BINDER = 2_000_000_000
RUN = """
import sys, nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, timeout=120, resources={"metadata": {"path": sys.argv[2]}}).execute()
"""

pytestmark = pytest.mark.skipif(
    not hasattr(psutil.Process().memory_full_info(), "pss"),
    reason="only Linux shares memory fairly",
)


def held_by(process: psutil.Process) -> int:
    """Bytes of a process and all below it; what several share is counted once."""
    total = 0
    for one in [process, *process.children(recursive=True)]:
        try:
            total += one.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue  # it ended meanwhile
    return total


def test_there_are_lessons_with_ranks():
    assert [path.name[:2] for path in WITH_RANKS] == ["04", "05", "06", "07", "08"]


@pytest.mark.notebook
@pytest.mark.timeout(260)
@pytest.mark.parametrize("lesson", WITH_RANKS, ids=lambda path: path.stem)
def test_a_lesson_with_ranks_needs_no_more_than_it_says(lesson):
    first = nbformat.read(lesson, as_version=4).cells[0].source
    limit = 10**9 * int(re.findall(r"You need:.* (\d) GB of memory", first)[0])
    assert limit <= BINDER
    command = [sys.executable, "-c", RUN, str(lesson), str(lesson.parent)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        watched, most, samples = psutil.Process(running.pid), 0, 0
        try:
            end = time.monotonic() + 220
            while running.poll() is None:
                assert time.monotonic() < end, "the lesson did not end"
                most, samples = max(most, held_by(watched)), samples + 1
                time.sleep(0.25)
        finally:
            for child in watched.children(recursive=True) if running.poll() is None else []:
                child.kill()
            running.kill()
        assert running.returncode == 0, running.stderr and running.stderr.read()
    print(f"\nat most {most / 1e6:.0f} MB in {samples} samples")
    assert samples > 5 and 100_000_000 < most < limit
