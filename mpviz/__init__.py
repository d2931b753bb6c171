"""See, move and really run Megatron-LM's model parallelism.

The public surface, resolved on first use so that ``import mpviz`` costs next to nothing:

- `ParallelLayout`: who is who: ranks, coordinates, groups;
- `presets`: the slide's case, Megatron's Table 1, Llama 3 405B, DeepSeek-V3;
- `shards`: what each rank holds;
- `schedule`: pipeline plans; `simulate` plays one through, a `Timeline` tells what it costs;
- `draw`: the pictures;
- `World`: real ranks, started from a notebook, and ``%%ranks``;
- `explore`: the pictures with sliders;
- `exercises`: checks of a learner's answers;
- `doctor`: is this install ready for the lessons?
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import mpviz.draw as draw
    import mpviz.exercises as exercises
    import mpviz.explore as explore
    import mpviz.presets as presets
    import mpviz.schedule as schedule
    import mpviz.shards as shards

    from ._doctor import doctor
    from .layout import ParallelLayout
    from .names import GROUP_KINDS, MEGATRON_ORDER, TP_PP_DP_ORDER
    from .rankgrid import Groups, RankGrid
    from .timeline import Event, Timeline, sent_bytes, simulate
    from .world import RanksError, World

__version__ = "0.1.0"

_HOME = {
    "ParallelLayout": "layout",
    "GROUP_KINDS": "names",
    "MEGATRON_ORDER": "names",
    "TP_PP_DP_ORDER": "names",
    "Groups": "rankgrid",
    "RankGrid": "rankgrid",
    "Event": "timeline",
    "Timeline": "timeline",
    "sent_bytes": "timeline",
    "simulate": "timeline",
    "World": "world",
    "RanksError": "world",
    "doctor": "_doctor",
}
_MODULES = ("draw", "exercises", "explore", "presets", "schedule", "shards")

__all__ = [
    "GROUP_KINDS",
    "MEGATRON_ORDER",
    "TP_PP_DP_ORDER",
    "Event",
    "Groups",
    "ParallelLayout",
    "RankGrid",
    "RanksError",
    "Timeline",
    "World",
    "doctor",
    "draw",
    "exercises",
    "explore",
    "presets",
    "schedule",
    "sent_bytes",
    "shards",
    "simulate",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f".{name}", __name__)
    if name in _HOME:
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def load_ipython_extension(shell: Any) -> None:
    """Give Jupyter the ``%%ranks`` magic: ``%load_ext mpviz``."""
    import_module(".world.magic", __name__).load(shell)
