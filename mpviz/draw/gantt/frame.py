"""What the charts of one picture share: the scale of time, the rows of ranks and the style."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..canvas.glyphs import width_of
from ..canvas.theme import SMALL
from .action_table import KIND_ORDER, ActionTable
from .axis import Axis, RankRows, typical_widths
from .style import Style

_PADDING = 3.0


@dataclass(frozen=True)
class Frame:
    """Where everything in a picture stands, and how it looks.

    Attributes
    ----------
    axis : Axis
        Of the longest time line.
    rows : RankRows
        Of a chart.
    style : Style
        Of its actions.
    most : int
        Activations, at most, that one rank holds: the height of a row in a strip.
    """

    axis: Axis
    rows: RankRows
    style: Style
    most: int = 1

    @classmethod
    def of(cls, tables: Sequence[ActionTable]) -> "Frame":
        """Return the frame that suits all of these."""
        peak = max(max(table.timeline.peak_in_flight) for table in tables)
        ranks = max(table.pp for table in tables)
        longest = max((table.name(-1) for table in tables), key=len)
        tail = max((f"peak {peak}", longest + "0", "waits"), key=len)
        axis = Axis.beside(max(table.seconds for table in tables), f"rank {ranks - 1}", tail)
        rows = RankRows.of(tables, axis)
        letters = not rows.fine and all(lettered(table, axis) for table in tables)
        style = Style(max(table.chunks for table in tables), letters, low=not rows.all_named)
        return cls(axis, rows, style, max(1, peak))

    @property
    def strip(self) -> "Frame":
        """The frame of the activations under a chart."""
        return replace(self, rows=self.rows.strip)


def lettered(table: ActionTable, axis: Axis) -> bool:
    """Whether each box has room for the letter of its kind beside its microbatch."""
    number = width_of(str(table.microbatch.max()), SMALL)
    needed = [width_of(KIND_ORDER[kind], SMALL) + number + _PADDING for kind in table.kinds]
    return bool((typical_widths(table, axis) >= needed).all())
