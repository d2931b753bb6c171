"""How many microbatches a pipeline rank holds at once: what an activation costs is times this."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from ..schedule import Plan, zero_bubble_h1, zero_bubble_v
from ..timeline import simulate
from .options import Number, Training


def in_flight(training: Training, pp: Number, rank: Number, microbatches: Number) -> Number:
    """Return the most microbatches of which a pipeline rank holds activations at once.

    A stage of v on a rank counts 1/v. GPipe holds all m, 1F1B p - r; interleaved 1F1B has 2 (p -
    r - 1) + (v - 1) p forwards before its first backward (Narayanan et al. 2021, arXiv
    2104.04473, section 2.2). Zero-bubble plans are simulated.

    Parameters
    ----------
    training : Training
        Its schedule and chunks.
    pp, rank, microbatches : int or ndarray
        p, r and m.

    Examples
    --------
    >>> in_flight(Training(), 4, np.arange(4), 8).tolist()
    [4, 3, 2, 1]
    >>> in_flight(Training(chunks=2), 4, np.arange(4), 8).tolist()
    [5.5, 4.5, 3.5, 2.5]
    """
    return held_at_once(training.schedule, training.chunks, pp, rank, microbatches)


def held_at_once(
    schedule: str, chunks: Number, pp: Number, rank: Number, microbatches: Number
) -> Number:
    """Return the same, of any number of chunks."""
    if schedule == "gpipe":
        return microbatches + 0 * rank
    if schedule in _BUILD:
        return np.asarray(_simulated(schedule, int(pp), int(microbatches)))[rank]
    one = np.minimum(pp - rank, microbatches)
    if np.isscalar(chunks) and chunks == 1:
        return one
    stages = np.minimum(2 * (pp - rank - 1) + (chunks - 1) * pp + 1, microbatches * chunks)
    return np.where((chunks == 1) | (pp == 1), one, stages / chunks)[()]


_BUILD: dict[str, Callable[..., Plan]] = {"zb-h1": zero_bubble_h1, "zb-v": zero_bubble_v}


@lru_cache
def _simulated(schedule: str, pp: int, microbatches: int) -> tuple[float, ...]:
    # Once every rank is in its steady state, further microbatches change nothing.
    plan = _BUILD[schedule](pp=pp, microbatches=min(microbatches, 4 * pp))
    return tuple(held / plan.chunks for held in simulate(plan).peak_in_flight)
