"""What `make` says and leaves behind when something is in its way."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def checkout(tmp_path):
    """Copy what an installation reads, to a path with a space in it."""
    folder = tmp_path / "my mpviz"
    shutil.copytree(ROOT / "mpviz", folder / "mpviz")
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    return folder


def make(checkout, *arguments, **environment):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        ["make", *arguments],
        cwd=checkout, env=kept | environment, capture_output=True, text=True, timeout=100,
    )  # fmt: skip


def pretend_old_python(checkout):
    """Write an interpreter that takes itself for Python 3.9."""
    path = checkout / "oldpython"
    path.write_text(
        """#!/bin/sh
        [ "$1" = --version ] && echo Python 3.9.18 && exit
        exec python3 -c "import sys; sys.version_info = (3, 9, 18); exec(sys.argv[1])" "$2"
        """
    )
    path.chmod(0o755)
    return path


def test_help_is_the_default_and_lists_every_target(checkout):
    said = make(checkout)
    assert said.returncode == 0
    listed = {line.split()[1] for line in said.stdout.splitlines()}
    phony = next(line for line in (ROOT / "Makefile").read_text().splitlines() if ".PHONY" in line)
    assert listed == set(phony.split()[1:])


def test_old_python_is_named_and_nothing_is_made(checkout):
    said = make(checkout, "lab", f"PYTHON={pretend_old_python(checkout)}")
    assert said.returncode != 0
    assert said.stdout.splitlines() == [
        "mpviz needs Python 3.11 or newer and this is Python 3.9.18; "
        "name another: make PYTHON=python3.11 …"
    ]
    assert not (checkout / ".venv").exists()


def test_missing_python_is_named(checkout):
    said = make(checkout, "lab", "PYTHON=python3.99")
    assert "There is no python3.99 here; name another" in said.stdout
    assert not (checkout / ".venv").exists()


def test_windows_is_sent_to_wsl(checkout):
    said = make(checkout, "lab", "OS=Windows_NT")
    assert said.returncode != 0
    assert "on Windows, use it inside WSL" in said.stderr


def test_broken_off_install_does_not_look_complete(checkout):
    said = make(checkout, "lab", PIP_NO_INDEX="1", PIP_FIND_LINKS="")
    assert said.returncode != 0
    assert "No matching distribution" in said.stderr
    assert (checkout / ".venv" / ".created").exists()
    assert not (checkout / ".venv" / ".lab").exists()


def test_complete_install_is_not_repeated(checkout):
    (checkout / ".venv").mkdir()
    for stamp in (".created", ".lab"):
        (checkout / ".venv" / stamp).touch()
    assert "pip install" not in make(checkout, "--dry-run", "lab").stdout
    os.utime(checkout / "pyproject.toml", (2**32, 2**32))
    assert "pip install" in make(checkout, "--dry-run", "lab").stdout


def test_torch_index_is_asked_for_torch_alone(checkout):
    said = make(checkout, "--dry-run", "lab", "TORCH_INDEX=https://example.org/cpu").stdout
    asked = [line for line in said.splitlines() if "https://example.org/cpu" in line]
    assert [line.split()[-1] for line in asked] == ["torch"]
    assert "index" not in make(checkout, "--dry-run", "lab").stdout
