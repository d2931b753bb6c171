"""The files around the code agree with each other."""

import re
import subprocess
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
    assert {normal(ON_PYPI.get(name, name)) for name in names} == declared("lab", "run")


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
