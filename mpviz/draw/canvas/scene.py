"""A picture as data: boxes, curves, rasters and labels, in points, y down from the top left.

A scene is made before any matplotlib artist exists, so tests measure it: does a label stick
out, do two overlap, where does rank 5 stand.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from .theme import INK, RGB, SMALL


@dataclass(frozen=True)
class Box:
    """A rectangle with rounded corners."""

    x: float
    y: float
    width: float
    height: float
    face: RGB
    edge: RGB
    line: float = 1.0
    dashed: bool = False
    rank: int | None = None
    """Whose cell it is, if anybody's."""


@dataclass(frozen=True)
class Curve:
    """A cubic Bézier curve through four control points."""

    points: tuple[tuple[float, float], ...]
    color: RGB
    line: float = 1.5
    dashed: bool = False


def stroke(x0: float, y0: float, x1: float, y1: float, color: RGB, width: float) -> Curve:
    """Return a straight line."""
    return Curve(((x0, y0), (x0, y0), (x1, y1), (x1, y1)), color, width)


@dataclass(frozen=True)
class Label:
    """A line of text; x by its alignment, y the middle of its capitals."""

    x: float
    y: float
    text: str
    size: float = SMALL
    color: RGB = INK
    align: str = "left"
    bold: bool = False


@dataclass(frozen=True, eq=False)
class Raster:
    """An image stretched over a rectangle.

    Attributes
    ----------
    indices : ndarray of uint8, shape (rows, columns)
        Which colour each pixel has.
    colors : tuple of (red, green, blue), 0 … 255
        At most 256.
    ranks : ndarray of int, shape (rows, columns), optional
        Whose cell each pixel is; negative for nobody's.
    """

    x: float
    y: float
    width: float
    height: float
    indices: NDArray[np.uint8]
    colors: tuple[tuple[int, int, int], ...]
    ranks: NDArray[np.intp] | None = None


Item = Box | Curve | Label | Raster
T = TypeVar("T", Box, Curve, Label, Raster)


@dataclass(frozen=True)
class Scene:
    """Everything in one picture; drawn in the order rasters, boxes, curves, labels."""

    width: float
    height: float
    items: tuple[Item, ...]

    def of(self, kind: type[T]) -> list[T]:
        """Return the items of one kind."""
        return [item for item in self.items if isinstance(item, kind)]

    def rank_at(self, x: float, y: float) -> int | None:
        """Return the rank whose cell is at a point, or None."""
        for box in self.of(Box):
            if box.rank is not None and _holds(box, x, y):
                return box.rank
        for raster in self.of(Raster):
            if raster.ranks is not None and _holds(raster, x, y):
                rows, columns = raster.ranks.shape
                row = int((y - raster.y) / raster.height * rows)
                column = int((x - raster.x) / raster.width * columns)
                rank = int(raster.ranks[row, column])
                return rank if rank >= 0 else None
        return None


def _holds(item: Box | Raster, x: float, y: float) -> bool:
    return item.x <= x < item.x + item.width and item.y <= y < item.y + item.height


def shifted(items: Iterable[Item], dx: float, dy: float) -> list[Item]:
    """Return the items moved right by ``dx`` and down by ``dy`` points."""
    moved: list[Item] = []
    for item in items:
        if isinstance(item, Curve):
            points = tuple((x + dx, y + dy) for x, y in item.points)
            moved.append(replace(item, points=points))
        else:
            moved.append(replace(item, x=item.x + dx, y=item.y + dy))
    return moved
