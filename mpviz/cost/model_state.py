"""What a rank holds of a model in training and sends in a step, under each stage of ZeRO."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from numbers import Real

from .._checks import listed, whole_number

KINDS = ("optimizer", "gradients", "weights")
"""What a rank holds, in the order in which the stages cut it: stage 1 the first, 2 two, 3 all."""


@dataclass(frozen=True)
class Precision:
    """Bytes for each parameter in training with Adam.

    Attributes
    ----------
    weights, gradients, optimizer : int
        Bytes of a weight, of its gradient, and of what the optimizer keeps of it.
    source : str
        Where the three numbers come from.
    """

    weights: int
    gradients: int
    optimizer: int
    source: str

    def cut(self, stage: int) -> int:
        """Return the bytes for each parameter that a stage cuts."""
        return sum(getattr(self, kind) for kind in KINDS[:stage])

    def whole(self, stage: int) -> int:
        """Return those that every rank goes on holding.

        >>> PRECISIONS["bf16"].whole(1), PRECISIONS["bf16"].cut(1)
        (6, 12)
        """
        return sum(getattr(self, kind) for kind in KINDS[stage:])


_MEGATRON = "Megatron-LM, docs/source/api-guide/dist_optimizer.md"

PRECISIONS: dict[str, Precision] = {
    "mixed": Precision(2, 2, 12, "Rajbhandari et al. 2020 (arXiv 1910.02054), section 3.1: K = 12"),
    "bf16": Precision(2, 4, 12, f"{_MEGATRON}: bf16 with fp32 gradients, 18 → 6 + 12/d"),
    "fp16": Precision(
        2, 2, 16, f"{_MEGATRON}: fp16, a copy of the gradients in fp32, 20 → 4 + 16/d"
    ),
    "fp32": Precision(4, 4, 8, f"{_MEGATRON}: fp32, two moments alone, 16 → 8 + 8/d"),
}
"""By name. The optimizer keeps two moments, and a copy in fp32 of weights that are not."""


@dataclass(frozen=True)
class ModelState:
    """What one rank holds, and sends in a step of one backward.

    Attributes
    ----------
    weights, gradients, optimizer : int
        Bytes held between backward and the update.
    sent : mapping of str to int
        Elements by collective, sent as a ring does (see `schedule.collective`).
    sent_bytes : mapping of str to int
        The same in bytes: gradients are reduced in their precision, weights gathered in theirs.
    """

    weights: int
    gradients: int
    optimizer: int
    sent: Mapping[str, int]
    sent_bytes: Mapping[str, int]

    @property
    def total(self) -> int:
        """Bytes of all that is held."""
        return self.weights + self.gradients + self.optimizer


def zero(parameters: int, dp: int, stage: int, precision: str = "mixed") -> ModelState:
    """Return what a rank holds and sends in a stage of ZeRO.

    A shard is 1/dp of the parameters, rounded up, as buffers are padded. Activations, buckets
    under way and weights gathered for a moment come on top.

    Parameters
    ----------
    parameters : int
        Ψ: those that the rank would hold alone; of a model cut by tp and pp, its piece.
    dp : int
        Ranks that hold the same piece.
    stage : int
        0: nothing is cut; 1: the optimizer's state; 2: gradients too; 3: weights too.
    precision : str
        One of `PRECISIONS`.

    Returns
    -------
    ModelState
        Bytes held, and elements and bytes sent: 2Ψ, 2Ψ, 2Ψ and 3Ψ elements, times (dp-1)/dp.

    Raises
    ------
    ValueError
        When a number is none of these, or there are more ranks than parameters.

    Notes
    -----
    Source: Rajbhandari et al. 2020 (arXiv 1910.02054), sections 5 and 7.

    Examples
    --------
    The paper's Figure 1:

    >>> [f"{zero(7_500_000_000, 64, stage).total / 1e9:.3g} GB" for stage in range(4)]
    ['120 GB', '31.4 GB', '16.6 GB', '1.88 GB']
    >>> zero(1000, 4, 3).sent
    {'reduce_scatter': 750, 'all_gather': 1500}
    """
    each = check_state(parameters, dp, stage, precision)
    parameters, dp = int(parameters), int(dp)  # numpy's would overflow
    shard = -(-parameters // dp)
    held = {
        kind: getattr(each, kind) * (shard if place < stage else parameters)
        for place, kind in enumerate(KINDS)
    }
    once = (dp - 1) * shard
    gathered = 2 if stage == 3 else 1
    sent = {"all_reduce": 2 * once}
    if stage:
        sent = {"reduce_scatter": once, "all_gather": gathered * once}
    size = {"all_reduce": each.gradients, "reduce_scatter": each.gradients}
    in_bytes = {name: count * size.get(name, each.weights) for name, count in sent.items()}
    return ModelState(**held, sent=sent, sent_bytes=in_bytes)


def least_dp(parameters: int, stage: int, precision: str, capacity: float) -> int | None:
    """Return over how many ranks at least a stage has to cut a model to fit into so many bytes.

    None where what the stage leaves whole is too much already; ``ValueError`` as of `zero`.

    >>> [least_dp(7_500_000_000, stage, "mixed", 80e9) for stage in range(4)]
    [None, 2, 2, 2]
    """
    each = check_state(parameters, 1, stage, precision)
    real = isinstance(capacity, Real) and not isinstance(capacity, bool)
    if not real or not 0 <= capacity < inf:
        raise ValueError(f"capacity must be a number of bytes, 0 or more, got {capacity!r}")
    room = int(capacity) - each.whole(stage) * parameters
    if not each.cut(stage):
        return 1 if room >= 0 else None
    shard = room // each.cut(stage)
    return -(-parameters // shard) if shard > 0 else None


def check_state(parameters: int, dp: int, stage: int, precision: str) -> Precision:
    """Return the bytes of a precision, or raise ``ValueError`` for what `zero` cannot count."""
    whole_number("parameters", parameters)
    whole_number("dp", dp)
    if whole_number("stage", stage, least=0) > len(KINDS):
        raise ValueError(f"stage must be 0, 1, 2 or 3, got {stage}")
    if not isinstance(precision, str) or precision not in PRECISIONS:
        known = listed(map(repr, PRECISIONS), " or ")
        raise ValueError(f"precision must be {known}, got {precision!r}")
    if dp > parameters:
        raise ValueError(
            f"dp={dp:,} ranks cannot share {parameters:,} parameters; dp may be up to "
            f"{parameters:,}"
        )
    return PRECISIONS[precision]
