"""The look of every picture: sizes in points, colours after Okabe and Ito.

Colour never stands alone: each coloured cell also carries a symbol, a label or a rank.
"""

from functools import lru_cache

RGB = tuple[float, float, float]

MAX_WIDTH = 680.0
"""Widest row of cells, in points: shown unshrunk in a notebook's output area."""

SMALL, NORMAL, TITLE, SYMBOL = 9.0, 10.0, 13.0, 19.0
"""Text sizes; nothing is smaller than `SMALL`."""

TICK = 4.0
"""Length of a mark on an axis."""

PIXELS_PER_POINT = 192 / 72
"""Of a picture in a notebook; the sides of a raster's cells are whole pixels."""

INK: RGB = (0.13, 0.13, 0.13)
QUIET: RGB = (0.36, 0.36, 0.36)
PAPER: RGB = (1.0, 1.0, 1.0)
FRAME: RGB = (0.95, 0.95, 0.95)
FAINT_EDGE: RGB = (0.78, 0.78, 0.78)
CROSSING: RGB = (0.69, 0.16, 0.0)
"""Whatever leaves its node: a darkened vermillion, always beside a dashed line and ⇄."""


def _rgb(hexadecimal: str) -> RGB:
    red, green, blue = (int(hexadecimal[i : i + 2], 16) / 255 for i in (0, 2, 4))
    return red, green, blue


# Okabe & Ito 2008, "Color Universal Design"; their black gives way to a grey.
PALETTE: tuple[RGB, ...] = tuple(
    _rgb(code)
    for code in (
        "E69F00",  # orange
        "56B4E9",  # sky blue
        "009E73",  # bluish green
        "F0E442",  # yellow
        "0072B2",  # blue
        "D55E00",  # vermillion
        "CC79A7",  # reddish purple
        "999999",  # grey
    )
)

_TINTS = (0.48, 0.24, 0.74)
SWATCHES = len(PALETTE) * len(_TINTS)
"""Distinct backgrounds; more pieces, copies or groups use them again from the start."""


def mixed(color: RGB, other: RGB, share: float) -> RGB:
    """Return ``color`` with the given share of ``other`` in it."""
    red, green, blue = ((1 - share) * a + share * b for a, b in zip(color, other, strict=True))
    return red, green, blue


def fill(index: int) -> RGB:
    """Return the background of the index-th piece, copy or group; hues repeat in new tints."""
    tint = _TINTS[index // len(PALETTE) % len(_TINTS)]
    return mixed(PALETTE[index % len(PALETTE)], PAPER, tint)


def edge(index: int) -> RGB:
    """Return the border that belongs to `fill` of the same index."""
    return mixed(PALETTE[index % len(PALETTE)], INK, 0.3)


def edge_of(face: RGB) -> RGB:
    """Return the border of a background: its hue, darker; of one of many shades, a grey."""
    return _EDGES.get(face, QUIET)


def to_bytes(color: RGB) -> tuple[int, int, int]:
    """Return red, green and blue as 0 … 255."""
    red, green, blue = (round(255 * value) for value in color)
    return red, green, blue


def luminance(color: RGB) -> float:
    """Return the relative luminance of WCAG 2, 0 … 1."""
    red, green, blue = (
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in color
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: RGB, other: RGB) -> float:
    """Return the contrast ratio of WCAG 2, 1 … 21; text needs 4.5."""
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@lru_cache(maxsize=1024)
def ink_on(background: RGB) -> RGB:
    """Return the text colour that reads best on a background."""
    return max((INK, PAPER), key=lambda ink: contrast(ink, background))


_EDGES = {fill(index): edge(index) for index in range(SWATCHES)}
