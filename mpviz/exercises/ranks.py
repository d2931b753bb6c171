"""Try a learner's function on real ranks, and say how it failed if it did."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..layout import ParallelLayout
from .verdict import Verdict

if TYPE_CHECKING:
    from ..world.results import Results

SECONDS = 10.0
"""How long a try may take; a function that has not returned by then hangs."""


def no_function(answer: object, header: str, wanted: str) -> Verdict | None:
    """Refuse what cannot be called.

    >>> no_function(3, "def answer(x):", "return the sum")
    ✗ 3 is not a function; write def answer(x): and return the sum.
    """
    if callable(answer):
        return None
    return Verdict(False, f"{answer!r} is not a function; write {header} and {wanted}.")


def tried(
    attempt: Callable[..., Any],
    answer: object,
    layout: ParallelLayout,
    on_hang: Callable[[Mapping[int, str]], str],
) -> "Results | Verdict":
    """Run ``attempt`` on every rank of a layout, with the answer as its last argument.

    Parameters
    ----------
    attempt : callable
        What each rank does; like any function for `World.run`.
    answer : callable
        The learner's.
    layout : ParallelLayout
        Ranks to start.
    on_hang : callable
        Makes a hint of ``{rank: operation}``, the ranks that waited until the deadline.

    Returns
    -------
    Results or Verdict
        A verdict if the answer raised or hung.
    """
    from ..world import RanksError, World  # only whoever answers pays for ranks

    with World(layout, timeout=SECONDS) as world:
        try:
            return world.run(attempt, answer, record=True)
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


def lend(answer: Callable[..., Any]) -> None:
    """Give the answer what a lesson imports on its ranks alone: torch, dist and F.

    Its own names are those of the kernel, which has none of them.
    """
    import torch

    names = getattr(answer, "__globals__", {})
    names.setdefault("torch", torch)
    names.setdefault("dist", torch.distributed)
    names.setdefault("F", torch.nn.functional)


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
