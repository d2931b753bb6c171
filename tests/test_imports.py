"""Imports between the rooms only point down, and the heavy packages stay in theirs.

Each room is imported by a fresh interpreter that tells which modules came along. ROOMS is the plan
of the house; CONTRIBUTING.md draws it.
"""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"IPython", "anywidget", "cloudpickle", "ipywidgets", "matplotlib", "torch"}

# Each room: the rooms that it may import, and the heavy packages. A room without heavy packages
# is held to numpy and the standard library.
WHO = {"_checks", "names", "rankgrid", "layout"}
WHEN = WHO | {"shards", "schedule", "timeline"}
PURE = WHEN | {"cost", "presets"}
ROOMS = {
    "": (set(), set()),
    "_doctor": (set(), set()),
    "_checks": (set(), set()),
    "names": ({"_checks"}, set()),
    "rankgrid": (set(), set()),
    "layout": (WHO, set()),
    "fitting": (WHO, set()),
    "waits": (set(), set()),
    "shards": (WHO, set()),
    "schedule": (WHO | {"shards"}, set()),
    "timeline": (WHO | {"shards", "schedule"}, set()),
    "cost": (WHEN, set()),
    "presets": (PURE, set()),
    "exercises": (PURE, set()),
    "draw": (PURE, {"matplotlib"}),
    "explore": (PURE | {"fitting", "draw"}, HEAVY - {"torch", "cloudpickle"}),
    "parallel": (PURE | {"waits"}, {"torch"}),
    "world": (PURE | {"waits", "parallel"}, {"torch", "cloudpickle", "IPython"}),
}
PROBE = """
import importlib, sys
before = set(sys.modules)
importlib.import_module(sys.argv[1])
print(*sorted(set(sys.modules) - before))
"""


def violations(room, root=ROOT):
    """What importing `room` of the mpviz in `root` brings along against the plan."""
    loaded = subprocess.run(
        [sys.executable, "-c", PROBE, f"mpviz.{room}".rstrip(".")],
        cwd=root,  # the first place where `python -c` looks for modules
        check=True, capture_output=True, text=True, timeout=60,
    ).stdout.split()  # fmt: skip
    rooms = {module.split(".")[1] for module in loaded if module.startswith("mpviz.")}
    packages = {module.partition(".")[0] for module in loaded} - {"mpviz"}
    below, heavy = ROOMS[room]
    unwanted = packages & HEAVY if heavy else packages - sys.stdlib_module_names - {"numpy"}
    return sorted(rooms - below - {room} | unwanted - heavy)


def built(room):
    return (ROOT / "mpviz" / f"{room}.py").exists() or (ROOT / "mpviz" / room).is_dir()


@pytest.mark.parametrize("room", [room for room in ROOMS if built(room)])
def test_room_imports_only_what_the_plan_allows(room):
    assert violations(room) == []


def test_every_room_is_in_the_plan():
    files = {path.stem for path in (ROOT / "mpviz").iterdir() if path.suffix in ("", ".py")}
    assert files - {"__init__", "__pycache__"} <= set(ROOMS)


@pytest.mark.parametrize(
    ("room", "source", "found"),
    [
        ("cost", "import json, numpy", []),
        ("cost", "from . import shards", []),
        ("cost", "from . import draw", ["draw"]),
        ("cost", "import matplotlib", ["matplotlib"]),
        ("cost", "import somepackage", ["somepackage"]),
        ("draw", "import matplotlib, somepackage", []),
        ("draw", "import matplotlib, torch", ["torch"]),
    ],
)
def test_the_checker_can_fail(tmp_path, room, source, found):
    house = tmp_path / "mpviz"
    house.mkdir()
    for path in (
        *(house / f"{name}.py" for name in ("__init__", "shards", "draw")),
        # Only the names of the packages count here, not what is behind them.
        *(tmp_path / f"{name}.py" for name in ("matplotlib", "torch", "somepackage")),
    ):
        path.touch()
    (house / f"{room}.py").write_text(source)
    assert violations(room, root=tmp_path) == found
