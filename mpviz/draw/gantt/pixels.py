"""Actions and activations as pixels, where there are more than boxes can show."""

import numpy as np
from numpy.typing import NDArray

from ..canvas.scene import Raster
from ..canvas.theme import PAPER, PIXELS_PER_POINT, to_bytes
from .action_table import KIND_ORDER, ActionTable, Floats
from .frame import Frame
from .style import BUBBLE, activation_face

# Indices of colours: the shades of what is held, then tints of kinds, then their borders.
_PAPER, _BUBBLE, _HELD = 0, 1, 2
_SHADES = 8
_FIRST = _HELD + _SHADES

# A bar this wide begins with a line of its border's colour; narrower ones would be all border.
_SEAMED = 4


def bars(table: ActionTable, frame: Frame) -> Raster:
    """Return what each rank does at the time of each pixel."""
    style = frame.style
    image, times, height = _blank(table, frame)
    face = _FIRST + table.kind * style.tints + style.tint(table.chunk)
    seam = _FIRST + len(KIND_ORDER) * style.tints + table.kind
    wide = (table.end - table.start) * len(times) >= _SEAMED * table.seconds
    # Which lines of a row a bar of each kind takes, shape (height, kinds).
    line = (np.arange(height)[:, None] + 0.5) / height
    top, bottom = np.array([style.span(kind) for kind in range(len(KIND_ORDER))]).T
    covers = (top <= line) & (line < bottom)
    image[:, :height] = _BUBBLE
    for rank in np.unique(table.rank):
        mine = table.of_rank(rank)
        latest = np.searchsorted(table.start[mine], times, side="right") - 1
        action = mine[np.maximum(latest, 0)]
        busy = (latest >= 0) & (times < table.end[action])
        begins = np.diff(latest, prepend=-1) > 0
        color = np.where(begins & wide[action], seam[action], face[action])
        image[rank, :height] = np.where(busy & covers[:, table.kind[action]], color, _BUBBLE)
    return _raster(image, table, frame)


def activations(table: ActionTable, strip: Frame) -> Raster:
    """Return how many activations each rank holds, as bars, or as shades."""
    image, times, height = _blank(table, strip)
    level = (np.arange(height)[::-1, None] + 0.5) / height
    for rank, steps in enumerate(table.timeline.in_flight):
        since, count = np.array([(-np.inf, 0), *steps]).T
        latest = np.searchsorted(since, times + table.origin, side="right") - 1
        share = count[latest] / strip.most
        if strip.style.low:
            image[rank] = np.where(share > 0, _HELD + np.ceil(share * _SHADES) - 1, _BUBBLE)
        else:
            image[rank, :height] = np.where(share > level, _HELD + _SHADES - 1, _BUBBLE)
    return _raster(image, table, strip)


def _blank(table: ActionTable, frame: Frame) -> tuple[NDArray[np.uint8], Floats, int]:
    """Return an empty image (ranks, lines, columns), each column's time, and the lines to fill."""
    columns = max(1, round(table.seconds * frame.axis.scale * PIXELS_PER_POINT))
    lines, gap = (round(size * PIXELS_PER_POINT) for size in (frame.rows.pitch, frame.rows.gap))
    times = (np.arange(columns) + 0.5) * table.seconds / columns
    return np.full((table.pp, lines, columns), _PAPER, np.uint8), times, max(1, lines - gap)


def _raster(image: NDArray[np.uint8], table: ActionTable, frame: Frame) -> Raster:
    axis, style, kinds = frame.axis, frame.style, range(len(KIND_ORDER))
    colors = [PAPER, BUBBLE, *(activation_face(n / (_SHADES - 1)) for n in range(_SHADES))]
    colors += [style.face(kind, tint) for kind in kinds for tint in range(style.tints)]
    colors += [style.edge(kind) for kind in kinds]
    width, height = table.seconds * axis.scale, table.pp * frame.rows.pitch
    flat = image.reshape(-1, image.shape[2])
    return Raster(axis.left, 0, width, height, flat, tuple(map(to_bytes, colors)))
