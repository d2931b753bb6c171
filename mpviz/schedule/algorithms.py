"""Collectives step by step: who sends which chunk to whom, and whose data is in each.

Libraries do more: NCCL passes many slices of a chunk one after the other, and sends along two
trees at once. What every rank sends and receives in total stays the same.

Sources: Thakur, Rabenseifner and Gropp 2005 (doi 10.1177/1094342005051521), which has all of
them; Patarasuk and Yuan 2009 (doi 10.1016/j.jpdc.2008.09.002), the ring.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._checks import listed, whole_number

_MOST_RANKS = 256
_MOST_STEPS, _MOST_SENDS = 32, 8
T = TypeVar("T")


class Send(NamedTuple):
    """One message of one step.

    Attributes
    ----------
    sender, receiver : int
        Ranks.
    chunks : tuple of int
        What is sent, as the sender held it before the step.
    reduces : bool
        Whether the receiver adds it to what it holds, or takes it as it is.
    """

    sender: int
    receiver: int
    chunks: tuple[int, ...]
    reduces: bool = False

    def __str__(self) -> str:
        return f"{self.sender}→{self.receiver} {'+' * self.reduces}{spans(self.chunks, ',')}"


Steps = Sequence[Sequence[Send]]


@dataclass(frozen=True, repr=False)
class CollectivePlan:
    """The messages of a collective, step by step. `collective` makes it.

    Attributes
    ----------
    name, algorithm : str
        Which collective, by torch's name, and how.
    ranks : int
        How many take part. Rank 0 is the root of a broadcast.
    chunks : int
        Into how many a tensor is cut: an all-gather's result, the input of the others. Chunks
        are counted from 0; in an all-to-all, s · chunks + d is what rank s has for rank d.
    steps : tuple of tuple of Send
        A step begins when all messages of the one before have arrived.
    """

    name: str
    algorithm: str
    ranks: int
    chunks: int
    steps: tuple[tuple[Send, ...], ...]

    def inputs(self, rank: int) -> tuple[int, ...]:
        """Return the chunks that a rank holds in the beginning.

        Examples
        --------
        >>> collective("all_gather", ranks=4).inputs(2)
        (2,)
        """
        self._check_rank(rank)
        if self.name == "all_to_all":
            return tuple(rank * self.chunks + to for to in range(self.chunks))
        if self.name == "all_gather":
            return (rank,)
        return tuple(range(self.chunks)) if self.name != "broadcast" or rank == 0 else ()

    def outputs(self, rank: int) -> tuple[int, ...]:
        """Return the chunks that make a rank's result; others it may hold do not count."""
        self._check_rank(rank)
        if self.name == "all_to_all":
            return tuple(sender * self.chunks + rank for sender in range(self.chunks))
        return (rank,) if self.name == "reduce_scatter" else tuple(range(self.chunks))

    def held(self, step: int | None = None) -> list[dict[int, tuple[int, ...]]]:
        """Return for each rank which chunks it holds after a step, and whose data is summed there.

        Parameters
        ----------
        step : int, optional
            After how many steps, 0 … ``len(steps)``; after the last if not given.

        Examples
        --------
        >>> collective("reduce_scatter", ranks=3).held(1)[0]
        {0: (0,), 1: (0, 2), 2: (0,)}
        """
        memories: list[dict[int, tuple[int, ...]]] = [
            dict.fromkeys(self.inputs(rank), (rank,)) for rank in range(self.ranks)
        ]
        for sends in self.steps[: self.check_step(step)]:
            _deliver(sends, memories, lambda mine, theirs: tuple(sorted(mine + theirs)))
        return memories

    def sent(self, step: int | None = None) -> NDArray[np.int64]:
        """Return how many chunks each rank has sent after a step; after the last if not given.

        Examples
        --------
        2 (n - 1) of n chunks; along a tree, the root sends as many whole tensors as it has
        children:

        >>> collective("all_reduce", ranks=4).sent()
        array([6, 6, 6, 6])
        >>> collective("broadcast", ranks=4, algorithm="tree").sent()
        array([2, 1, 0, 0])
        """
        sent = np.zeros(self.ranks, dtype=np.int64)
        for sends in self.steps[: self.check_step(step)]:
            for send in sends:
                sent[send.sender] += len(send.chunks)
        return sent

    def bytes_sent(self, size: int, step: int | None = None) -> NDArray[np.int64]:
        """Return the same in bytes, of a tensor of ``size`` bytes, which the chunks must divide.

        Examples
        --------
        >>> collective("all_reduce", ranks=16).bytes_sent(6_400).max()
        np.int64(12000)
        """
        return self.sent(step) * _divided("bytes", whole_number("size", size), self.chunks)

    def of(self, rank: int) -> Iterator[tuple[list[Send], list[Send]]]:
        """Yield for each step what one rank sends and what it receives.

        Examples
        --------
        >>> for sends, receives in collective("broadcast", ranks=4, algorithm="tree").of(1):
        ...     print(*sends, "|", *receives)
        | 0→1 0
        1→3 0 |
        """
        self._check_rank(rank)
        for sends in self.steps:
            yield (
                [send for send in sends if send.sender == rank],
                [send for send in sends if send.receiver == rank],
            )

    def check_step(self, step: int | None) -> int:
        """Return a step's number, the last one's for None, or raise ``ValueError``."""
        last = len(self.steps)
        if step is None:
            return last
        if whole_number("step", step, least=0) > last:
            raise ValueError(f"step must be 0 … {last}, got {step}")
        return int(step)

    def _check_rank(self, rank: int) -> None:
        if whole_number("rank", rank, least=0) >= self.ranks:
            raise ValueError(f"rank must be 0 … {self.ranks - 1}, got {rank}")

    def __str__(self) -> str:
        ranks = f"{self.ranks} rank{'s' * (self.ranks != 1)}"
        return f"{self.name.replace('_', '-')} of {ranks}, {self.algorithm.replace('_', ' ')}"

    def __repr__(self) -> str:
        lines = [f"{self}: {len(self.steps)} step{'s' * (len(self.steps) != 1)}"]
        for number, sends in enumerate(self.steps[:_MOST_STEPS], 1):
            words = [str(send) for send in sends[:_MOST_SENDS]]
            words += [f"… {len(sends) - _MOST_SENDS} more"] * (len(sends) > _MOST_SENDS)
            lines.append(f"step {number:<{len(str(len(self.steps)))}}  {'  '.join(words)}")
        if len(self.steps) > _MOST_STEPS:
            lines.append(f"… {len(self.steps) - _MOST_STEPS} more steps")
        return "\n".join(lines)


