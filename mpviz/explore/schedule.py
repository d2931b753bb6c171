"""Move the sizes of a pipeline, and see who computes what when, and what waits."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from .. import draw
from .._checks import listed, whole_number
from ..schedule import (
    Plan,
    gpipe,
    interleaved_1f1b,
    one_forward_one_backward,
    zero_bubble_h1,
    zero_bubble_v,
)
from ..schedule.classic import check_interleaving
from ..schedule.zero_bubble import check_v
from ..timeline import Timeline, simulate
from .controls import Control, Menu, Slider, notches
from .explorer import Explorer, Fix, Setting, Settings, View
from .sizes import check_choice

MOST_ACTIONS = 200_000
"""The most that an explorer simulates and draws on each move."""


class _ScheduleKind(NamedTuple):
    """A schedule: what a menu calls it, and what is known of its plan before it is made."""

    title: str
    plan: Callable[..., Plan]
    check: Callable[..., None] = lambda **sizes: None
    """Raises where there is no plan of these sizes."""
    stages: int | None = 1
    """Of a rank; None where a setting says."""
    actions: int = 2
    """Of a stage for each microbatch: F and B, or F, I and W."""

    def sizes(self, settings: Mapping[str, Any]) -> dict[str, int]:
        """Return the sizes that its plan takes."""
        names = ("microbatches", "pp", *(["chunks"] if self.stages is None else []))
        return {name: settings[name] for name in names}


_KINDS = {
    "gpipe": _ScheduleKind("GPipe", gpipe),
    "1f1b": _ScheduleKind("1F1B", one_forward_one_backward),
    "interleaved": _ScheduleKind(
        "interleaved 1F1B", interleaved_1f1b, check_interleaving, stages=None
    ),
    "zb-h1": _ScheduleKind("zero bubble, ZB-H1", zero_bubble_h1, actions=3),
    "zb-v": _ScheduleKind(
        "zero bubble, ZB-V", zero_bubble_v, lambda pp, **_: check_v(pp), stages=2, actions=3
    ),
}
_DEFAULTS = {"chunks": 2, "backward": 2.0, "time": None}
_RECORDED = {
    **{"kind": tuple(_KINDS), "pp": (2, 4), "microbatches": (4, 8)},
    "time": (None, *range(0, 101, 4)),
}
_MOST = {"pp": 64, "microbatches": 512, "chunks": 8}
_LABELS = {"microbatches": "microbatches", "chunks": "stages / rank"}
_RATIOS = (1.0, 1.5, 2.0, 2.5, 3.0)
_MOST_ROWS = 8
_NOTE = (
    "A forward of all layers of a rank takes 1; with several stages, each takes its share. "
    "Held: activations of so many microbatches, a stage's share counted as such."
)


class ScheduleExplorer(Explorer):
    """Sliders over one pipeline schedule; made by `schedule`."""

    _title = "Explore one pipeline schedule"
    _call = "explore.schedule"
    _defaults = _DEFAULTS
    _recorded = _RECORDED

    kind, backward, time = Setting(), Setting(), Setting()
    pp, microbatches, chunks = Setting(), Setting(), Setting()

    _last: tuple[Mapping[str, Any], Plan, Timeline] | None = None

    @property
    def timeline(self) -> Timeline:
        """The plan played through, in units of one forward."""
        return self._played(self._good)[1]

    def _played(self, settings: Settings) -> tuple[Plan, Timeline]:
        """Return the plan and its time line: the last ones, if only another moment is looked at."""
        key = {name: one for name, one in self._arguments(settings).items() if name != "time"}
        last = self._last
        if last is None or last[0] != key:
            plan = plan_of(settings)
            self._last = last = key, plan, simulated(plan, settings["backward"])
        return last[1:]

    def _controls(self, settings: Settings) -> Sequence[Control]:
        plans = tuple((kind.title, name) for name, kind in _KINDS.items())
        ratios = dict.fromkeys((*_RATIOS, settings["backward"]))
        return [
            Menu("kind", "schedule", plans),
            Menu("backward", "a backward takes", tuple((f"{r:g} forwards", r) for r in ratios)),
            *(
                Slider(name, _LABELS.get(name, name), notches(most, settings[name]))
                for name, most in _MOST.items()
            ),
            Slider("time", "time, %", range(-1, 101), plays=True),
        ]

    def _check(self, settings: Settings) -> None:
        for name in _MOST:
            whole_number(name, settings[name])
        check_choice("kind", settings["kind"], _KINDS)
        backward = settings["backward"]
        number = isinstance(backward, int | float) and not isinstance(backward, bool)
        if not number or not 0 < backward < 100:
            raise ValueError(f"backward must be a number of forwards, 0 … 100, got {backward!r}")
        if settings["time"] is not None and whole_number("time", settings["time"], least=0) > 100:
            raise ValueError(f"time is a percentage of all, 0 … 100, got {settings['time']}")

    def _viewed(self, settings: Settings) -> View:
        plan, timeline = self._played(settings)
        moment = None if settings["time"] is None else settings["time"] / 100 * timeline.makespan
        title = _KINDS[settings["kind"]].title
        picture = draw.timeline(timeline, title=title, at=moment)
        summary = (
            f"{title}: {timeline.makespan:g} forwards long, {timeline.bubble_fraction:.1%} of all "
            f"time idle"
        )
        return View(picture, summary, table(plan, timeline, moment), _NOTE, plan)

    def _arguments(self, settings: Settings) -> Mapping[str, Any]:
        ignored = () if _KINDS[settings["kind"]].stages is None else ("chunks",)
        return {name: value for name, value in settings.items() if name not in ignored}

    def _fixes(self, settings: Settings, moved: str) -> list[Fix]:
        return [
            Fix(f"{_LABELS.get(name, name)} = {value}", {name: value})
            for name in sorted(_MOST, key=lambda name: name != moved)
            for value in _neighbours(settings, name)
        ][:3]


def schedule(
    kind: str = "1f1b",
    *,
    pp: int = 4,
    microbatches: int = 8,
    chunks: int = 2,
    backward: float = 2.0,
    time: int | None = None,
) -> ScheduleExplorer:
    """Show a pipeline schedule with sliders for its sizes.

    Parameters
    ----------
    kind : {"gpipe", "1f1b", "interleaved", "zb-h1", "zb-v"}
        Which schedule.
    pp, microbatches : int
        Pipeline ranks, and microbatches in a step.
    chunks : int
        Stages on each rank, where they are interleaved.
    backward : float
        How many forwards a backward takes; its two halves take as long as each other.
    time : int, optional
        A moment to look at, in percent of the whole.

    Returns
    -------
    ScheduleExplorer
        A widget with a trait for each setting. Its ``value`` is the plan that the picture shows,
        its ``timeline`` the plan played through.

    Raises
    ------
    ValueError
        When the first settings do not fit. Later ones are explained in its ``problem``.

    Examples
    --------
    >>> explorer = schedule(pp=4, microbatches=8)
    >>> explorer.timeline
    4 ranks, 64 actions in 33 s, bubble 27.3 %
    >>> explorer.set(kind="interleaved", microbatches=6)
    >>> print(explorer.problem.partition(";")[0])
    interleaving deals microbatches to pp=4 ranks 4 at a time, and 4 does not divide 6
    """
    settings = {"kind": kind, "pp": pp, "microbatches": microbatches, "chunks": chunks}
    return ScheduleExplorer(settings | {"backward": backward, "time": time})


def plan_of(settings: Mapping[str, Any]) -> Plan:
    """Return the plan of some settings, or raise ``ValueError``."""
    check_sizes(settings)
    kind = _KINDS[settings["kind"]]
    return kind.plan(**kind.sizes(settings))


def check_sizes(settings: Mapping[str, Any]) -> None:
    """Raise unless there is a plan of these settings, and a small enough one; make none."""
    kind, microbatches = _KINDS[settings["kind"]], settings["microbatches"]
    actions = _actions(settings)
    if actions > MOST_ACTIONS:
        stages = actions // (microbatches * kind.actions)
        raise ValueError(
            f"{stages:,} stages × {microbatches:,} microbatches are {actions:,} actions; the "
            f"explorer draws up to {MOST_ACTIONS:,}, so {_what_would_fit(settings)}"
        )
    kind.check(**kind.sizes(settings))


def simulated(plan: Plan, backward: float) -> Timeline:
    """Play a plan through, in units of one forward of all that a rank holds."""
    share = 1 / plan.chunks
    half = backward * share / 2
    return simulate(plan, {"F": share, "I": half, "W": half})  # B is both


def table(plan: Plan, timeline: Timeline, moment: float | None) -> list[tuple[str, ...]]:
    """Return a row for each rank: what it does at the moment, how long it works, what it holds."""
    doing = timeline.at(moment) if moment is not None else [None] * plan.pp
    now = f"at {moment:.3g}" if moment is not None else "now"
    rows: list[tuple[str, ...]] = [("rank", now, "works", "holds at most")]
    for rank, event in enumerate(doing[:_MOST_ROWS]):
        action = f"{event.stage}{event.name}{event.microbatch}" if event else "waits"
        works = timeline.busy[rank] / timeline.makespan
        held = timeline.peak_in_flight[rank] / plan.chunks
        rows.append((str(rank), action if moment is not None else "–", f"{works:.0%}", f"{held:g}"))
    if plan.pp > _MOST_ROWS:
        rows.append((f"… {plan.pp - _MOST_ROWS} more", "", "", ""))
    return rows


def _what_would_fit(settings: Mapping[str, Any]) -> str:
    """Say up to where each size may go, the others as they are; or all, where none is enough."""
    sizes = _KINDS[settings["kind"]].sizes(settings)
    fewer = [f"{name} up to {most:,}" for name in sizes if (most := _most(settings, name))]
    if fewer:
        return f"{listed(fewer, ' or ')} would fit, the rest as it is"
    most = MOST_ACTIONS // _actions({**settings, **dict.fromkeys(sizes, 1)})
    return f"{' × '.join(sizes)} may be up to {most:,}"


def _actions(settings: Mapping[str, Any]) -> int:
    kind = _KINDS[settings["kind"]]
    stages = settings["pp"] * (kind.stages or settings["chunks"])
    return int(stages * settings["microbatches"] * kind.actions)


def _most(settings: Mapping[str, Any], name: str) -> int:
    """Return the largest value of one size that the explorer draws, the others as they are."""
    return MOST_ACTIONS // _actions({**settings, name: 1})


def _neighbours(settings: Mapping[str, Any], name: str) -> Iterator[int]:
    """Yield the nearest smaller and the nearest larger value of one size that make a plan."""
    here = settings[name]
    smaller = min(here - 1, _most(settings, name))  # not one by one down from a million
    for values in (range(here + 1, _MOST[name] + 1), range(smaller, 0, -1)):
        for value in values:
            try:
                check_sizes({**settings, name: value})
            except ValueError:
                continue
            yield value
            break
