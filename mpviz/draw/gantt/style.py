"""How each kind of action looks in the chart of a pipeline."""

from dataclasses import dataclass
from typing import TypeVar

from ..canvas.theme import FRAME, PALETTE, PAPER, QUIET, RGB, edge, fill, mixed
from .action_table import KIND_ORDER, Ints

BUBBLE: RGB = FRAME
WAIT = mixed(QUIET, PAPER, 0.4)
ACTIVATION_FACE, ACTIVATION_EDGE = fill(6), edge(6)

_HUE = {"F": 1, "B": 2, "I": 3, "W": 0}
_SPAN = {"F": (0.0, 0.72), "B": (0.28, 1.0), "I": (0.28, 0.76), "W": (0.52, 1.0)}
_LIGHT, _DARK = 0.68, 0.1
_MOST_TINTS = 8

Numbers = TypeVar("Numbers", int, Ints)


@dataclass(frozen=True)
class Style:
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

    def tint(self, chunk: Numbers) -> Numbers:
        """Return the number of the tint of a chunk."""
        return chunk * self.tints // self.chunks

    def face(self, kind: int, tint: int) -> RGB:
        """Return the colour of a kind, by its place in `KIND_ORDER`."""
        hue = _HUE[KIND_ORDER[kind]]
        if self.tints == 1:
            return fill(hue)
        return mixed(PALETTE[hue], PAPER, _LIGHT + (_DARK - _LIGHT) * tint / (self.tints - 1))

    def edge(self, kind: int) -> RGB:
        """Return the border of a kind."""
        return edge(_HUE[KIND_ORDER[kind]])

    @property
    def kind_by_span(self) -> bool:
        """Whether the place of a bar in its row, and not a letter, shows its kind."""
        return not (self.lettered or self.low)

    def span(self, kind: int) -> tuple[float, float]:
        """Return where in its row a bar begins and ends, as shares of the height."""
        return _SPAN[KIND_ORDER[kind]] if self.kind_by_span else (0.0, 1.0)


def activation_face(share: float) -> RGB:
    """Return the shade of so many activations, as a share of the most."""
    return mixed(ACTIVATION_FACE, PAPER, 0.8 * (1 - share))
