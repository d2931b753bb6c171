"""Is this installation fit for the lessons? Lesson 00 asks, and anyone may.

What a fit installation needs is read from the package's own metadata, so that `pyproject.toml`
stays the only place that says it. Nothing is imported: PyTorch alone would take seconds.
"""

import importlib.machinery
import importlib.metadata
import importlib.util
import os
import platform
import re
import sys
from contextlib import suppress
from dataclasses import dataclass

ROOMS = (
    (("numpy", "matplotlib"), "numpy and matplotlib: the pictures"),
    (("anywidget", "ipywidgets"), "anywidget and ipywidgets: the sliders"),
    (("torch", "cloudpickle"), "torch and cloudpickle: the real ranks"),
)


@dataclass(frozen=True)
class Check:
    """One thing looked at.

    Parameters
    ----------
    what : str
        What a fit installation has.
    problem : str
        What was found instead and what to do about it; empty if all is well.
    """

    what: str
    problem: str = ""

    def __str__(self) -> str:
        return f"✗ {self.what}\n  {self.problem}" if self.problem else f"✓ {self.what}"


@dataclass(frozen=True, repr=False)
class Report:
    """What `doctor` found, one line for each check and one more for each problem."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether every check passed."""
        return not any(check.problem for check in self.checks)

    def __str__(self) -> str:
        return "\n".join(str(check) for check in self.checks)

    __repr__ = __str__


def doctor() -> Report:
    """Check that this installation can show, move and run the lessons.

    A package counts as fine when it is found and recent enough. It is not imported, so a
    package that is there but broken is only found out by the lesson that uses it.

    Returns
    -------
    Report
        Prints itself. It names no versions while all is well, so it reads the same everywhere.

    Examples
    --------
    >>> doctor()
    ✓ Python 3.11 or newer
    ✓ Linux or macOS
    ✓ numpy and matplotlib: the pictures
    ✓ anywidget and ipywidgets: the sliders
    ✓ torch and cloudpickle: the real ranks
    >>> doctor().ok
    True
    """
    try:
        metadata = importlib.metadata.metadata("mpviz")
    except importlib.metadata.PackageNotFoundError:
        problem = "its files are here but it is not installed: run `make lab` in its checkout"
        return Report((Check("mpviz itself", problem),))
    needs = _minimums(metadata.get_all("Requires-Dist") or [])
    rooms = (Check(what, _packages_problem(names, needs)) for names, what in ROOMS)
    return Report((_python(metadata["Requires-Python"]), _system(), *rooms))


def _python(specifier: str) -> Check:
    needed, found = specifier.removeprefix(">="), platform.python_version()
    problem = f"this is Python {found}: make a new environment with {needed} or newer"
    return Check(f"Python {needed} or newer", "" if _at_least(found, needed) else problem)


def _system() -> Check:
    found = platform.system()
    advice = "install mpviz inside WSL" if found == "Windows" else "use one of the two"
    problem = "" if found in ("Linux", "Darwin") else f"this is {found or 'unknown'}: {advice}"
    return Check("Linux or macOS", problem)


def _packages_problem(names: tuple[str, ...], needs: dict[str, str]) -> str:
    """Name what is missing, hidden or too old among `names`, and what mends it all."""
    hidden = [f"{file} hides the installed {name}" for name in names if (file := _hider(name))]
    if hidden:
        return f"{', '.join(hidden)}: rename it, then restart the kernel"
    found = {name: _version(name) for name in names}
    lacking = [name for name in names if not _at_least(found[name], needs[name])]
    if not lacking:
        return ""
    states = [
        f"{name} {found[name]} is older than {needs[name]}" if found[name] else f"no {name} found"
        for name in lacking
    ]
    wanted = " ".join(f"'{name}>={needs[name]}'" for name in lacking)
    return f"{', '.join(states)}: run `python -m pip install {wanted}`, then restart the kernel"


def _hider(name: str) -> str:
    """Return the file beside the notebook that an import finds in place of a package, or ""."""
    beside = ["", "."]
    with suppress(OSError):  # the folder may be deleted
        beside.append(os.getcwd())
    elsewhere = [entry for entry in sys.path if entry not in beside]
    found = importlib.util.find_spec(name)
    installed = importlib.machinery.PathFinder.find_spec(name, elsewhere)
    if found is None or installed is None or found.origin == installed.origin:
        return ""
    return found.origin or ""


def _version(name: str) -> str:
    """Return the version of an installed package, or "" when no import would find it."""
    if importlib.util.find_spec(name) is None:
        return ""
    return importlib.metadata.version(name)


def _minimums(requirements: list[str]) -> dict[str, str]:
    """Read `name>=version` from each requirement.

    >>> _minimums(["numpy>=2.0", 'torch>=2.6; extra == "run"'])
    {'numpy': '2.0', 'torch': '2.6'}
    """
    matches = (re.match(r"([\w.-]+)>=([\d.]+)", text) for text in requirements)
    return {match[1]: match[2] for match in matches if match}


def _at_least(found: str, needed: str) -> bool:
    """Compare the numbers of two versions; whatever follows them does not matter here.

    >>> _at_least("2.13.0+cpu", "2.6"), _at_least("1.26.4", "2.0"), _at_least("", "2.0")
    (True, False, False)
    """
    return _numbers(found) >= _numbers(needed)


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version.partition("+")[0])]
