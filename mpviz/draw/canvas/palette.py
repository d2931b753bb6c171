"""The few colours a scene can show, so that its PNG needs one byte a pixel."""

from collections.abc import Iterable

from .scene import Box, Curve, Label, Raster, Scene
from .theme import FRAME, PAPER, RGB, ink_on, mixed, to_bytes

_MOST = 256

# How many blends for text and for lines, and of every how many colours: fewer where there are
# many, whose own shades are then near enough.
_FINENESS = (((7, 5), 1), ((5, 3), 1), ((3, 2), 1), ((2, 1), 1), ((1, 1), 2), ((1, 1), 4))


def palette_of(scene: Scene) -> list[int]:
    """Return red, green, blue, red … of every colour in a scene, edges' soft blends included.

    Empty when there are too many for one palette.
    """
    boxes, curves, labels = scene.of(Box), scene.of(Curve), scene.of(Label)
    faces = dict.fromkeys([PAPER, FRAME, *(box.face for box in boxes)])
    edges = dict.fromkeys((box.edge, under) for box in boxes for under in (box.face, PAPER))
    strokes = dict.fromkeys((curve.color, PAPER) for curve in curves)
    texts = dict.fromkeys((ink_on(face), face) for face in faces)
    texts |= dict.fromkeys((label.color, PAPER) for label in labels)
    flat = [*faces, *(ink for ink, _ in (*edges, *strokes, *texts))]
    flat += [
        (red / 255, green / 255, blue / 255)
        for raster in scene.of(Raster)
        for red, green, blue in raster.colors
    ]
    plain = dict.fromkeys(map(to_bytes, dict.fromkeys(flat)))
    pairs = (list(texts), [*edges, *strokes])
    for steps, every in _FINENESS:
        room = _MOST - len(plain)
        if (
            sum(each * len(pair[::every]) for each, pair in zip(steps, pairs, strict=True))
            > 4 * room
        ):
            continue  # many of them may be the same, but not as many as that
        blends = [
            blend
            for each, pair in zip(steps, pairs, strict=True)
            for blend in _between(pair[::every], each)
        ]
        colors = plain | dict.fromkeys(map(to_bytes, blends))
        if len(colors) <= _MOST:
            return [value for color in colors for value in color]
    return []


def _between(pairs: Iterable[tuple[RGB, RGB]], steps: int) -> list[RGB]:
    """Return the blends that soft edges make of two colours."""
    shares = [step / (steps + 1) for step in range(1, steps + 1)]
    return [mixed(one, other, share) for one, other in pairs for share in shares]
