"""The stored outputs guard the code: two swapped ranks fail a lesson."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LESSON = ROOT / "notebooks" / "02_find_the_groups_in_megatron.ipynb"
FAULT = """

_groups = ParallelLayout.groups


def _with_two_ranks_swapped(self, kind):
    right = _groups(self, kind)
    ranks = right.ranks.copy()
    ranks[0, [0, -1]] = ranks[0, [-1, 0]]
    return type(right)(right.kind, ranks)


ParallelLayout.groups = _with_two_ranks_swapped
"""

pytestmark = pytest.mark.notebook


@pytest.fixture
def house(tmp_path):
    """Copy the package and the lesson, so that the fault has a place of its own."""
    shutil.copytree(ROOT / "mpviz", tmp_path / "mpviz")
    (tmp_path / "notebooks").mkdir()
    shutil.copy(LESSON, tmp_path / "notebooks")
    return tmp_path


def nbval(house):
    return subprocess.run(
        [sys.executable, "-m", "pytest", "--nbval", "--color=no", "-p", "no:cacheprovider",
         "--rootdir", house, house / "notebooks" / LESSON.name],
        cwd=house, env=os.environ | {"PYTHONPATH": str(house)},
        capture_output=True, text=True, timeout=110,
    )  # fmt: skip


def test_two_swapped_ranks_fail_the_lesson(house):
    untouched = nbval(house)
    assert untouched.returncode == 0, untouched.stdout

    with (house / "mpviz" / "layout.py").open("a") as layout:
        layout.write(FAULT)
    faulty = nbval(house)
    assert faulty.returncode == 1
    assert "mismatch 'text/plain'" in faulty.stdout
