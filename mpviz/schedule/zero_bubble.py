"""Zero bubble: the backward split in two, and the half that nobody waits for put into the gaps.

``I``, the gradient of a stage's input, is what the stage before it waits for. ``W``, the gradient
of its weights, can wait: it fills the time in which a rank would have nothing to do.
"""

from .._checks import whole_number
from .plan import Action, Plan, v_shaped


def zero_bubble_h1(*, pp: int, microbatches: int) -> Plan:
    """Return ZB-H1: 1F1B with each weight gradient put off, on rank r by r microbatches.

    Every rank holds at most p microbatches' activations, as many as rank 0 in 1F1B. From p
    microbatches on, and while W takes no longer than F and than I, the bubble is
    (p - 1)(F + I - W): a third of 1F1B's when the three take the same time. Otherwise it is
    longer than that.

    Source: Qi et al. 2023, "Zero Bubble Pipeline Parallelism" (arXiv 2401.10241), section 2.2
    and table 2.

    Examples
    --------
    >>> zero_bubble_h1(pp=2, microbatches=3)
    rank 0  0F0 0F1 0I0 0W0 0F2 0I1 0W1 0I2 0W2
    rank 1  1F0 1I0 1F1 1I1 1W0 1F2 1I2 1W1 1W2
    """
    pp, microbatches = whole_number("pp", pp), whole_number("microbatches", microbatches)
    return Plan(
        name="ZB-H1",
        pp=pp,
        microbatches=microbatches,
        actions=tuple(_h1_rank(rank, pp, microbatches) for rank in range(pp)),
    )


def _h1_rank(rank: int, pp: int, microbatches: int) -> tuple[Action, ...]:
    warmup = min(pp - rank - 1, microbatches)
    actions = [Action(rank, "F", k) for k in range(warmup)]
    for k in range(microbatches):
        if warmup + k < microbatches:
            actions.append(Action(rank, "F", warmup + k))
        actions.append(Action(rank, "I", k))
        if k >= rank:
            actions.append(Action(rank, "W", k - rank))
    actions += [Action(rank, "W", k) for k in range(max(microbatches - rank, 0), microbatches)]
    return tuple(actions)


def zero_bubble_v(*, pp: int, microbatches: int) -> Plan:
    """Return ZB-V: two stages on each rank, placed in a V, and no bubble between them.

    Rank 0 holds the first stage and the last, so that the backward begins where the forward
    ends. From 2p - 1 microbatches on, and when F, I and W take the same time, no rank waits once
    it has begun. It holds at most 2p activations of its half-sized stages: what 1F1B holds.

    Source: Qi et al. 2023 (arXiv 2401.10241), section 6, and 2024 (arXiv 2405.15362).

    Parameters
    ----------
    pp : int
        Pipeline ranks, p; at least 2.
    microbatches : int
        Any number.

    Examples
    --------
    >>> zero_bubble_v(pp=2, microbatches=1)
    rank 0  0F0 3F0 3I0 3W0 0I0 0W0
    rank 1  1F0 2F0 2I0 2W0 1I0 1W0
    """
    pp, microbatches = whole_number("pp", pp), whole_number("microbatches", microbatches)
    check_v(pp)
    return Plan(
        name="ZB-V",
        pp=pp,
        microbatches=microbatches,
        chunks=2,
        # With fewer, the ranks leave out what a full pipeline would do with the others.
        actions=tuple(
            tuple(
                action
                for action in _VRank(rank, pp).actions(max(microbatches, 2 * pp - 1))
                if action.microbatch < microbatches
            )
            for rank in range(pp)
        ),
        placement=v_shaped(pp),
    )


def check_v(pp: int) -> None:
    """Raise unless such a plan exists, without making it."""
    if pp == 1:
        raise ValueError("a V turns back at the last of several ranks; pp=1 has none to go to")


class _VRank:
    """One rank of ZB-V: each of its two stages takes the microbatches in order."""

    def __init__(self, rank: int, pp: int) -> None:
        self._rank, self._to_last = rank, pp - rank
        self._stage = {"down": rank, "up": 2 * pp - 1 - rank}
        self._done = {(way, kind): 0 for way in self._stage for kind in "FIW"}
        self._actions: list[Action] = []

    def actions(self, microbatches: int) -> tuple[Action, ...]:
        self._warm_up()
        while self._done["up", "F"] < microbatches:
            if self._done["down", "F"] < microbatches:
                self._do("down", "F")
            self._do("down", "IW")
            self._do("up", "FIW")
        self._cool_down()
        return tuple(self._actions)

    def _warm_up(self) -> None:
        for _ in range(2 * self._to_last - 1):
            self._do("down", "F")
        for _ in range(self._rank):
            self._do("up", "F")
            self._do("down", "F")
        for _ in range(self._to_last):
            self._do("up", "FIW")

    def _cool_down(self) -> None:
        for _ in range(self._rank):
            self._do("down", "I")
            self._do("up", "I")
        for _ in range(self._to_last):
            self._do("down", "IW")
        for way in ("up", "down"):
            while self._done[way, "W"] < self._done[way, "I"]:
                self._do(way, "W")

    def _do(self, way: str, kinds: str) -> None:
        for kind in kinds:
            self._actions.append(Action(self._stage[way], kind, self._done[way, kind]))
            self._done[way, kind] += 1
