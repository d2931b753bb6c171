r"""Text as outlines, each glyph read from the font once.

Matplotlib lays a string out anew at every draw, 2–3 ms each; a slide has dozens. Here each
character's outline is cached at size 1, and all text of one colour becomes a single path.

What DejaVu Sans has no glyph for comes from another font of the machine; if none has it, its
Python escape is drawn, such as ``\u6f22``. The text of a picture keeps the character itself.
"""

from collections.abc import Iterable
from functools import lru_cache

import numpy as np
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.ft2font import FT2Font, LoadFlags
from matplotlib.path import Path
from numpy.typing import NDArray

from .scene import Label

_UNITS = 100.0
CAP_HEIGHT = 0.729
"""Height of a capital over the font size, in DejaVu Sans."""


_Glyph = tuple[NDArray[np.float64], NDArray[np.uint8], float]

_BROAD = (
    "DejaVu Sans Mono",
    "STIXGeneral",
    "Noto Sans CJK",
    "Noto Sans",
    "Source Han Sans",
    "WenQuanYi",
    "Droid Sans Fallback",
    "Arial Unicode",
    "Hiragino",
    "PingFang",
    "Microsoft YaHei",
    "SimHei",
    "SimSun",
    "MS Gothic",
    "Yu Gothic",
    "Malgun Gothic",
    "Apple Symbols",
    "Segoe UI",
    "FreeSans",
    "Symbola",
    "Unifont",
)
"""Families, by the begin of their name, that hold many characters: the first that has one."""

_MOST_FONTS = 60


@lru_cache(maxsize=2)
def _font(bold: bool) -> FT2Font:
    # By family, not by user setting: the same picture on every machine.
    properties = FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")
    font = get_font(findfont(properties, fallback_to_default=False))
    return font


@lru_cache(maxsize=1)
def _other_fonts() -> tuple[str, ...]:
    """Return the files of the machine's other fonts to look in, in the order of `_BROAD`."""
    found = []
    for family in _BROAD:
        entries = [each for each in fontManager.ttflist if each.name.startswith(family)]
        # Of one family the upright and regular file first, then by name: the same each time.
        entries.sort(
            key=lambda each: (each.style != "normal", str(each.weight) != "400", each.name)
        )
        found += [entry.fname for entry in entries]
    return tuple(dict.fromkeys(found))[:_MOST_FONTS]


@lru_cache(maxsize=4096)
def _glyph(character: str, bold: bool) -> _Glyph:
    """Return a character's vertices and codes (y up, font size 1) and its advance."""
    font = _font(bold)
    if font.get_char_index(ord(character)):
        return _outline_of(font, character)
    if character.isprintable():
        for file in _other_fonts():
            try:
                glyph = _from(file, character)
            except (OSError, RuntimeError, ValueError):  # gone, damaged, or made of bitmaps
                continue
            if glyph is not None:
                return glyph
    return _joined([_glyph(each, bold) for each in _escaped(character)])


def _outline_of(font: FT2Font, character: str) -> _Glyph:
    font.set_size(_UNITS, 72)
    glyph = font.load_char(ord(character), flags=LoadFlags.NO_HINTING)
    vertices, codes = font.get_path()
    return (
        np.asarray(vertices) / _UNITS,
        np.asarray(codes),
        glyph.linearHoriAdvance / 65536 / _UNITS,
    )


def _from(file: str, character: str) -> _Glyph | None:
    """Return a character from another font, or None if that has not its outline."""
    font = FT2Font(file)  # not get_font, which would keep each of them open
    if not font.get_char_index(ord(character)):
        return None
    glyph = _outline_of(font, character)
    return glyph if len(glyph[0]) or character.isspace() else None


def _escaped(character: str) -> str:
    r"""Return a character as Python writes it in ASCII.

    >>> print(_escaped("漢"), _escaped("\x07"))
    \u6f22 \x07
    """
    return character.encode("unicode_escape").decode()


def _joined(glyphs: list[_Glyph]) -> _Glyph:
    """Return glyphs side by side, as one."""
    vertices, codes, x = [np.empty((0, 2))], [np.empty(0, dtype=np.uint8)], 0.0
    for points, glyph_codes, advance in glyphs:
        vertices.append(points + np.array([x, 0.0]))
        codes.append(glyph_codes)
        x += advance
    return np.concatenate(vertices), np.concatenate(codes), x


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