def collective(name: str, ranks: int, algorithm: str = "") -> CollectivePlan:
    """Return a collective as steps.

    ==============  ==================================================================
    broadcast       ring, tree
    all_gather      ring, recursive_doubling, direct
    reduce_scatter  ring, recursive_halving, direct
    all_reduce      ring, tree, recursive_doubling, halving_doubling
    all_to_all      direct
    ==============  ==================================================================

    A tree is binomial. The recursive ones pair ranks that differ in one bit.

    Parameters
    ----------
    name : str
        By torch's name.
    ranks : int
        1 … 256.
    algorithm : str, optional
        The first of its line if not given.

    Raises
    ------
    ValueError
        If there is no such collective or algorithm, or it does not take so many ranks.

    Examples
    --------
    ``+`` stands where the receiver adds:

    >>> collective("all_reduce", ranks=3, algorithm="ring")
    all-reduce of 3 ranks, ring: 4 steps
    step 1  0→1 +0  1→2 +1  2→0 +2
    step 2  0→1 +2  1→2 +0  2→0 +1
    step 3  0→1 1  1→2 2  2→0 0
    step 4  0→1 0  1→2 1  2→0 2
    """
    if not isinstance(name, str) or name not in ALGORITHMS:
        raise ValueError(f"no collective {name!r} here; there are {listed(ALGORITHMS, ' and ')}")
    known = ALGORITHMS[name]
    algorithm = algorithm or next(iter(known))
    if not isinstance(algorithm, str) or algorithm not in known:
        raise ValueError(f"no algorithm {algorithm!r} for {name}; it has {listed(known, ' and ')}")
    ranks = whole_number("ranks", ranks)
    if ranks > _MOST_RANKS:
        raise ValueError(f"the steps of {ranks:,} ranks are not listed; at most {_MOST_RANKS}")
    if algorithm in _IN_PAIRS and ranks & (ranks - 1):
        below = 1 << (ranks.bit_length() - 1)
        others = listed([each for each in known if each not in _IN_PAIRS], " or ")
        raise ValueError(
            f"{algorithm} pairs ranks that differ in one bit, so ranks must be a power of two, "
            f"got {ranks}; {below} or {2 * below} would fit, and {others} takes any number"
        )
    chunks, steps = known[algorithm](ranks)
    return CollectivePlan(name, algorithm, ranks, chunks, tuple(map(tuple, steps)))


