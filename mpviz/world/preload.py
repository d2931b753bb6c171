"""What the server of ranks imports before it forks: all that every rank needs.

The garbage collector would write into every imported object, and so copy into each rank what all
could share; frozen, those objects are left alone.
"""

import gc

gc.disable()

import numpy.random  # noqa: E402, F401  otherwise every rank imports it for itself

from . import worker  # noqa: E402, F401


def freeze() -> None:
    """Let the collector leave alone whatever is there now."""
    gc.collect()
    gc.freeze()


freeze()
gc.enable()
