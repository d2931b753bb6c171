"""What checks are made of: verdicts, and judges of the usual kinds of answers."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import wraps


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


def exercise(check: Check) -> Check:
    """Answer an unanswered exercise with one line, whatever its check needs."""

    @wraps(check)
    def checked(answer: object) -> Verdict:
        if answer is ... or answer is None:
            return Verdict(None, "not answered yet: put your answer in place of the three dots")
        return check(answer)

    return checked


def judged_number(answer: object, right: int, praise: str, mistakes: Mapping[int, str]) -> Verdict:
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


def judged_choice(answer: object, right: str, praise: str, mistakes: Mapping[str, str]) -> Verdict:
    """Judge a letter out of a few; ``mistakes`` has all but the right one."""
    name = answer.strip().lower() if isinstance(answer, str) else ""
    if name == right:
        return Verdict(True, praise)
    if name in mistakes:
        return Verdict(False, mistakes[name])
    *letters, last = (repr(letter) for letter in sorted({right, *mistakes}))
    choices = f"{', '.join(letters)} or {last}"
    return Verdict(False, f"{answer!r} is none of them; the answer is {choices}.")


def judged_ranks(
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
