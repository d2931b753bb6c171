"""Random numbers for dropout under tensor parallelism: the same, or different, on purpose.

Source: Megatron-LM ``megatron/core/tensor_parallel/random.py`` (``CudaRNGStatesTracker``,
``model_parallel_cuda_manual_seed``).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from .._checks import listed, whole_number


class RNGStatesTracker:
    """Two streams of random numbers on each rank of a tensor-parallel group.

    ``"replicated"`` is the same on all ranks: for a tensor that each holds whole, so that copies
    stay copies. ``"cut"`` is another on each: for a tensor of which each holds a part, so that no
    two parts drop the same elements.

    Parameters
    ----------
    seed : int
        The same on every rank.
    tp_rank : int
        This rank's place in the group.

    Attributes
    ----------
    states : dict of str to Tensor
        Where each stream has got to, as ``torch.get_rng_state`` gives it.

    Examples
    --------
    >>> here, there = RNGStatesTracker(1, tp_rank=0), RNGStatesTracker(1, tp_rank=1)
    >>> for stream in ("replicated", "cut"):
    ...     with here.fork(stream):
    ...         mine = torch.rand(4)
    ...     with there.fork(stream):
    ...         print(stream, torch.equal(mine, torch.rand(4)))
    replicated True
    cut False
    """

    def __init__(self, seed: int, tp_rank: int = 0) -> None:
        self.seed = whole_number("seed", seed, least=0)
        self.be_rank(tp_rank)

    def be_rank(self, tp_rank: int) -> None:
        """Begin both streams, as that rank of the group."""
        whole_number("tp_rank", tp_rank, least=0)
        # 2718 is Megatron's.
        self.states = {"replicated": _state(self.seed), "cut": _state(self.seed + 2718 + tp_rank)}
        self._drawn_from: str | None = None

    @contextmanager
    def fork(self, stream: str) -> Iterator[None]:
        """Let torch draw from a stream within the block, and from its own again after it.

        Blocks may lie in each other: each number of a stream is drawn once.

        Raises
        ------
        ValueError
            When there is no such stream.
        """
        if stream not in self.states:
            raise ValueError(f"the streams are {listed(self.states, ' and ')}, got {stream!r}")
        around, outside = self._drawn_from, torch.get_rng_state()
        if around is not None:
            self.states[around] = outside
        torch.set_rng_state(self.states[stream])
        self._drawn_from = stream
        try:
            yield
        finally:
            self.states[stream] = torch.get_rng_state()
            torch.set_rng_state(outside if around is None else self.states[around])
            self._drawn_from = around


def _state(seed: int) -> Tensor:
    return torch.Generator().manual_seed(seed).get_state()
