"""Move the sizes of a layout, and see who is where."""

from collections.abc import Mapping, Sequence
from typing import Any

from .. import draw, presets
from .._checks import whole_number
from ..layout import ParallelLayout
from ..names import MEGATRON_ORDER
from ..presets import EXAMPLE, MODELS, Preset
from . import words
from .controls import Control, Menu, Slider
from .explorer import Explorer, Fix, Setting, Settings, View
from .sizes import (
    LAYOUT,
    MOST_GPUS,
    check_choice,
    check_sizes,
    check_text,
    highlights,
    layout_of,
    order_menu,
    size_sliders,
    sizes_of,
    starting_layout,
    ways_out,
)

_OWN = "your own"
_DEFAULTS = {
    **{"cp": 1, "ep": 1, "expert_tp": None, "order": MEGATRON_ORDER},
    **{"highlight": None, "focus": None, "view": "grid", "model": EXAMPLE.name},
}
_RECORDED = {
    **{"nodes": (1, 2, 4), "tp": (1, 2, 4, 8), "pp": (1, 2, 4, 8)},
    "highlight": (None, "tp", "dp", "pp"),
}
_VIEWS = (("slide grid", "grid"), ("cluster", "cluster"))

PRESETS: dict[str, Preset] = {preset.name: preset for preset in presets.ALL}


class LayoutExplorer(Explorer):
    """Sliders over one layout; made by `layout`."""

    _title = "Explore one layout"
    _call = "explore.layout"
    _defaults = _DEFAULTS
    _pointed = "focus"
    _recorded = _RECORDED

    preset, model = Setting(), Setting()
    nodes, gpus_per_node = Setting(), Setting()
    tp, pp, cp, ep, expert_tp = Setting(), Setting(), Setting(), Setting(), Setting()
    order, highlight, view = Setting(), Setting(), Setting()
    # A widget of ipywidgets has a method of this name, for the keyboard; the field's word wins.
    focus = Setting()

    def _controls(self, settings: Settings) -> Sequence[Control]:
        gpus = min(settings["nodes"] * settings["gpus_per_node"], MOST_GPUS)
        last = max(gpus - 1, settings["focus"] or 0)
        return [
            Menu("preset", "preset", tuple((name, name) for name in (_OWN, *PRESETS))),
            Menu("model", "model", tuple((name, name) for name in MODELS)),
            *size_sliders(settings),
            order_menu("order", "order", settings["order"]),
            Menu("highlight", "highlight", highlights(settings["highlight"])),
            Menu("view", "drawn on", _VIEWS),
            Slider("focus", "focus", range(-1, last + 1)),
        ]

    def _check(self, settings: Settings) -> None:
        check_sizes(settings)
        if settings["focus"] is not None:
            whole_number("focus", settings["focus"], least=0)
        check_text(settings, "order", "view")
        check_choice("preset", settings["preset"], (_OWN, *PRESETS))
        check_choice("model", settings["model"], MODELS)
        if settings["highlight"] is not None:
            check_text(settings, "highlight")

    def _after(self, settings: Settings, name: str) -> Settings:
        if name == "preset" and settings["preset"] in PRESETS:
            chosen = PRESETS[settings["preset"]]
            settings |= {**sizes_of(chosen.layout), "model": model_of(chosen)}
        settings["preset"] = preset_of(settings)
        if settings["focus"] is not None and name != "focus":
            last = settings["nodes"] * settings["gpus_per_node"] - 1
            settings["focus"] = min(settings["focus"], last)
        return settings

    def _viewed(self, settings: Settings) -> View:
        layout = layout_of(settings)
        highlight, focus, view = (settings[name] for name in ("highlight", "focus", "view"))
        if view not in ("grid", "cluster"):
            raise ValueError(f"view must be 'grid' or 'cluster', got {view!r}")
        if highlight is not None:
            picture = draw.groups(layout, highlight, on=view, focus=focus)
        else:
            picture = (draw.grid if view == "grid" else draw.cluster)(layout, focus=focus)
        model = MODELS[settings["model"]]
        table, note = words.table(layout, model), words.note(layout, model)
        return View(picture, str(layout), table, note, layout)

    def _arguments(self, settings: Settings) -> Mapping[str, Any]:
        return {name: value for name, value in settings.items() if name != "preset"}

    def _fixes(self, settings: Settings, moved: str) -> list[Fix]:
        try:
            layout_of(settings)
        except ValueError:
            return ways_out(settings, moved)
        # The layout is fine, what to see of it is not: GPU 5 is in no embedding group, say.
        everyone = Fix("look at all GPUs", {"focus": None})
        pieces = Fix("highlight nothing", {"highlight": None})
        return [pieces] if settings["focus"] is None else [everyone, pieces]


def layout(
    start: ParallelLayout | Preset | None = None,
    *,
    highlight: str | None = None,
    focus: int | None = None,
    view: str = "grid",
    model: str | None = None,
    **sizes: Any,
) -> LayoutExplorer:
    """Show a layout with sliders for its sizes.

    Parameters
    ----------
    start : ParallelLayout or Preset, optional
        Where the sliders stand at first; the slide's case if nothing is given.
    highlight : str, optional
        Show the groups of this kind (see `ParallelLayout.groups`).
    focus : int, optional
        Look at this rank and those it talks to.
    view : {"grid", "cluster"}
        The slide grid or the machines.
    model : str, optional
        The model of `presets.MODELS` whose training step the table counts; at first that of
        ``start``, or Llama 3 8B.
    **sizes
        Arguments of `ParallelLayout`, in place of ``start``.

    Returns
    -------
    LayoutExplorer
        A widget with a trait for each setting, ``explorer.tp``. Its ``value`` is the layout that
        the picture shows; its ``repr`` is the line that brings it back.

    Raises
    ------
    ValueError
        When the first settings do not fit. Later ones are explained in its ``problem``.

    Examples
    --------
    >>> explorer = layout(nodes=2, gpus_per_node=8, tp=2, pp=4, highlight="dp")
    >>> explorer.tp = 4
    >>> explorer
    explore.layout(nodes=2, gpus_per_node=8, tp=4, pp=4, highlight='dp')
    >>> print(explorer.value)
    16 GPUs = tp 4 × dp 1 × pp 4
    >>> explorer.pp = 3
    >>> print(explorer.problem)
    16 ranks cannot be split into tp=4 × pp=3 (12 does not divide 16); tp × pp may be 1, 2, 4, 8 \
or 16; with tp=4, pp may be 1, 2 or 4
    """
    settings = sizes_of(starting_layout(start, sizes))
    settings |= {"highlight": highlight, "focus": focus, "view": view}
    settings["model"] = model_of(start) if model is None else model
    return LayoutExplorer({"preset": preset_of(settings), **settings})


def model_of(start: object) -> str:
    """Return the name of a preset's model; of the example's, where there is none."""
    model = start.model if isinstance(start, Preset) else None
    return (model or EXAMPLE).name


def preset_of(settings: Mapping[str, Any]) -> str:
    """Return the name of the preset with these sizes."""
    sizes = {name: settings[name] for name in LAYOUT}
    same = (name for name, preset in PRESETS.items() if sizes_of(preset.layout) == sizes)
    return next(same, _OWN)
