"""How each kind of work looks in the chart of a pipeline, and the legend that says so."""

from collections.abc import Sequence
from dataclasses import dataclass

from ...schedule import KINDS
from ..canvas.glyphs import width_of
from ..canvas.page import Panel
from ..canvas.scene import Box, Item, Label, shifted
from ..canvas.theme import (
    FAINT_EDGE,
    FRAME,
    MAX_WIDTH,
    PALETTE,
    PAPER,
    QUIET,
    RGB,
    SMALL,
    edge,
    mixed,
)
from .action_table import KIND_ORDER

BUBBLE: RGB = FRAME
WAIT = mixed(QUIET, PAPER, 0.4)
HELD_FACE, HELD_EDGE = mixed(PALETTE[6], PAPER, 0.48), edge(6)

_HUE = {"F": 1, "B": 2, "I": 3, "W": 0}
_SPAN = {"F": (0.0, 0.72), "B": (0.28, 1.0), "I": (0.28, 0.76), "W": (0.52, 1.0)}
_PLAIN_TINT, _TINTS = 0.48, (0.68, 0.1)
_MOST_TINTS = 8
_LINE, _SIDE, _GAP = 15.0, 10.0, 16.0


@dataclass(frozen=True)
class Look:
    """Colours and shapes of one picture.

    Attributes
    ----------
    chunks : int
        Stages on a rank; the first is lightest.
    lettered : bool
        Whether each bar names its kind. If not, its place in the row does: a forward stands
        high and a backward low; its halves take the halves of that.
    low : bool
        Whether rows are too low for that, and bars have no more than their colour.
    """

    chunks: int
    lettered: bool
    low: bool = False

    @property
    def tints(self) -> int:
        """How many tints each colour has."""
        return min(self.chunks, _MOST_TINTS)

    def tint(self, chunk: int) -> int:
        """Return the number of the tint of a chunk."""
        return chunk * self.tints // self.chunks

    def face(self, kind: int, tint: int) -> RGB:
        """Return the colour of a kind, by its place in `KIND_ORDER`."""
        light, dark = _TINTS
        share = light + (dark - light) * tint / (self.tints - 1) if self.tints > 1 else _PLAIN_TINT
        return mixed(PALETTE[_HUE[KIND_ORDER[kind]]], PAPER, share)

    def edge(self, kind: int) -> RGB:
        """Return the border of a kind."""
        return edge(_HUE[KIND_ORDER[kind]])

    def span(self, kind: int) -> tuple[float, float]:
        """Return where in its row a bar begins and ends, as shares of the height."""
        return (0.0, 1.0) if self.lettered or self.low else _SPAN[KIND_ORDER[kind]]


def held_face(share: float) -> RGB:
    """Return the shade of so many activations, as a share of the most."""
    return mixed(HELD_FACE, PAPER, 0.8 * (1 - share))


def legend(look: Look, kinds: Sequence[int], *, waits: bool, held: str) -> Panel:
    """Return samples and their meaning, with their width and height.

    ``held`` is what stands beside the colour of activations; nothing if there are none.
    """
    empty = Box(0, 0, _SIDE, _SIDE, BUBBLE, FAINT_EDGE, 0.8)
    entries = [(_sample(look, kind), f"{_letter(kind)} {KINDS[_letter(kind)]}") for kind in kinds]
    entries.append(([empty], "bubble"))
    if waits:
        dash = Box(0, _SIDE / 2 - 0.5, _SIDE, 1, WAIT, WAIT, 0)
        entries.append(([empty, dash], "waits for a message"))
    if held:
        entries.append(([Box(0, 0, _SIDE, _SIDE, HELD_FACE, HELD_EDGE, 0.8)], held))
    items: list[Item] = []
    x, y, right = 0.0, 0.0, 0.0
    for sample, words in entries:
        start = max(box.x + box.width for box in sample) + 5
        width = start + width_of(words, SMALL)
        if x and x + width > MAX_WIDTH:
            x, y = 0.0, y + _LINE
        items += [*shifted(sample, x, y), Label(x + start, y + _SIDE / 2, words, SMALL)]
        right = max(right, x + width)
        x += width + _GAP
    return Panel(items, right, y + _SIDE)


def _sample(look: Look, kind: int) -> list[Box]:
    """Return a bar of each tint, standing in a row as it does in the chart."""
    top, bottom = look.span(kind)
    width = _SIDE * look.tints
    row = [] if look.lettered or look.low else [Box(0, 0, width, _SIDE, BUBBLE, FAINT_EDGE, 0.8)]
    faces = [look.face(kind, tint) for tint in range(look.tints)]
    return row + [
        Box(n * _SIDE, top * _SIDE, _SIDE, (bottom - top) * _SIDE, face, look.edge(kind), 0.8)
        for n, face in enumerate(faces)
    ]


def _letter(kind: int) -> str:
    return KIND_ORDER[kind]
