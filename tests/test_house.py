"""The files around the code agree with each other."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
TOP_LEVEL = {
    *(".ci", ".gitattributes", ".github", ".gitignore", ".pre-commit-config.yaml"),
    *("CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "README.md"),
    *("Makefile", "constraints.txt", "environment.yml", "pyproject.toml"),
    *("binder", "mpviz", "notebooks", "tests"),
}
# Where conda-forge has another name for the same thing.
ON_PYPI = {"matplotlib-base": "matplotlib", "pytorch-cpu": "torch"}
# What `pytest --nbval notebooks` takes beside what the lessons take.
COMPARING = {"nbval", "pytest", "pytest-timeout"}


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(*extras):
    """Normalised names of mpviz's own dependencies and those of `extras`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lists = [
        project["dependencies"],
        *(project["optional-dependencies"][extra] for extra in extras),
    ]
    return {normal(re.match(r"[\w.-]+", text)[0]) for texts in lists for text in texts}


def test_binder_and_conda_read_the_same_environment():
    # Two files, because Binder copies nothing but binder/ before it installs: a link would dangle.
    ours, binders = ROOT / "environment.yml", ROOT / "binder" / "environment.yml"
    assert not binders.is_symlink()
    assert ours.read_bytes() == binders.read_bytes()


def test_conda_and_pip_install_the_same_packages():
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    names = {text.partition("=")[0] for text in listed} - {"python", "pip"}
    conda = {normal(ON_PYPI.get(name, name)) for name in names}
    assert conda == declared("lab", "run") | COMPARING
    assert declared("test") >= COMPARING


def test_what_conda_installs_can_compare_the_lessons():
    plugins = {"nbval": "nbval.plugin", "pytest-timeout": "pytest_timeout"}
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    options = [f"-p{module}" for name, module in plugins.items() if name in listed]
    said = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "--nbval", "notebooks", "--collect-only", "-q"],
        cwd=ROOT, env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert said.returncode == 0, said.stdout + said.stderr
    files = {line.partition("::")[0] for line in said.stdout.splitlines() if "::" in line}
    assert files == {f"notebooks/{path.name}" for path in (ROOT / "notebooks").glob("*.ipynb")}


def test_every_direct_dependency_is_pinned():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    # A local version such as +cpu would tie the pins to one index.
    assert [pin for pin in pins if not re.fullmatch(r"[\w.-]+==[\w.]+", pin)] == []
    assert declared("lab", "run", "test") <= {normal(pin.partition("==")[0]) for pin in pins}


def test_nothing_lies_about_at_the_top_level():
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, check=True, capture_output=True, text=True, timeout=30,
    ).stdout.split("\0")  # fmt: skip
    assert {name.partition("/")[0] for name in listed if name} <= TOP_LEVEL
