"""A tensor-parallel block: what goes in, f, a row for each rank, g, what comes out."""

from matplotlib.axes import Axes

from ..._checks import listed
from ...shards import Block, Cut, Operator, times
from ..canvas.glyphs import width_of
from ..canvas.limits import check_rows
from ..canvas.page import Panel, page
from ..canvas.picture import Picture
from ..canvas.scene import Box, Label
from ..canvas.theme import FRAME, QUIET, SMALL, TITLE
from .block_steps import split
from .elements import Element, arrow, beside, captioned, panel
from .local_rows import LocalRows
from .matrices import fan_of, least_length, lies, matrix
from .text import block_lines, printed

_LINK, _AWAY = 22.0, 3.0
_THUMBNAIL = 56.0
_NAME = 20.0
_BAR, _PADDING = 30.0, 8.0
_LINE = 13.0


def block(layer: Block, *, ax: Axes | None = None) -> Picture:
    """Draw what each rank computes alone, between f and g: figure 3 of Megatron's paper.

    Each rank has a row, with the weights that it holds in its colour. Beyond 8 ranks, rows in
    the middle are left out.

    Parameters
    ----------
    layer : Block
        `shards.mlp`, `shards.attention`, `shards.column_parallel` or `shards.row_parallel`.
    ax : matplotlib Axes, optional
        Draw there.

    Examples
    --------
    >>> from mpviz import shards
    >>> block(shards.mlp(4, 6, 24, tp=2))
    MLP, tp=2
                    X 4×6, whole on each of 2
      f             copy forward, all-reduce backward → X whole
      X·A = XA      A 6×24, cut by column into 2 parts of 6×12 → XA cut by column
      GeLU(XA) = Y  → Y cut by column
      Y·B = Z       B 24×6, cut by row into 2 parts of 12×6 → Z a partial sum
      g             all-reduce forward, copy backward → Z whole
    rank 0  X → A₁ 6×12 → XA₁ → GeLU(XA₁) → Y₁ → B₁ 12×6 → Z₁
    rank 1  X → A₂ 6×12 → XA₂ → GeLU(XA₂) → Y₂ → B₂ 12×6 → Z₂
    communication forward: all-reduce of Z 4×6
    communication backward: all-reduce of dX 4×6
    """
    if not isinstance(layer, Block):
        raise ValueError(f"draw.block draws a block such as shards.mlp(…), got {layer!r}")
    check_rows(layer.tp)
    calls = [
        f"communication {way}: {listed(collectives, ' and ') or 'none'}"
        for way, collectives in (("forward", layer.forward), ("backward", layer.backward))
    ]
    title, *lines = printed(layer)
    text = "\n".join([*lines, *block_lines(layer), *calls])
    return page(title, [figure(layer)], calls, text, ax)


def figure(block: Block) -> Panel:
    """Return the figure of a block."""
    before, steps, after = split(block)
    rows = LocalRows(tuple(steps), block.tp)
    source, target = steps[0].inputs[0], steps[-1].output
    left, right = before.input if before else source, after.output if after else target
    outside = max(_size(cut)[1] for cut in (left, right)) + 2 * _NAME
    foot = max(rows.height, outside) / 2
    link: Element = ([*arrow(_AWAY, 0, _LINK - _AWAY, 0)], _LINK)
    elements = [
        _thumbnail(left),
        *([link, _bar(before, rows.height, foot)] if before else []),
        rows.arrows(source, spread=before is None),
        (rows.items, rows.width),
        rows.arrows(target, spread=after is None, leaving=True),
        *([_bar(after, rows.height, foot), link] if after else []),
        _thumbnail(right),
    ]
    return panel(beside(elements))


def _bar(operator: Operator, height: float, foot: float) -> Element:
    """Return an operator as a bar beside all rows; what it does stands below everything."""
    width = max(_BAR, width_of(operator.name, TITLE, bold=True) + 2 * _PADDING)
    forward, backward = f"forward: {operator.forward}", f"backward: {operator.backward}"
    return [
        Box(0, -height / 2, width, height, FRAME, QUIET, 1.2),
        Label(width / 2, 0, operator.name, TITLE, align="center", bold=True),
        Label(width / 2, foot + _LINE, forward, SMALL, QUIET, "center"),
        Label(width / 2, foot + 2 * _LINE, backward, SMALL, QUIET, "center"),
    ], width


def _size(cut: Cut) -> tuple[float, float]:
    """Return width and height of a matrix outside the rows; it is not drawn to scale."""
    sides = [_THUMBNAIL, max(_THUMBNAIL, width_of(times(cut.local_shape), SMALL) + 8)]
    if cut.dim is not None:
        sides[cut.dim] = max(sides[cut.dim], least_length(cut))
    height, width = sides
    return width, height


def _thumbnail(cut: Cut) -> Element:
    """Return a matrix with its name above and how it lies on the ranks below."""
    width, height = _size(cut)
    captions = [
        Label(0, -12, cut.name, TITLE, align="center", bold=True),
        Label(0, height + fan_of(cut) + 11, lies(cut), SMALL, QUIET, "center"),
    ]
    return captioned(matrix(cut, width, height), (width, height), captions, right=fan_of(cut))
