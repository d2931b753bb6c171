"""The figure of a block: what goes in, f, a lane for each rank, g, what comes out."""

from ...shards import Block, Cut, Operator, times
from ..canvas.glyphs import width_of
from ..canvas.page import Panel
from ..canvas.scene import Box, Label, shifted
from ..canvas.theme import FRAME, QUIET, SMALL, TITLE
from .lanes import Lanes
from .matrices import fan_of, least_length, lies, matrix
from .pieces import Piece, arrow, beside, panel
from .steps import parted

_LINK, _AWAY = 22.0, 3.0
_THUMBNAIL = 56.0
_NAME = 20.0
_BAR, _PADDING = 30.0, 8.0
_LINE = 13.0


def flow(block: Block) -> Panel:
    """Return the figure with its width and height."""
    before, inner, after = parted(block)
    lanes = Lanes(tuple(inner), block.tp)
    source, target = inner[0].inputs[0], inner[-1].output
    left, right = before.input if before else source, after.output if after else target
    outside = max(_size(left)[1], _size(right)[1]) + 2 * _NAME
    foot = max(lanes.height, outside) / 2
    return panel(
        beside(
            [
                _thumbnail(left),
                *([_link(), _bar(before, lanes.height, foot)] if before else []),
                lanes.entering(source, together=before is None),
                (lanes.items, lanes.width),
                lanes.leaving(target, together=after is None),
                *([_bar(after, lanes.height, foot), _link()] if after else []),
                _thumbnail(right),
            ]
        )
    )


def _link() -> Piece:
    return [*arrow(_AWAY, 0, _LINK - _AWAY, 0)], _LINK


def _bar(operator: Operator, height: float, foot: float) -> Piece:
    """Return an operator as a bar beside all lanes; what it does stands below everything."""
    width = max(_BAR, width_of(operator.name, TITLE, bold=True) + 2 * _PADDING)
    does = [f"forward: {operator.forward}", f"backward: {operator.backward}"]
    return [
        Box(0, -height / 2, width, height, FRAME, QUIET, 1.2),
        Label(width / 2, 0, operator.name, TITLE, align="center", bold=True),
        *(
            Label(width / 2, foot + (line + 1) * _LINE, words, SMALL, QUIET, "center")
            for line, words in enumerate(does)
        ),
    ], width


# ---- what goes in and comes out


def _size(cut: Cut) -> tuple[float, float]:
    """Return width and height of a matrix outside the lanes; it is not drawn to scale."""
    width = max(_THUMBNAIL, width_of(times(cut.local_shape), SMALL) + 8)
    least = least_length(cut)
    return max(width, least if cut.dim == 1 else 0), max(_THUMBNAIL, least if cut.dim == 0 else 0)


def _thumbnail(cut: Cut) -> Piece:
    """Return a matrix with its name above and how it lies on the ranks below."""
    width, height = _size(cut)
    fan, reach = fan_of(cut), max(0.0, width_of(lies(cut), SMALL) - width) / 2
    items = [
        *matrix(cut, width, height),
        Label(width / 2, -12, cut.name, TITLE, align="center", bold=True),
        Label(width / 2, height + fan + 11, lies(cut), SMALL, QUIET, "center"),
    ]
    return shifted(items, reach, -height / 2), reach + width + max(fan, reach)
