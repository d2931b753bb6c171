"""Judge of a function that a learner wrote: tried over many cases, compared with known mistakes."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from math import isclose
from typing import Any

from .verdict import Verdict

Function = Callable[..., Any]


def judged_function(
    answer: object,
    right: Function,
    cases: Sequence[tuple[object, ...]],
    praise: str,
    mistakes: Mapping[Function, str],
) -> Verdict:
    """Judge a function by what it returns for each of the cases.

    Parameters
    ----------
    answer : object
        What the learner gave.
    right : callable
        The right function.
    cases : sequence of tuples of arguments
        Where both are tried.
    praise : str
        What a right answer hears.
    mistakes : mapping of callable to str
        Wrong functions that learners write, and the hint for each: given if the answer returns
        the same as one of them everywhere.
    """
    if not callable(answer):
        return Verdict(False, f"{answer!r} is not a function. Write one: def answer(…): return …")
    given = []
    for case in cases:
        try:
            given.append(answer(*deepcopy(case)))
        except Exception as error:
            said = str(error).partition("\n")[0]
            return Verdict(
                False, f"{_call(case)} stops with {type(error).__name__}{said and ': '}{said}."
            )
        if given[-1] is None:
            return Verdict(False, f"{_call(case)} returns None. Is there a `return`?")
    wanted = [right(*case) for case in cases]
    missed = next((i for i, want in enumerate(wanted) if not _same(given[i], want)), None)
    if missed is None:
        return Verdict(True, praise)
    for wrong, hint in mistakes.items():
        if all(_same(one, wrong(*case)) for one, case in zip(given, cases, strict=True)):
            return Verdict(False, hint)
    said = " ".join(repr(given[missed]).split())
    return Verdict(
        False, f"{_call(cases[missed])} returns {said}, and should return {wanted[missed]!r}."
    )


def _call(case: Sequence[object]) -> str:
    return f"answer({', '.join(map(repr, case))})"


def _same(given: object, wanted: object) -> bool:
    """Return whether two results are equal: numbers to rounding, lists in any container."""
    try:
        if isinstance(wanted, list):
            return bool(list(given) == wanted)  # type: ignore[call-overload]
        if isinstance(wanted, float):
            return isclose(given, wanted, rel_tol=1e-6)  # type: ignore[arg-type]
        return bool(given == wanted)
    except (TypeError, ValueError):
        return False
