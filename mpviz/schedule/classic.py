"""GPipe, 1F1B and interleaved 1F1B."""

from collections.abc import Iterable
from itertools import chain

from .._checks import whole_number
from .plan import Action, Plan


def gpipe(*, pp: int, microbatches: int) -> Plan:
    """Return GPipe: every forward, then every backward.

    Each rank holds the activations of all microbatches at once. The bubble is p - 1 forwards and
    p - 1 backwards.

    Source: Huang et al. 2019 (arXiv 1811.06965).

    Examples
    --------
    >>> gpipe(pp=2, microbatches=3)
    rank 0  0F0 0F1 0F2 0B0 0B1 0B2
    rank 1  1F0 1F1 1F2 1B0 1B1 1B2
    """
    pp, microbatches = whole_number("pp", pp), whole_number("microbatches", microbatches)
    return Plan(
        name="GPipe",
        pp=pp,
        microbatches=microbatches,
        actions=tuple(
            tuple(Action(rank, kind, k) for kind in "FB" for k in range(microbatches))
            for rank in range(pp)
        ),
    )


def one_forward_one_backward(*, pp: int, microbatches: int) -> Plan:
    """Return 1F1B: p - r - 1 forwards to warm up, then one forward, one backward, and so on.

    The bubble is that of GPipe, but rank r holds at most p - r microbatches' activations.

    Source: PipeDream-Flush of Narayanan et al. 2021 (arXiv 2104.04473), section 2.2.1.

    Examples
    --------
    >>> one_forward_one_backward(pp=2, microbatches=3)
    rank 0  0F0 0F1 0B0 0F2 0B1 0B2
    rank 1  1F0 1B0 1F1 1B1 1F2 1B2
    """
    pp, microbatches = whole_number("pp", pp), whole_number("microbatches", microbatches)
    return Plan(
        name="1F1B",
        pp=pp,
        microbatches=microbatches,
        actions=tuple(
            _alternating(
                [Action(rank, "F", k) for k in range(microbatches)],
                [Action(rank, "B", k) for k in range(microbatches)],
                warmup=pp - rank - 1,
            )
            for rank in range(pp)
        ),
    )


def interleaved_1f1b(*, pp: int, microbatches: int, chunks: int = 2) -> Plan:
    """Return interleaved 1F1B: several stages on each rank, the microbatches p at a time.

    Rank r warms up with 2 (p - r - 1) + (v - 1) p forwards. Stages are v times smaller, and so is
    the bubble; messages are v times as many.

    Parameters
    ----------
    pp : int
        Pipeline ranks, p; at least 2.
    microbatches : int
        A multiple of p.
    chunks : int
        Stages on each rank, v; at least 2.

    Source: Narayanan et al. 2021 (arXiv 2104.04473), section 2.2.2.

    Examples
    --------
    >>> interleaved_1f1b(pp=2, microbatches=2, chunks=2)
    rank 0  0F0 0F1 2F0 2F1 2B0 2B1 0B0 0B1
    rank 1  1F0 1F1 3F0 3B0 3F1 3B1 1B0 1B1
    """
    pp, microbatches = whole_number("pp", pp), whole_number("microbatches", microbatches)
    check_interleaving(pp, microbatches, whole_number("chunks", chunks))
    return Plan(
        name=f"interleaved 1F1B, {chunks} chunks",
        pp=pp,
        microbatches=microbatches,
        chunks=chunks,
        actions=tuple(
            _alternating(
                _in_groups("F", range(rank, pp * chunks, pp), pp, microbatches),
                _in_groups("B", range(rank, pp * chunks, pp)[::-1], pp, microbatches),
                warmup=2 * (pp - rank - 1) + (chunks - 1) * pp,
            )
            for rank in range(pp)
        ),
    )


def check_interleaving(pp: int, microbatches: int, chunks: int) -> None:
    """Raise unless such a plan exists, without making it."""
    if pp == 1:
        raise ValueError(f"chunks={chunks} interleaves the stages of a pipeline; pp=1 has none")
    if chunks == 1:
        raise ValueError(
            "chunks=1 leaves nothing to interleave; take one_forward_one_backward, or chunks "
            "may be 2, 3 …"
        )
    if microbatches % pp:
        below = microbatches // pp * pp
        fits = f"{below} or {below + pp}" if below else f"{pp}, {2 * pp} …"
        raise ValueError(
            f"interleaving deals microbatches to pp={pp} ranks {pp} at a time, and {pp} does not "
            f"divide {microbatches}; microbatches may be {fits}"
        )


def _in_groups(kind: str, stages: Iterable[int], pp: int, microbatches: int) -> list[Action]:
    """List the actions of one kind: pp microbatches through each stage in turn, then the next."""
    return [
        Action(stage, kind, k)
        for first in range(0, microbatches, pp)
        for stage in stages
        for k in range(first, first + pp)
    ]


def _alternating(
    forwards: list[Action], backwards: list[Action], warmup: int
) -> tuple[Action, ...]:
    """Run some forwards, then one forward and one backward in turn, then what is left."""
    warmup = min(warmup, len(forwards))
    steady = zip(forwards[warmup:], backwards, strict=False)
    left = backwards[len(forwards) - warmup :]
    return (*forwards[:warmup], *chain.from_iterable(steady), *left)