def replay(plan: CollectivePlan, tensors: Sequence[ArrayLike]) -> list[NDArray[Any]]:
    """Return what each rank has in the end, when the steps are taken with real numbers.

    Parameters
    ----------
    plan : CollectivePlan
        What to do.
    tensors : sequence of array-like, one for each rank
        Cut along dimension 0: into one part for an all-gather, else into the plan's chunks.
        Of a broadcast only rank 0's is read.

    Raises
    ------
    ValueError
        If there is not one for each rank, all of one shape, or they cannot be cut.

    Examples
    --------
    >>> replay(collective("reduce_scatter", ranks=2), [[1, 2], [10, 20]])
    [array([11]), array([22])]
    """
    if len(tensors) != plan.ranks:
        raise ValueError(f"{plan.ranks} ranks need as many tensors, got {len(tensors)}")
    memories = [_cut(tensor, plan.inputs(rank)) for rank, tensor in enumerate(tensors)]
    shapes = {piece.shape for memory in memories for piece in memory.values()}
    if len(shapes) > 1:
        raise ValueError("the ranks of a collective bring tensors of one shape")
    for sends in plan.steps:
        _deliver(sends, memories, np.add)
    return [
        np.concatenate([memory[chunk] for chunk in plan.outputs(rank)])
        for rank, memory in enumerate(memories)
    ]


def _cut(tensor: ArrayLike, chunks: Sequence[int]) -> dict[int, NDArray[Any]]:
    if not chunks:
        return {}
    array = np.atleast_1d(tensor)
    _divided("elements", len(array), len(chunks))
    return dict(zip(chunks, np.split(array, len(chunks)), strict=True))


def spans(numbers: Sequence[int], joined: str) -> str:
    """Write ascending numbers, three and more in a row as a range.

    >>> spans([0, 2, 3, 5, 6, 7], "+")
    '0+2+3+5–7'
    """
    words: list[str] = []
    start = 0
    for stop in range(1, len(numbers) + 1):
        if stop < len(numbers) and numbers[stop] == numbers[stop - 1] + 1:
            continue
        run = numbers[start:stop]
        words += [f"{run[0]}–{run[-1]}"] if len(run) > 2 else map(str, run)
        start = stop
    return joined.join(words)


def _deliver(
    sends: Sequence[Send], memories: Sequence[dict[int, T]], add: Callable[[T, T], T]
) -> None:
    """Take a step: ``memories[rank]`` has what the rank holds of each chunk."""
    messages = [(send, [memories[send.sender][chunk] for chunk in send.chunks]) for send in sends]
    for send, pieces in messages:
        mine = memories[send.receiver]
        for chunk, piece in zip(send.chunks, pieces, strict=True):
            mine[chunk] = add(mine[chunk], piece) if send.reduces else piece


def _divided(what: str, size: int, chunks: int) -> int:
    """Return the size of a chunk."""
    if size < chunks or size % chunks:
        below = size // chunks * chunks
        fits = listed([each for each in (below, below + chunks) if each], " or ")
        raise ValueError(f"{size} {what} cannot be cut into {chunks} equal chunks; {fits} can")
    return size // chunks


