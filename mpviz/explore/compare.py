"""Two orders of the same sizes, side by side."""

from collections.abc import Sequence
from typing import Any

from .. import draw
from ..layout import ParallelLayout
from ..names import TP_PP_DP_ORDER
from ..presets import Preset
from . import words
from .controls import Control, Menu
from .explorer import Explorer, Fix, Setting, Settings, View
from .sizes import (
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

_DEFAULTS = {"cp": 1, "ep": 1, "expert_tp": None, "highlight": "tp-pp"}
_RECORDED = {
    **{"nodes": (1, 2, 4), "tp": (1, 2, 4, 8), "pp": (1, 2, 4, 8)},
    "highlight": ("tp-pp", "tp", "dp", "pp"),
}


class OrderExplorer(Explorer):
    """Sliders over two layouts that differ in their order; made by `compare`."""

    _title = "Compare two orders"
    _call = "explore.compare"
    _defaults = _DEFAULTS
    _recorded = _RECORDED

    nodes, gpus_per_node = Setting(), Setting()
    tp, pp, cp, ep, expert_tp = Setting(), Setting(), Setting(), Setting(), Setting()
    left, right, highlight = Setting(), Setting(), Setting()

    def _controls(self, settings: Settings) -> Sequence[Control]:
        return [
            *size_sliders(settings),
            order_menu("left", "order on the left", settings["left"]),
            order_menu("right", "order on the right", settings["right"]),
            Menu("highlight", "highlight", highlights(settings["highlight"])[1:]),
        ]

    def _check(self, settings: Settings) -> None:
        check_sizes(settings)
        check_text(settings, "left", "right", "highlight")

    def _viewed(self, settings: Settings) -> View:
        left, right = (layout_of(settings, order=side) for side in ("left", "right"))
        picture = draw.compare(left, right, settings["highlight"])
        table = words.comparison(left, right)
        return View(picture, str(left), table, words.COMPARED, (left, right))

    def _fixes(self, settings: Settings, moved: str) -> list[Fix]:
        for side in ("left", "right"):
            try:
                layout_of(settings, order=side)
            except ValueError:
                return ways_out(settings, moved, order=side)
        return [Fix("highlight model copies", {"highlight": "tp-pp"})]


def compare(
    start: ParallelLayout | Preset | None = None,
    *,
    left: str | None = None,
    right: str = TP_PP_DP_ORDER,
    highlight: str = "tp-pp",
    **sizes: Any,
) -> OrderExplorer:
    """Show one layout in two orders side by side, with sliders for its sizes.

    Parameters
    ----------
    start : ParallelLayout or Preset, optional
        The sizes, and the order on the left; the slide's case if nothing is given.
    left, right : str
        The two orders (see `ParallelLayout`); on the left Megatron's default, or that of
        ``start``.
    highlight : str
        Which groups are shown; at first the model copies.
    **sizes
        Arguments of `ParallelLayout`, in place of ``start``.

    Returns
    -------
    OrderExplorer
        A widget with a trait for each setting. Its ``value`` is the pair of layouts, left and
        right.

    Raises
    ------
    ValueError
        When the first settings do not fit. Later ones are explained in its ``problem``.

    Examples
    --------
    >>> explorer = compare(nodes=2, gpus_per_node=8, tp=2, pp=4)
    >>> [len(layout.crossings("pp")) for layout in explorer.value]
    [4, 0]
    >>> explorer.highlight = "dp"
    >>> explorer
    explore.compare(nodes=2, gpus_per_node=8, tp=2, pp=4, left='tp-cp-ep-dp-pp', \
right='tp-cp-ep-pp-dp', highlight='dp')
    """
    settings = sizes_of(starting_layout(start, sizes))
    order = settings.pop("order")
    return OrderExplorer(
        settings | {"left": order if left is None else left, "right": right, "highlight": highlight}
    )
