"""A scene as compact JSON, for a painter other than matplotlib: the canvas of a page.

Boxes, curves and labels are rows of numbers, colours an index into a table, a raster a PNG with a
pixel for each of its own. Nothing moves by more than a hundredth of a point.
"""

import base64
import io
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any

import numpy as np
from matplotlib.path import Path
from numpy.typing import NDArray
from PIL import Image

from .glyphs import CAP_HEIGHT, outline, width_of
from .scene import Box, Curve, Item, Label, Raster, Scene
from .theme import RGB

_UNITS = 1000
"""Of a glyph, to the size of its text."""
_DRAWN = {Path.MOVETO: ("M", 1), Path.LINETO: ("L", 1), Path.CURVE3: ("Q", 2)}
_DRAWN |= {Path.CURVE4: ("C", 3), Path.CLOSEPOLY: ("Z", 1)}


def to_json(scene: Scene) -> dict[str, Any]:
    """Return a scene as what JSON can hold.

    Returns
    -------
    dict
        ``size``; ``colors`` as ``#rrggbb``; rows of ``boxes`` (x, y, width, height, face, edge,
        line, dashed, rank), ``curves`` (four points, color, line, dashed), ``labels`` (x, y, text,
        size, color, align, bold) and ``rasters`` (x, y, width, height, pixels, ranks; both PNG).

    Examples
    --------
    >>> data = to_json(Scene(40, 20, (Label(5, 10, "pp 0", 9.0, (1, 0, 0)),)))
    >>> data["labels"], data["colors"]
    ([(5, 10, 'pp 0', 9, 0, 'left', 0)], ['#ff0000'])
    >>> from_json(data).items
    (Label(x=5, y=10, text='pp 0', size=9, color=(1.0, 0.0, 0.0), align='left', bold=False),)
    """
    colors: dict[str, int] = {}

    def index(color: RGB) -> int:
        return colors.setdefault(_hexadecimal(color), len(colors))

    boxes = [
        (
            *_shorts((box.x, box.y, box.width, box.height)),
            *(index(box.face), index(box.edge), _short(box.line), int(box.dashed), box.rank),
        )
        for box in scene.of(Box)
    ]
    curves = [
        (*_shorts(chain(*curve.points)), index(curve.color), _short(curve.line), int(curve.dashed))
        for curve in scene.of(Curve)
    ]
    labels = [
        (
            *(_short(label.x), _short(label.y), label.text, _short(label.size)),
            *(index(label.color), label.align, int(label.bold)),
        )
        for label in scene.of(Label)
    ]
    rasters = [
        (*_shorts((raster.x, raster.y, raster.width, raster.height)), *_images(raster))
        for raster in scene.of(Raster)
    ]
    kinds = {"boxes": boxes, "curves": curves, "labels": labels, "rasters": rasters}
    size = _shorts((scene.width, scene.height))
    return {"size": size, "colors": list(colors), **kinds}


def from_json(data: Mapping[str, Any]) -> Scene:
    """Return the scene that `to_json` has written."""
    colors = [_rgb(color) for color in data["colors"]]
    items: list[Item] = [_raster(*row) for row in data["rasters"]]
    for x, y, width, height, face, edge, line, dashed, rank in data["boxes"]:
        background, border = colors[face], colors[edge]
        items.append(Box(x, y, width, height, background, border, line, bool(dashed), rank))
    for *flat, color, line, dashed in data["curves"]:
        points = tuple(zip(flat[::2], flat[1::2], strict=True))
        items.append(Curve(points, colors[color], line, bool(dashed)))
    for x, y, text, size, color, align, bold in data["labels"]:
        items.append(Label(x, y, text, size, colors[color], align, bool(bold)))
    width, height = data["size"]
    return Scene(width, height, tuple(items))


def glyphs_of(scene: Scene, known: Mapping[str, Any] | None = None) -> dict[str, list[Any]]:
    """Return the outlines of all characters in a scene, beside those already known.

    Returns
    -------
    dict
        By the character, with ``*`` behind it where it is bold: its advance, and its outline as the
        path of an SVG, y down from the baseline; both in thousandths of the size of the text.

    Examples
    --------
    >>> glyphs_of(Scene(9, 9, (Label(0, 5, "l"),)))
    {'l': [278, 'M94 -760L184 -760L184 0L94 0L94 -760Z']}
    """
    needed = dict.fromkeys(
        (character, label.bold) for label in scene.of(Label) for character in label.text
    )
    glyphs = dict(known or {})
    for character, bold in needed:
        name = f"{character}*" if bold else character
        if name not in glyphs:
            at_origin = Label(0, -CAP_HEIGHT / 2 * _UNITS, character, _UNITS, bold=bold)
            path = _svg(outline([at_origin]))
            glyphs[name] = [round(width_of(character, _UNITS, bold)), path]
    return glyphs


def _svg(path: Path) -> str:
    """Return a path as SVG writes it, in whole units."""
    vertices, codes = np.asarray(path.vertices), np.asarray(path.codes)
    words, at = [], 0
    while at < len(codes):
        letter, count = _DRAWN[codes[at]]
        points = vertices[at : at + count] if letter != "Z" else vertices[:0]
        words.append(letter + " ".join(f"{value:.0f}" for value in points.flat))
        at += count
    return "".join(words)


def _short(value: float) -> float:
    """Return a number to a hundredth, whole where it is."""
    rounded = round(float(value), 2)
    return int(rounded) if rounded.is_integer() else rounded


def _shorts(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(map(_short, values))


def _hexadecimal(color: RGB) -> str:
    return "#" + "".join(f"{round(255 * value):02x}" for value in color)


def _rgb(hexadecimal: str) -> RGB:
    red, green, blue = bytes.fromhex(hexadecimal[1:])
    return red / 255, green / 255, blue / 255


# ---- rasters


def _images(raster: Raster) -> tuple[str, str | None]:
    """Return the pixels of a raster, and whose each is, as PNGs."""
    return _png(_palette_image(raster)), None if raster.ranks is None else _png(_ranks(raster))


def _palette_image(raster: Raster) -> Image.Image:
    image = Image.fromarray(raster.indices)
    image.putpalette([value for color in raster.colors for value in color])
    return image


def _ranks(raster: Raster) -> Image.Image:
    """Return whose each pixel is, as a colour: 1 + rank in 24 bits, 0 for nobody."""
    assert raster.ranks is not None
    numbers = np.maximum(raster.ranks, -1).astype(np.uint32) + np.uint32(1)
    channels = [(numbers >> shift & 255).astype(np.uint8) for shift in (16, 8, 0)]
    return Image.fromarray(np.stack(channels, axis=-1))


def _png(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "png", compress_level=4)
    return base64.b64encode(buffer.getvalue()).decode()


def _image(png: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(png)))


def _raster(
    x: float, y: float, width: float, height: float, pixels: str, ranks: str | None
) -> Raster:
    image = _image(pixels)
    flat = image.getpalette() or []
    colors = tuple((flat[i], flat[i + 1], flat[i + 2]) for i in range(0, len(flat), 3))
    whose: NDArray[np.intp] | None = None
    if ranks is not None:
        whose = np.asarray(_image(ranks)).astype(np.intp) @ np.array([1 << 16, 1 << 8, 1]) - 1
    return Raster(x, y, width, height, np.asarray(image), colors, whose)
