"""Text as outlines, each glyph read from the font once.

Matplotlib lays a string out anew at every draw, 2–3 ms each; a slide has dozens. Here each
character's outline is cached at size 1, and all text of one colour becomes a single path.
"""

from collections.abc import Iterable
from functools import lru_cache

import numpy as np
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ft2font import FT2Font, LoadFlags
from matplotlib.path import Path
from numpy.typing import NDArray

from .scene import Label

_UNITS = 100.0
CAP_HEIGHT = 0.729
"""Height of a capital over the font size, in DejaVu Sans."""


@lru_cache(maxsize=2)
def _font(bold: bool) -> FT2Font:
    # By family, not by user setting: the same picture on every machine.
    properties = FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")
    font = get_font(findfont(properties, fallback_to_default=False))
    return font


@lru_cache(maxsize=4096)
def _glyph(character: str, bold: bool) -> tuple[NDArray[np.float64], NDArray[np.uint8], float]:
    """Return a character's vertices and codes (y up, font size 1) and its advance."""
    font = _font(bold)
    font.set_size(_UNITS, 72)
    glyph = font.load_char(ord(character), flags=LoadFlags.NO_HINTING)
    vertices, codes = font.get_path()
    return (
        np.asarray(vertices) / _UNITS,
        np.asarray(codes),
        glyph.linearHoriAdvance / 65536 / _UNITS,
    )


def width_of(text: str, size: float, bold: bool = False) -> float:
    """Return the width of a line of text, in the unit of ``size``."""
    return size * sum(_glyph(character, bold)[2] for character in text)


def box_of(label: Label) -> tuple[float, float, float, float]:
    """Return the space a label takes: left, top, right, bottom (y down)."""
    width = width_of(label.text, label.size, label.bold)
    left = label.x - {"left": 0.0, "center": 0.5, "right": 1.0}[label.align] * width
    half = CAP_HEIGHT / 2 * label.size
    return left, label.y - half, left + width, label.y + half


def outline(labels: Iterable[Label]) -> Path:
    """Return one path with the outlines of all labels, in the scene's points (y down)."""
    vertices, codes = [np.empty((0, 2))], [np.empty(0, dtype=np.uint8)]
    for label in labels:
        x, _, _, baseline = box_of(label)
        for character in label.text:
            points, glyph_codes, advance = _glyph(character, label.bold)
            vertices.append(points * (label.size, -label.size) + (x, baseline))
            codes.append(glyph_codes)
            x += advance * label.size
    return Path(np.concatenate(vertices), np.concatenate(codes))
