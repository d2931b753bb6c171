"""Each line of the report is seen to fail, for its own reason and with its own remedy."""

import importlib.metadata
import importlib.util
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

import mpviz
from mpviz._doctor import ROOMS, doctor


def problem(what):
    """The one problem of a report in which everything but `what` is fine."""
    bad = [check for check in doctor().checks if check.problem]
    assert [check.what for check in bad] == [what]
    assert not doctor().ok
    assert f"✗ {what}\n  {bad[0].problem}" in repr(doctor())
    return bad[0].problem


def pretend_version(monkeypatch, package, version):
    real = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: version if name == package else real(name)
    )


def pretend_missing(monkeypatch, package):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == package else real(name)
    )


def test_all_is_well_here_and_no_version_is_named():
    report = doctor()
    assert report.ok
    assert str(report).count("✓") == len(report.checks) == 5
    assert "✗" not in str(report)


def test_old_python(monkeypatch):
    monkeypatch.setattr(platform, "python_version", lambda: "3.9.18")
    assert problem("Python 3.11 or newer") == (
        "this is Python 3.9.18: make a new environment with 3.11 or newer"
    )


@pytest.mark.parametrize(
    ("system", "remedy"), [("Windows", "install mpviz inside WSL"), ("AIX", "use one of the two")]
)
def test_other_systems(monkeypatch, system, remedy):
    monkeypatch.setattr(platform, "system", lambda: system)
    assert problem("Linux or macOS") == f"this is {system}: {remedy}"


PACKAGES = [(name, what) for names, what in ROOMS for name in names]


@pytest.mark.parametrize(("package", "what"), PACKAGES)
def test_missing_package(monkeypatch, package, what):
    pretend_missing(monkeypatch, package)
    assert problem(what).startswith(f"no {package} found: run `python -m pip install '{package}>=")


@pytest.mark.parametrize(("package", "what"), PACKAGES)
def test_a_file_beside_the_notebook_that_hides_a_package(tmp_path, package, what):
    (tmp_path / f"{package}.py").write_text("raise SystemError")
    code = (
        "import sys; from mpviz._doctor import doctor; sys.path.insert(0, '');"
        "print(*[f'{check.what}|{check.problem}' for check in doctor().checks if check.problem])"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(mpviz.__file__).parents[1])}
    command = [sys.executable, "-P", "-c", code]
    shown = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert shown.stdout == (
        f"{what}|{tmp_path}/{package}.py hides the installed {package}: "
        f"rename it, then restart the kernel\n"
    )


@pytest.mark.parametrize(("package", "what"), PACKAGES)
def test_package_too_old(monkeypatch, package, what):
    pretend_version(monkeypatch, package, "0.9.1")
    assert f"{package} 0.9.1 is older than " in problem(what)


def test_both_packages_of_a_line_are_mended_by_one_command(monkeypatch):
    pretend_missing(monkeypatch, "numpy")
    pretend_version(monkeypatch, "matplotlib", "3.1")
    assert problem("numpy and matplotlib: the pictures") == (
        "no numpy found, matplotlib 3.1 is older than 3.9: run "
        "`python -m pip install 'numpy>=2.0' 'matplotlib>=3.9'`, then restart the kernel"
    )


def test_not_installed(monkeypatch):
    def nothing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "metadata", nothing)
    assert "make lab" in problem("mpviz itself")


def test_nothing_heavy_is_imported():
    code = (
        "import sys; from mpviz._doctor import doctor; doctor();"
        "assert not {'torch', 'matplotlib', 'anywidget', 'ipywidgets', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("first", ["mpviz", "mpviz._doctor"])
def test_the_short_name_stays_the_function(first):
    # Importing a submodule binds it in its package, where it may hide a function of its name.
    code = f"import {first}; import mpviz; mpviz.doctor(); mpviz.doctor()"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
