"""One model as a rectangle, cut into its pieces."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from matplotlib.axes import Axes

from ... import shards
from ...layout import ParallelLayout
from ..canvas.glyphs import width_of
from ..canvas.page import Panel, aligned, page
from ..canvas.picture import Picture
from ..canvas.scene import Box, Curve, Item, Label, stroke
from ..canvas.theme import INK, MAX_WIDTH, NORMAL, QUIET, RGB, SMALL, SYMBOL, edge_of, ink_on, mixed
from .piece_style import piece_colors

_WIDTH, _HEIGHT = 440.0, 124.0
_CUT, _OVERHANG = 8.0, 7.0
_HEAD, _ABOVE, _BELOW = 46.0, 22.0, 22.0
_LOWEST = 30.0
_MOST_ROWS, _MOST_COLUMNS = 8, 18
_THINNEST = 4.0


def pieces(
    layout: ParallelLayout, num_layers: int | None = None, *, ax: Axes | None = None
) -> Picture:
    """Draw one model as a rectangle, and where it is cut: tp rows, pp columns, a symbol a piece.

    Data runs through it from left to right. A cut along a row goes through every matrix (tensor
    parallelism), one down a column runs between two layers (pipeline parallelism).

    Parameters
    ----------
    layout : ParallelLayout
        How often it is cut: at most 8 rows, and 18 columns, fewer where layers have long numbers.
    num_layers : int, optional
        Transformer layers, which are then drawn as strips; dealt to the stages as by
        `shards.layers_of`.
    ax : matplotlib Axes, optional
        Draw there.

    Raises
    ------
    ValueError
        When the layers cannot be dealt evenly to the stages, or the pieces would be too small.

    Examples
    --------
    >>> pieces(ParallelLayout(nodes=2, tp=2, pp=4), num_layers=16)
    one model, cut into tp 2 × pp 4 = 8 pieces
            pp 0  pp 1  pp 2  pp 3
    tp 0    ★     ⊕     □     ⊠
    tp 1    △     ⋈     #     ○
    layers  1–4   5–8   9–12  13–16
    >>> pieces(ParallelLayout(nodes=2))
    one model, not cut
    ★
    """
    rectangle = _Rectangle.of(layout, num_layers)
    count = layout.tp * layout.pp
    title = "one model, not cut"
    if count > 1:
        title = f"one model, cut into tp {layout.tp} × pp {layout.pp} = {count} pieces"
    notes = ["a strip is a layer; data runs through them from left to right"] if num_layers else []
    cuts = [
        "a cut along a row goes through every matrix" if layout.tp > 1 else "",
        "a cut down a column runs between two layers" if layout.pp > 1 else "",
    ]
    notes += [" · ".join(filter(None, cuts))] if any(cuts) else []
    return page(title, [rectangle.drawn()], notes, rectangle.text, ax)


@dataclass(frozen=True)
class _Rectangle:
    """A model of tp rows and pp columns.

    Attributes
    ----------
    symbols : tuple of tuple of str
        Of each piece, row by row.
    faces : tuple of tuple of (red, green, blue)
        Their colours.
    layers : tuple of range
        Of each stage; empty if they are not known.
    width, height : float
        Of a piece.
    """

    symbols: tuple[tuple[str, ...], ...]
    faces: tuple[tuple[RGB, ...], ...]
    layers: tuple[range, ...]
    width: float
    height: float

    @classmethod
    def of(cls, layout: ParallelLayout, num_layers: int | None) -> "_Rectangle":
        """Take the pieces' symbols, colours and layers from a layout."""
        if layout.tp > _MOST_ROWS or layout.pp > _MOST_COLUMNS:
            _refuse(layout, _MOST_COLUMNS)
        layers: tuple[range, ...] = ()
        if num_layers is not None:
            layers = tuple(stage[0] for stage in shards.layers_of(num_layers, layout.pp))
        names = [*(f"pp {stage}" for stage in range(layout.pp)), *map(_run, layers)]
        narrowest = max(width_of(name, SMALL) for name in names) + 6
        most = int((MAX_WIDTH - _HEAD + _CUT) // (narrowest + _CUT))
        if layout.pp > most:
            _refuse(layout, most)
        color, colors = piece_colors(layout, np.arange(layout.tp * layout.pp))
        rows = [range(row * layout.pp, (row + 1) * layout.pp) for row in range(layout.tp)]
        return cls(
            tuple(tuple(shards.symbol(layout, piece) for piece in row) for row in rows),
            tuple(tuple(colors[color[piece]] for piece in row) for row in rows),
            layers,
            max(narrowest, (_WIDTH + _CUT) / layout.pp - _CUT),
            max(_LOWEST, (_HEIGHT + _CUT) / layout.tp - _CUT),
        )

    @property
    def text(self) -> str:
        """The rectangle in characters."""
        lines = [["", *self._columns]] if any(self._columns) else []
        titled = zip(self._rows, self.symbols, strict=True)
        lines += [[title, *symbols] for title, symbols in titled]
        lines += [["layers", *map(_run, self.layers)]] if self.layers else []
        return aligned(lines)

    @property
    def _rows(self) -> list[str]:
        """The names of the rows; none if they are not cut."""
        rows = len(self.symbols)
        return [f"tp {row}" for row in range(rows)] if rows > 1 else [""]

    @property
    def _columns(self) -> list[str]:
        columns = len(self.symbols[0])
        return [f"pp {stage}" for stage in range(columns)] if columns > 1 else [""]

    def drawn(self) -> Panel:
        """Return its pieces with their names, and the cuts between them."""
        rows, columns = len(self.symbols), len(self.symbols[0])
        right = _HEAD + columns * (self.width + _CUT) - _CUT
        bottom = _ABOVE + rows * (self.height + _CUT) - _CUT
        items: list[Item] = []
        for row in range(rows):
            y = _ABOVE + row * (self.height + _CUT)
            items.append(Label(0, y + self.height / 2, self._rows[row], SMALL, QUIET))
            items += [item for stage in range(columns) for item in self._piece(row, stage)]
            if row:
                items.append(_cut(_HEAD, y - _CUT / 2, right, y - _CUT / 2))
        for stage in range(columns):
            x = _HEAD + stage * (self.width + _CUT)
            middle = x + self.width / 2
            items.append(Label(middle, 6, self._columns[stage], SMALL, QUIET, "center"))
            if self.layers:
                run = _run(self.layers[stage])
                items.append(Label(middle, bottom + _BELOW - 8, run, SMALL, INK, "center"))
            if stage:
                items.append(_cut(x - _CUT / 2, _ABOVE, x - _CUT / 2, bottom))
        if self.layers:
            items.append(Label(0, bottom + _BELOW - 8, "layers", SMALL, QUIET))
        return Panel(items, right + _OVERHANG, bottom + (_BELOW if self.layers else _OVERHANG))

    def _piece(self, row: int, stage: int) -> Iterator[Item]:
        x = _HEAD + stage * (self.width + _CUT)
        y = _ABOVE + row * (self.height + _CUT)
        face, symbol = self.faces[row][stage], self.symbols[row][stage]
        yield Box(x, y, self.width, self.height, face, edge_of(face))
        size = SYMBOL if width_of(symbol, SYMBOL) + 4 < self.width else NORMAL
        middle = (x + self.width / 2, y + self.height / 2)
        yield Label(*middle, symbol, size, ink_on(face), "center")
        count = len(self.layers[stage]) if self.layers else 1
        half = width_of(symbol, size) / 2 + 3
        for layer in range(1, count if self.width >= _THINNEST * count else 1):
            at, color = x + layer * self.width / count, mixed(face, INK, 0.3)
            if abs(at - middle[0]) >= half:
                yield stroke(at, y, at, y + self.height, color, 0.8)
            else:  # around the symbol
                yield stroke(at, y, at, middle[1] - 0.6 * size, color, 0.8)
                yield stroke(at, middle[1] + 0.6 * size, at, y + self.height, color, 0.8)


def _refuse(layout: ParallelLayout, most: int) -> NoReturn:
    raise ValueError(
        f"a rectangle of tp {layout.tp} × pp {layout.pp} pieces cannot be read; at most "
        f"tp {_MOST_ROWS} × pp {most} fit"
    )


def _cut(x0: float, y0: float, x1: float, y1: float) -> Curve:
    """Return a dashed line that stands out at both ends."""
    dx, dy = (_OVERHANG, 0.0) if y0 == y1 else (0.0, _OVERHANG)
    begin, end = (x0 - dx, y0 - dy), (x1 + dx, y1 + dy)
    return Curve((begin, begin, end, end), INK, 1.4, dashed=True)


def _run(layers: range) -> str:
    return f"{layers[0]}–{layers[-1]}" if len(layers) > 1 else f"{layers[0]}"
