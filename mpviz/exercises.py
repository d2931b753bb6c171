"""Checks of the lessons' exercises: each says ✓, or what is wrong with a hint for that mistake.

A lesson holds ``answer = ...`` and then, say, ``exercises.copies(answer)``. The right answers
are computed here from the same `ParallelLayout` that the lesson draws; the known wrong ones are
those that learners really give.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import wraps

from .layout import ParallelLayout
from .names import MEGATRON_ORDER
from .rankgrid import RankGrid

_SLIDE = ParallelLayout(nodes=2, gpus_per_node=8, tp=2, pp=4)


@dataclass(frozen=True, repr=False)
class Verdict:
    """What a check says.

    Attributes
    ----------
    correct : bool or None
        None while the exercise is unanswered.
    message : str
        Praise with the reason, or what is wrong with a hint.
    """

    correct: bool | None
    message: str

    def __repr__(self) -> str:
        mark = {True: "✓", False: "✗", None: "…"}[self.correct]
        return f"{mark} {self.message}"


Check = Callable[[object], Verdict]


def _exercise(check: Check) -> Check:
    """Answer an unanswered exercise with one line, whatever its check needs."""

    @wraps(check)
    def checked(answer: object) -> Verdict:
        if answer is ... or answer is None:
            return Verdict(None, "not answered yet: put your answer in place of the three dots")
        return check(answer)

    return checked


def _number(answer: object, right: int, praise: str, mistakes: Mapping[int, str]) -> Verdict:
    """Judge a whole number."""
    try:
        given = int(answer)  # type: ignore[call-overload]
        if given != answer:
            raise ValueError
    except (TypeError, ValueError):
        return Verdict(False, f"{answer!r} is not a whole number, and the answer is one.")
    if given == right:
        return Verdict(True, praise)
    hint = mistakes.get(given, "Count again, with the picture above.")
    return Verdict(False, f"{given} is not it. {hint}")


def _ranks(
    answer: object,
    right: Iterable[int],
    praise: str,
    mistakes: Mapping[tuple[int, ...], str],
) -> Verdict:
    """Judge a set of ranks; their order and the kind of container do not matter."""
    wanted = sorted(right)
    if isinstance(answer, int):
        answer = [answer]
    try:
        given = sorted({int(rank) for rank in answer})  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        return Verdict(False, f"{answer!r} is not a list of ranks such as [0, 1].")
    if given == wanted:
        return Verdict(True, praise)
    if tuple(given) in mistakes:
        return Verdict(False, mistakes[tuple(given)])
    foreign = [rank for rank in given if rank not in wanted]
    if len(given) != len(wanted):
        return Verdict(False, f"There are {len(wanted)} ranks in it, and you named {len(given)}.")
    return Verdict(False, f"Rank {foreign[0]} does not belong there. Find its cell in the picture.")


# ---- lesson 01


@_exercise
def copies(answer: object) -> Verdict:
    """How many model copies do 4 nodes of 8 GPUs hold at tp=4, pp=2?

    >>> copies(8)
    ✗ 8 is not it. That is how many GPUs one model takes; how many such models fit on 32?
    >>> copies(4)
    ✓ 32 GPUs / (tp 4 × pp 2) = 4 copies.
    """
    layout = ParallelLayout(nodes=4, gpus_per_node=8, tp=4, pp=2)
    one_model = layout.tp * layout.pp
    return _number(
        answer,
        layout.dp,
        f"{layout.world_size} GPUs / (tp {layout.tp} × pp {layout.pp}) = {layout.dp} copies.",
        {
            one_model: f"That is how many GPUs one model takes; how many such models fit on "
            f"{layout.world_size}?",
            layout.world_size: "That would be one copy on every GPU, so an uncut model.",
            layout.dp // 2: "Did you count the GPUs of two nodes? Here there are four.",
        },
    )


@_exercise
def ranks_of_copy_two(answer: object) -> Verdict:
    """Which ranks hold model copy 2 of the slide?

    >>> ranks_of_copy_two(range(8, 16)).message[:33]
    'That is node 1. Megatron does not'
    """
    first, second = _SLIDE.groups("model")
    return _ranks(
        answer,
        second,
        "Copy 2 sits on both nodes, and so does copy 1: dp varies faster than pp.",
        {
            tuple(range(8, 16)): "That is node 1. Megatron does not give each copy a node of its "
            "own: find the cells with subscript ₂ in the cluster picture.",
            tuple(sorted(first)): "That is copy 1: subscript ₁. Take the other half.",
            tuple(range(1, 16, 2)): "Those are all ranks with tp = 1, of both copies. A copy "
            "needs both rows of the slide.",
        },
    )


@_exercise
def same_parameters(answer: object) -> Verdict:
    """Which other rank holds the same parameters as rank 5 of the slide?

    >>> same_parameters(7)
    ✓ Ranks 5 and 7 both hold ⋈: they are a data-parallel group.
    """
    here, twin = _SLIDE.groups("dp").of(5)
    return _number(
        answer,
        twin,
        f"Ranks {here} and {twin} both hold ⋈: they are a data-parallel group.",
        {
            5: "That is rank 5 itself; which other rank shows ⋈?",
            4: "Rank 4 is its tensor-parallel partner: the other half of the same layers.",
            13: "Eight further would be right if each node held one copy. It does not.",
            1: "Rank 1 is an earlier stage of the same copy: other layers.",
            9: "Rank 9 is the next stage of the same copy: other layers.",
        },
    )


# ---- lesson 02


@_exercise
def rank_at(answer: object) -> Verdict:
    """Which rank sits at tp=1, dp=0, pp=2 on the slide?

    >>> rank_at(5)
    ✗ 5 is not it. You let pp vary before dp: in Megatron's default order dp comes first.
    """
    right = _SLIDE.rank(tp=1, dp=0, pp=2)
    dp_last = RankGrid(("tp", "pp", "dp"), (2, 4, 2)).rank({"tp": 1, "dp": 0, "pp": 2})
    pp_first = RankGrid(("pp", "dp", "tp"), (4, 2, 2)).rank({"tp": 1, "dp": 0, "pp": 2})
    return _number(
        answer,
        right,
        f"1 + 2 · 0 + 4 · 2 = {right}.",
        {
            dp_last: "You let pp vary before dp: in Megatron's default order dp comes first.",
            pp_first: "You let pp vary fastest; Megatron begins with tp.",
            right - 1: "That is its neighbour at tp=0.",
            3: "Do not add the coordinates: each counts as many ranks as its stride.",
        },
    )


@_exercise
def pipeline_group_of_six(answer: object) -> Verdict:
    """Which ranks are in the pipeline group of rank 6?

    >>> pipeline_group_of_six([2, 6, 10, 14])
    ✓ tp and dp stay, pp runs: steps of 4.
    """
    return _ranks(
        answer,
        _SLIDE.groups("pp").of(6),
        "tp and dp stay, pp runs: steps of 4.",
        {
            _SLIDE.groups("dp").of(6): "That is its data-parallel group: pp stayed and dp ran.",
            _SLIDE.groups("tp").of(6): "That is its tensor-parallel group: pp stayed and tp ran.",
            (4, 5, 6, 7): "Those are the four ranks that share rank 6's stage. The group you want "
            "has one rank of each stage.",
            (6, 10, 14): "A group holds the earlier stages too: go back from 6 as well.",
            (0, 2, 4, 6): "Those are steps of 2. Two pipeline neighbours are tp × dp = 4 apart.",
        },
    )


@_exercise
def largest_tp(answer: object) -> Verdict:
    """How large may tp be on 4 nodes of 8 GPUs (pp=1), if no tp group may cross a node?

    >>> largest_tp(16)
    ✗ 16 is not it. tp=16 works, but 2 of its 2 groups cross nodes.
    """
    sizes = [ParallelLayout(nodes=4, gpus_per_node=8, tp=tp) for tp in range(1, 33) if not 32 % tp]
    inside = [layout.tp for layout in sizes if not layout.crossings("tp")]
    crossing = {
        layout.tp: f"tp={layout.tp} works, but {len(layout.crossings('tp'))} of its "
        f"{len(layout.groups('tp'))} groups cross nodes."
        for layout in sizes
        if layout.tp not in inside
    }
    smaller = dict.fromkeys(inside, "No group crosses, true, but a larger tp also stays inside.")
    return _number(
        answer,
        max(inside),
        "As large as a node. That is why tp=8 is so common: most nodes hold 8 GPUs.",
        smaller | crossing,
    )


@_exercise
def order_of_the_guide(answer: object) -> Verdict:
    """Which ``order`` puts each model copy of the slide on a node of its own?

    >>> order_of_the_guide("tp-cp-ep-pp-dp").correct
    True
    """
    try:
        layout = ParallelLayout(nodes=2, gpus_per_node=8, tp=2, pp=4, order=answer)  # type: ignore[arg-type]
    except ValueError as error:
        return Verdict(False, f"{error}.")
    if layout.nodes_of("model") == [(0,), (1,)]:
        return Verdict(
            True,
            "With dp last, copy 1 is ranks 0–7. In Megatron that takes "
            "--use-tp-pp-dp-mapping; it is not the default.",
        )
    default = " That is Megatron's default." if layout.order == MEGATRON_ORDER else ""
    return Verdict(
        False,
        f"With {layout.order!r} copy 1 spans nodes 0 and 1.{default} Which axis must vary "
        f"slowest, so that a copy is finished before the next begins?",
    )


@_exercise
def gpus_with_experts(answer: object) -> Verdict:
    """How many GPUs do tp=2, pp=4 and dp=2 take if expert parallelism ep=2 is added?

    >>> gpus_with_experts(32)
    ✗ 32 is not it. ep is no factor of the world size: the experts regroup the same ranks.
    """
    layout = ParallelLayout(nodes=2, gpus_per_node=8, tp=2, pp=4, ep=2)
    return _number(
        answer,
        layout.world_size,
        f"Still {layout.world_size}: the two ranks of a dp group share out the experts, so "
        f"expert-dp is {layout.edp}.",
        {
            32: "ep is no factor of the world size: the experts regroup the same ranks.",
            8: "That is one model copy; dp=2 makes two.",
        },
    )


# ---- lesson 04


@_exercise
def sum_on_rank_five(answer: object) -> Verdict:
    """Which sum does rank 5 hold after an all-reduce of the ranks over its pp group?

    >>> sum_on_rank_five(28)
    ✓ 1 + 5 + 9 + 13 = 28, on all four stages.
    """
    members = _SLIDE.groups("pp").of(5)
    return _number(
        answer,
        sum(members),
        f"{' + '.join(map(str, members))} = {sum(members)}, on all four stages.",
        {
            sum(_SLIDE.groups("dp").of(5)): "That is the sum over its dp group, 5 and 7.",
            sum(_SLIDE.groups("tp").of(5)): "That is the sum over its tp group, 4 and 5.",
            4 + 5 + 6 + 7: "You added the ranks of its stage; pp runs over the stages.",
            sum(range(16)): "That is the sum over all ranks: without group= it would be right.",
            5: "All-reduce adds the tensors of all members, not only its own.",
        },
    )


@_exercise
def who_stays_away(answer: object) -> Verdict:
    """Which rank must join the all-reduce, so that rank 0 need not wait?

    >>> who_stays_away(0)
    ✗ 0 is not it. Rank 0 is the one that waits. For whom?
    """
    here, away = _SLIDE.groups("dp").of(0)
    return _number(
        answer,
        away,
        f"Without `if rank != {away}` it would join its group {here} {away}, and nobody waits.",
        {
            here: f"Rank {here} is the one that waits. For whom?",
            1: "Rank 1 is in another dp group, 1 and 3. That one was complete.",
        },
    )


@_exercise
def ring_bytes(answer: object) -> Verdict:
    """How many bytes does each of 8 ranks send in a ring all-reduce of 1,000,000 bytes?

    >>> ring_bytes(875_000)
    ✗ 875000 is not it. That is the reduce-scatter alone; the all-gather sends as much again.
    """
    n, size = 8, 1_000_000
    right = 2 * (n - 1) * size // n
    return _number(
        answer,
        right,
        f"2 · 7/8 · 1,000,000 = {right:,}.",
        {
            right // 2: "That is the reduce-scatter alone; the all-gather sends as much again.",
            2 * size: "Nearly: that is the limit for very many ranks. Here n is 8.",
            (n - 1) * size: "That is everything to everyone. The ring sends parts of 1/8.",
            right * n: "That is what all 8 ranks send together.",
            size: "Each rank sends more than one tensor and less than two.",
        },
    )
