"""Lets tests import their helpers: ``import strategies``, ``from oracles import …``."""

import sys
from pathlib import Path

from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent))

# How long one example takes says more about the machine than about the code.
settings.register_profile("mpviz", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("mpviz")

# Programs for ranks, with the names that only ranks have; collecting doctests would run them here.
collect_ignore_glob = ["*/*_ranks.py"]

# Where tests wait for processes. `make unit` hands files out in the order of collection: of these
# folders' files, one begun last would run alone at the end.
LONG = {"exercises", "machines", "notebooks", "oracles", "parallel", "world"}


def pytest_collection_modifyitems(items):
    """Put the long files first."""
    items.sort(key=lambda item: item.path.parent.name not in LONG)