# ---- the algorithms: steps of n ranks


def _ring(n: int, first: int = 0, reduces: bool = False) -> Steps:
    """Each rank sends to its right; the chunk that came from the left goes on in the next step."""
    return [
        [Send(rank, (rank + 1) % n, ((rank + first - step) % n,), reduces) for rank in range(n)]
        for step in range(n - 1)
    ]


def _chain(n: int) -> Steps:
    """Chunk after chunk leaves rank 0, and passes from each rank to the next."""
    return [
        [Send(rank, rank + 1, (step - rank,)) for rank in range(n - 1) if 0 <= step - rank < n]
        for step in range(2 * (n - 1))
    ]


def _tree(n: int) -> Steps:
    """Whoever has the tensor sends it to one who has not: 1, 2, 4 … ranks have it."""
    return [
        [Send(rank, rank + have, (0,)) for rank in range(min(have, n - have))]
        for have in _powers(n)
    ]


def _tree_upwards(n: int) -> Steps:
    """Take the way of `_tree` back, adding."""
    return [[Send(b, a, chunks, True) for a, b, chunks, _ in sends] for sends in _tree(n)[::-1]]


def _doubling(n: int) -> Steps:
    """Partners exchange all that they have: 1, 2, 4 … chunks."""
    return [[Send(rank, rank ^ bit, _block(rank, bit)) for rank in range(n)] for bit in _powers(n)]


def _halving(n: int) -> Steps:
    """Of what is left, each sends its partner's half, and goes on with its own."""
    return [
        [Send(rank, rank ^ bit, _block(rank ^ bit, bit), True) for rank in range(n)]
        for bit in _powers(n)[::-1]
    ]


def _doubling_sums(n: int) -> Steps:
    """Partners exchange their sums, whole tensors, and both add."""
    return [[Send(rank, rank ^ bit, (0,), True) for rank in range(n)] for bit in _powers(n)]


def _direct(n: int, chunk: Callable[[int, int], int], reduces: bool = False) -> Steps:
    """Each rank sends to every other, first to its right neighbour, then to the one after."""
    return [
        [
            Send(rank, (rank + step) % n, (chunk(rank, (rank + step) % n),), reduces)
            for rank in range(n)
        ]
        for step in range(1, n)
    ]


def _powers(n: int) -> list[int]:
    """Return 1, 2, 4 … below n."""
    return [1 << power for power in range((n - 1).bit_length())]


def _block(rank: int, size: int) -> tuple[int, ...]:
    start = rank // size * size
    return tuple(range(start, start + size))


Algorithm = Callable[[int], tuple[int, Steps]]
"""Ranks to chunks and steps."""

ALGORITHMS: Mapping[str, Mapping[str, Algorithm]] = {
    "broadcast": {"ring": lambda n: (n, _chain(n)), "tree": lambda n: (1, _tree(n))},
    "all_gather": {
        "ring": lambda n: (n, _ring(n)),
        "recursive_doubling": lambda n: (n, _doubling(n)),
        "direct": lambda n: (n, _direct(n, lambda sender, receiver: sender)),
    },
    "reduce_scatter": {
        "ring": lambda n: (n, _ring(n, first=-1, reduces=True)),
        "recursive_halving": lambda n: (n, _halving(n)),
        "direct": lambda n: (n, _direct(n, lambda sender, receiver: receiver, reduces=True)),
    },
    "all_reduce": {
        "ring": lambda n: (n, [*_ring(n, reduces=True), *_ring(n, first=1)]),
        "tree": lambda n: (1, [*_tree_upwards(n), *_tree(n)]),
        "recursive_doubling": lambda n: (1, _doubling_sums(n)),
        "halving_doubling": lambda n: (n, [*_halving(n), *_doubling(n)]),
    },
    "all_to_all": {
        "direct": lambda n: (n, _direct(n, lambda sender, receiver: sender * n + receiver))
    },
}
"""Of each collective, the algorithms by name; the first is the default."""

_IN_PAIRS = {"recursive_doubling", "recursive_halving", "halving_doubling"}
