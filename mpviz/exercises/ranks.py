"""Try a learner's function on real ranks, and say how it failed if it did."""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ..layout import ParallelLayout
from .verdict import Verdict

if TYPE_CHECKING:
    from ..world.results import Results

SECONDS = 10.0
"""How long a try may take; a function that has not returned by then hangs."""


def every_rank_must_call(waiting: Mapping[int, str]) -> str:
    """Say where an answer hangs, given ``{rank: operation}``, and the usual reason.

    >>> every_rank_must_call({0: "all_reduce"})
    'It hangs: rank 0 waits in all_reduce. Every rank must call each collective.'
    """
    rank, operation = next(iter(waiting.items()))
    return f"It hangs: rank {rank} waits in {operation}. Every rank must call each collective."


def tried(
    attempt: Callable[..., Any],
    answer: object,
    layout: ParallelLayout,
    asked: str,
    on_hang: Callable[[Mapping[int, str]], str] = every_rank_must_call,
    seconds: float | None = None,
) -> "Results | Verdict":
    """Run ``attempt`` on every rank of a layout, with the answer as its last argument.

    Parameters
    ----------
    attempt : callable
        What each rank does, like any function for `World.run`; what it returns as text is wrong
        with the answer.
    answer : callable
        The learner's.
    layout : ParallelLayout
        Ranks to start.
    asked : str
        What to write, such as ``"def answer(x): and return the sum"``.
    on_hang : callable
        Makes a hint of ``{rank: operation}``, the ranks that waited until the deadline.
    seconds : float, optional
        Until then; `SECONDS` if not given.

    Returns
    -------
    Results or Verdict
        A verdict if the answer is no function, raised, hung, or is wrong.

    Examples
    --------
    >>> tried(print, 3, ParallelLayout(), "def answer(x): and return the sum")
    ✗ 3 is not a function; write def answer(x): and return the sum.
    """
    if not callable(answer):
        return Verdict(False, f"{answer!r} is not a function; write {asked}.")
    from ..world import RanksError, World  # only whoever answers pays for ranks

    with World(layout, timeout=SECONDS if seconds is None else seconds) as world:
        try:
            results = world.run(attempt, answer, record=True)
        except RanksError as error:
            diagnosis = error.diagnosis
            waiting = {
                rank: state.removeprefix("waits in ")
                for rank, state in diagnosis.states.items()
                if state.startswith("waits in ")
            }
            if waiting and not diagnosis.failures and not diagnosis.run.died:
                return Verdict(False, on_hang(waiting))
            first = str(error).splitlines()[0]
            return Verdict(False, f"It does not run on the ranks: {first}")
    faults = [said for said in results if isinstance(said, str)]
    return Verdict(False, faults[0]) if faults else results


def lend(answer: Callable[..., Any]) -> None:
    """Give the answer what a lesson imports on its ranks alone: torch, dist and F.

    Its own names are those of the kernel, which has none of them.
    """
    import torch

    names = getattr(answer, "__globals__", {})
    names.setdefault("torch", torch)
    names.setdefault("dist", torch.distributed)
    names.setdefault("F", torch.nn.functional)


def in_a_row(numbers: Iterable[float]) -> str:
    """Write what the ranks hold.

    >>> in_a_row([4.0, 1.5])
    '4, 1.5'
    """
    return ", ".join(f"{number:g}" for number in numbers)


def described(returned: object) -> str:
    """Say what a function returned in place of a tensor, or of which shape it is.

    >>> described(None)
    'None. Is there a `return`?'
    >>> described(2)
    'an int.'
    """
    if returned is None:
        return "None. Is there a `return`?"
    name = type(returned).__name__
    article = "an" if name[0].lower() in "aeiou" else "a"
    shape = getattr(returned, "shape", None)
    return f"{article} {name}{'' if shape is None else f' of shape {[*shape]}'}."
