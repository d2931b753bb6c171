"""The chart of a pipeline in pixels, for more work than boxes can show."""

import numpy as np
from numpy.typing import NDArray

from ..canvas.scene import Raster
from ..canvas.theme import PAPER, RGB
from .action_table import KIND_ORDER, Floats, Work
from .axis import PIXELS_PER_POINT, Axis
from .boxes import Rows
from .style import BUBBLE, Look, held_face

# Indices of colours: the shades of what is held, then tints of kinds, then their borders.
_PAPER, _BUBBLE, _HELD = 0, 1, 2
_SHADES = 8
_FIRST = _HELD + _SHADES

# A bar this wide begins with a line of its border's colour; narrower ones would be all border.
_SEAMED = 4


def bars(work: Work, axis: Axis, rows: Rows, look: Look) -> Raster:
    """Return what each rank does at the time of each pixel."""
    times = _times(work, axis)
    band, height = _band(rows)
    face = _FIRST + work.kind * look.tints + work.chunk * look.tints // look.chunks
    seam = _FIRST + len(KIND_ORDER) * look.tints + work.kind
    wide = (work.end - work.start) * len(times) >= _SEAMED * work.seconds
    covers = _covers(look, height)
    image = np.full((work.pp, band, len(times)), _PAPER, np.uint8)
    image[:, :height] = _BUBBLE
    for rank in range(work.pp):
        mine = work.of_rank(rank)
        if not len(mine):
            continue
        latest = np.searchsorted(work.start[mine], times, side="right") - 1
        action = mine[np.maximum(latest, 0)]
        busy = (latest >= 0) & (times < work.end[action])
        begins = np.diff(latest, prepend=-1) > 0
        color = np.where(begins & wide[action], seam[action], face[action])
        image[rank, :height] = np.where(busy & covers[:, work.kind[action]], color, _BUBBLE)
    return _raster(image, work, axis, rows, look)


def held(work: Work, axis: Axis, rows: Rows, look: Look, most: int) -> Raster:
    """Return how many activations each rank holds, of at most ``most``, as bars, or as shades."""
    times = _times(work, axis) + work.origin
    band, height = _band(rows)
    image = np.full((work.pp, band, len(times)), _PAPER, np.uint8)
    level = (np.arange(height)[::-1, None] + 0.5) / height
    for rank, steps in enumerate(work.timeline.in_flight):
        since, count = np.array([(0.0, 0), *steps]).T
        since[0] = -np.inf
        share = count[np.searchsorted(since, times, side="right") - 1] / most
        if look.low:
            image[rank] = np.where(share > 0, _HELD + np.ceil(share * _SHADES) - 1, _BUBBLE)
        else:
            image[rank, :height] = np.where(share > level, _HELD + _SHADES - 1, _BUBBLE)
    return _raster(image, work, axis, rows, look)


def _times(work: Work, axis: Axis) -> Floats:
    """Return the middle of each pixel's time."""
    columns = max(1, round(work.seconds * axis.scale * PIXELS_PER_POINT))
    return (np.arange(columns) + 0.5) * work.seconds / columns


def _band(rows: Rows) -> tuple[int, int]:
    """Return how many pixels a row takes, and how many of them are filled."""
    band = round(rows.pitch * PIXELS_PER_POINT)
    return band, max(1, band - round(rows.gap * PIXELS_PER_POINT))


def _covers(look: Look, height: int) -> NDArray[np.bool_]:
    """Return which lines of a row a bar of each kind takes, shape (height, kinds)."""
    line = (np.arange(height)[:, None] + 0.5) / height
    top, bottom = np.array([look.span(kind) for kind in range(len(KIND_ORDER))]).T
    covers: NDArray[np.bool_] = (top <= line) & (line < bottom)
    return covers


def _raster(image: NDArray[np.uint8], work: Work, axis: Axis, rows: Rows, look: Look) -> Raster:
    kinds = range(len(KIND_ORDER))
    colors = [PAPER, BUBBLE, *(held_face(n / (_SHADES - 1)) for n in range(_SHADES))]
    colors += [look.face(kind, tint) for kind in kinds for tint in range(look.tints)]
    colors += [look.edge(kind) for kind in kinds]
    width, height = work.seconds * axis.scale, work.pp * rows.pitch
    flat = image.reshape(-1, image.shape[2])
    return Raster(axis.left, 0, width, height, flat, tuple(map(_bytes, colors)))


def _bytes(color: RGB) -> tuple[int, int, int]:
    red, green, blue = (round(255 * value) for value in color)
    return red, green, blue
