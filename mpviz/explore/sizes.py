"""What explorers of layouts share: sizes as settings, and the controls that move them."""

from collections.abc import Iterable, Mapping
from typing import Any

from .._checks import listed, whole_number
from ..fitting import nearest
from ..layout import ParallelLayout
from ..names import GROUP_KINDS, MEGATRON_ORDER, TP_PP_DP_ORDER
from ..presets import SLIDE, Preset
from .controls import Control, Menu, Slider, notches
from .explorer import Fix, Settings

MOST_GPUS = 131_072
"""The most that an explorer draws; at twice as many, a move is felt as a wait."""

LAYOUT = ("nodes", "gpus_per_node", "tp", "pp", "cp", "ep", "expert_tp", "order")

_LABELS = {"gpus_per_node": "GPUs / node"}
_MOST = {"nodes": 4096, "gpus_per_node": 72, "tp": 72, "pp": 128, "cp": 64, "ep": 128}
_ORDERS = (
    MEGATRON_ORDER,
    TP_PP_DP_ORDER,
    "dp-tp-cp-ep-pp",
    "pp-tp-cp-ep-dp",
    "pp-dp-ep-cp-tp",
)
_REMARKS = {MEGATRON_ORDER: " (Megatron's default)", TP_PP_DP_ORDER: " (a copy at a time)"}

# ---- settings and layouts


def starting_layout(
    start: ParallelLayout | Preset | None, sizes: Mapping[str, Any]
) -> ParallelLayout:
    """Return where the sliders stand at first: the slide's case if nothing is given."""
    if start is not None and sizes:
        raise ValueError(f"give a layout or its sizes, not both: {start} and {sizes}")
    if isinstance(start, Preset):
        start = start.layout
    if start is None:
        start = ParallelLayout(**sizes) if sizes else SLIDE.layout
    if not isinstance(start, ParallelLayout):
        raise ValueError(f"an explorer starts from a ParallelLayout or a preset, got {start!r}")
    return start


def sizes_of(layout: ParallelLayout) -> Settings:
    """Return a layout as settings."""
    return {name: getattr(layout, name) for name in LAYOUT}


def layout_of(settings: Mapping[str, Any], order: str = "order") -> ParallelLayout:
    """Return the layout of some settings, with the order of that name, or raise ``ValueError``."""
    check_world(settings)
    sizes = {name: settings[name] for name in LAYOUT if name in settings}
    return ParallelLayout(**{**sizes, "order": settings[order]})


def check_sizes(settings: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` for what no slider could be at."""
    for name in _MOST:
        whole_number(name, settings[name])
    if settings["expert_tp"] is not None:
        whole_number("expert_tp", settings["expert_tp"])


def check_text(settings: Mapping[str, Any], *names: str) -> None:
    """Raise ``ValueError`` unless each of these settings is text."""
    for name in names:
        if not isinstance(settings[name], str):
            raise ValueError(f"{name} must be text, got {settings[name]!r}")


def check_choice(name: str, value: object, choices: Iterable[str]) -> None:
    """Raise ``ValueError`` unless a setting is one of a few texts."""
    known = list(choices)
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{name} must be {listed(map(repr, known), ' or ')}, got {value!r}")


def check_world(settings: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` if there are more GPUs than a picture can hold."""
    nodes, gpus = settings["nodes"], settings["gpus_per_node"]
    if nodes * gpus > MOST_GPUS:
        raise ValueError(
            f"{nodes:,} nodes × {gpus} GPUs are {nodes * gpus:,}; "
            f"the explorer draws up to {MOST_GPUS:,}"
        )


def ways_out(settings: Mapping[str, Any], moved: str, order: str = "order") -> list[Fix]:
    """Return the nearest sizes that make a layout, as fixes to click."""
    sizes = {
        **{name: settings[name] for name in LAYOUT if name in settings},
        "order": settings[order],
    }
    changes = nearest(sizes, moved=moved, most_gpus=MOST_GPUS)
    return [
        Fix(f"{_LABELS.get(name, name)} = {value}", {order if name == "order" else name: value})
        for name, value in changes
    ]


# ---- controls that explorers share


def size_sliders(settings: Mapping[str, Any]) -> list[Control]:
    """Return the sliders of the sizes; each has a stop where it stands."""
    return [
        Slider(name, _LABELS.get(name, name), notches(most, settings[name]))
        for name, most in _MOST.items()
    ]


def order_menu(name: str, label: str, current: str) -> Menu:
    """Return the choice of orders, the one in use among them."""
    orders = dict.fromkeys((*_ORDERS, current))
    options = tuple((order + _REMARKS.get(order, ""), order) for order in orders)
    return Menu(name, label, options)


def highlights(current: str | None) -> tuple[tuple[str, str | None], ...]:
    """Return the kinds of groups to choose from."""
    kinds = dict.fromkeys([*GROUP_KINDS, *([current] if current else [])])
    named = [(f"{kind}: {GROUP_KINDS.get(kind, 'groups')}", kind) for kind in kinds]
    return (("nothing: pieces of the model", None), *named)
