"""Real ranks: one gloo process for each GPU of a layout, started from a notebook.

- `World`: the processes; ``world.run(function)``, ``%%ranks``;
- `RanksError`: what a run says that did not go well.
"""

from .results import Results
from .world import RanksError, RanksInterrupted, World

__all__ = ["RanksError", "RanksInterrupted", "Results", "World"]
