"""Binder's own tool reads this repository as we mean it; it needs no Docker to say so."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def checkout(tmp_path):
    """Copy what git would hand to Binder: no .venv, no build."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, check=True, capture_output=True, text=True, timeout=30,
    ).stdout.split("\0")  # fmt: skip
    for name in filter(None, listed):
        if (ROOT / name).exists():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tmp_path / name)
    return tmp_path


def dockerfile(checkout):
    return subprocess.run(
        [sys.executable, "-m", "repo2docker", "--no-build", "--debug", str(checkout)],
        check=True, capture_output=True, text=True, timeout=60,
    ).stdout  # fmt: skip


def test_dockerfile_installs_the_environment_then_mpviz_then_starts(checkout):
    text = dockerfile(checkout)
    steps = [
        "COPY --chown=0:0 src/binder/environment.yml",
        '--file "binder/environment.yml"',
        "COPY --chown=0:0 src/ ${REPO_DIR}/",
        "RUN ./binder/postBuild",
        'ENV R2D_ENTRYPOINT="${REPO_DIR}/binder/start"',
    ]
    places = [text.find(step) for step in steps]
    assert -1 not in places
    assert places == sorted(places)
    # repo2docker's name for the base environment of Python 3.11, in its own escaping.
    assert "environment-2epy-2d3-2e11-2dlinux" in text


def test_dockerfile_without_binder_folder_would_differ(checkout):
    shutil.rmtree(checkout / "binder")
    assert "binder/postBuild" not in dockerfile(checkout)


@pytest.mark.parametrize("script", ["binder/postBuild", "binder/start", ".ci/run"])
def test_scripts_are_executable_and_parse(script):
    assert os.access(ROOT / script, os.X_OK)
    subprocess.run(["bash", "-n", ROOT / script], check=True, timeout=10)


def test_start_hands_over_to_the_server_with_one_thread():
    command = [ROOT / "binder" / "start", "sh", "-c", 'echo "$OMP_NUM_THREADS $1"', "_", "a b"]
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout
    assert said == "1 a b\n"
