"""Move through the steps of a collective, and see who holds what and who sends what to whom."""

from collections.abc import Sequence
from itertools import islice
from typing import Any

from .. import draw
from .._checks import whole_number
from ..schedule import ALGORITHMS, CollectivePlan
from ..schedule import collective as plan_of
from .controls import Control, Menu, Slider
from .explorer import Explorer, Fix, Setting, Settings, View
from .sizes import check_choice, check_text

_MOST_RANKS = 8
_DEFAULTS = {"step": 0}
_RECORDED = {
    "name": tuple(ALGORITHMS),
    **{"ranks": range(1, _MOST_RANKS + 1), "step": range(2 * _MOST_RANKS - 1)},
}
_EVERY = tuple(dict.fromkeys(name for known in ALGORITHMS.values() for name in known))
_NOTE = "Bytes are those of a tensor of 1 GB: an all-gather's result, the input of the others."


class CollectiveExplorer(Explorer):
    """A slider over the steps of one collective; made by `collective`."""

    _title = "Explore one collective"
    _call = "explore.collective"
    _defaults = _DEFAULTS
    _recorded = _RECORDED

    name, algorithm = Setting(), Setting()
    ranks, step = Setting(), Setting()

    def _controls(self, settings: Settings) -> Sequence[Control]:
        known = ALGORITHMS[settings["name"]]
        return [
            Menu("name", "collective", tuple((name, name) for name in ALGORITHMS)),
            Menu("algorithm", "algorithm", tuple((name, name) for name in known)),
            Slider("ranks", "ranks", range(1, max(_MOST_RANKS, settings["ranks"]) + 1)),
            Slider("step", "step", range(max(_last(settings), settings["step"]) + 1), plays=True),
        ]

    def _check(self, settings: Settings) -> None:
        check_choice("name", settings["name"], ALGORITHMS)
        check_choice("algorithm", settings["algorithm"], _EVERY)
        whole_number("ranks", settings["ranks"])
        whole_number("step", settings["step"], least=0)

    def _after(self, settings: Settings, name: str) -> Settings:
        known = ALGORITHMS[settings["name"]]
        if name == "name" and settings["algorithm"] not in known:
            settings["algorithm"] = next(iter(known))
        if name != "step":
            settings["step"] = min(settings["step"], _last(settings, otherwise=settings["step"]))
        return settings

    def _viewed(self, settings: Settings) -> View:
        step = settings["step"]
        plan = _plan(settings)
        picture = draw.collective(plan, step)
        summary = f"{plan}: after step {step} of {len(plan.steps)}"
        return View(picture, summary, table(plan, step), _NOTE, plan)

    def _fixes(self, settings: Settings, moved: str) -> list[Fix]:
        here = settings["ranks"]
        several: dict[str, list[Any]] = {
            "step": [_last(settings)],
            "ranks": sorted(range(1, _MOST_RANKS + 1), key=lambda ranks: abs(ranks - here)),
            "algorithm": list(ALGORITHMS[settings["name"]]),
        }
        fixes = []
        for name in sorted(several, key=lambda name: name != moved):
            fitting = (v for v in several[name] if _fits(self._followed(settings, name, v)))
            fixes += [Fix(f"{name} = {value}", {name: value}) for value in islice(fitting, 1)]
        return fixes


def collective(
    name: str = "all_reduce", *, ranks: int = 4, algorithm: str = "", step: int = 0
) -> CollectiveExplorer:
    """Show a collective with a slider over its steps, which plays as a film.

    Parameters
    ----------
    name : str
        Which collective, by torch's name (see `schedule.collective`).
    ranks : int
        1 … 8.
    algorithm : str, optional
        The collective's first one if not given.
    step : int
        After how many steps.

    Returns
    -------
    CollectiveExplorer
        A widget with a trait for each setting. Its ``value`` is the plan.

    Raises
    ------
    ValueError
        When the first settings do not fit. Later ones are explained in its ``problem``.

    Examples
    --------
    >>> explorer = collective("all_reduce", ranks=4, algorithm="halving_doubling")
    >>> explorer.step = 4
    >>> explorer.value.sent(4)
    array([6, 6, 6, 6])
    >>> explorer.ranks = 6
    >>> print(explorer.problem.partition(";")[0])
    halving_doubling pairs ranks that differ in one bit, so ranks must be a power of two, got 6
    """
    check_text({"name": name}, "name")
    if algorithm == "":
        algorithm = plan_of(name, ranks).algorithm
    return CollectiveExplorer({"name": name, "algorithm": algorithm, "ranks": ranks, "step": step})


def table(plan: CollectivePlan, step: int) -> list[tuple[str, ...]]:
    """Return a row for each rank: whom it sends to and hears from in a step, and bytes so far."""
    rows: list[tuple[str, ...]] = [("rank", "sends to", "receives from", "sent so far")]
    sends = plan.steps[step - 1] if step else ()
    for rank, count in enumerate(plan.sent(step).tolist()):
        to = [str(send.receiver) for send in sends if send.sender == rank]
        by = [str(send.sender) for send in sends if send.receiver == rank]
        megabytes = f"{1_000 * count / plan.chunks:,.0f} MB"
        rows.append((str(rank), ", ".join(to) or "–", ", ".join(by) or "–", megabytes))
    return rows


def _plan(settings: Settings) -> CollectivePlan:
    ranks = settings["ranks"]
    if ranks > _MOST_RANKS:
        raise ValueError(f"the explorer draws up to {_MOST_RANKS} ranks, got {ranks:,}")
    return plan_of(settings["name"], ranks, settings["algorithm"])


def _fits(settings: Settings) -> bool:
    most = {"ranks": _MOST_RANKS, "step": _last(settings, otherwise=-1)}
    return all(settings[name] <= value for name, value in most.items())


def _last(settings: Settings, otherwise: int = 0) -> int:
    """Return the number of steps; ``otherwise`` where the settings make no plan."""
    try:
        return len(_plan(settings).steps)
    except ValueError:
        return otherwise
