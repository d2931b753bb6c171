"""A matrix as boxes: one for each rank that holds a part of it, or the stack of its copies."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ...shards import Cut, times
from ..canvas.glyphs import width_of
from ..canvas.page import elided
from ..canvas.scene import Box, Item, Label
from ..canvas.theme import FAINT_EDGE, FRAME, NORMAL, QUIET, SMALL, edge, fill, ink_on
from .block_steps import part_name
from .numbers import CELL_HEIGHT, MOST_PARTS, Entries, Words

GAP = 3.0
"""Between two parts."""

_LINE = 13.0
_HEADING, _FOOT = 18.0, 3.0
_SHORTEST = 56.0
_PART_LENGTHS = ((32.0, 20.0), (38.0, 20.0))
"""Of a part along the cut dimension: where there is room, and where there is not."""
_FEW = 4
_FAN, _TIGHT_FAN = 5.0, 3.0


def drawn_ranks(parts: int, few: int = MOST_PARTS) -> list[int | None]:
    """Return the ranks to draw: up to 8 all of them, of more only ``few``.

    None stands for those left out of the middle.

    >>> drawn_ranks(64, few=4)
    [0, 1, None, 63]
    """
    return elided(parts, few if parts > MOST_PARTS else MOST_PARTS)


def lies(cut: Cut) -> str:
    """Say how it lies on the ranks.

    >>> lies(Cut("X", (4, 6), 2)), lies(Cut("A", (6, 8), 2, dim=1))
    ('on each rank', 'cut by column')
    """
    if cut.parts == 1:
        return "whole"
    return "on each rank" if cut.state == "whole" else cut.state


# ---- sizes


@dataclass(frozen=True)
class Scale:
    """How large matrices are drawn.

    Attributes
    ----------
    length : mapping from int to float
        Points that a number of rows or columns takes.
    words : mapping from Cut to the Entries of each rank
        The numbers to write, if any.
    cell : float
        Width of a cell with a number in it; 0 where none are written.
    """

    length: Mapping[int, float]
    words: Words = field(default_factory=dict)
    cell: float = 0.0

    @classmethod
    def of(cls, cuts: Iterable[Cut], longest: float) -> "Scale":
        """Return the scale on which the largest size takes ``longest`` points.

        Proportional as long as a part has room for its rank.
        """
        cuts = list(cuts)
        sizes = {size for cut in cuts for size in cut.shape}
        length = {size: max(_SHORTEST, longest * size / max(sizes)) for size in sizes}
        for cut in cuts:
            if cut.dim is not None:
                size = cut.shape[cut.dim]
                length[size] = max(length[size], least_length(cut))
        return cls(length)

    def size(self, cut: Cut) -> tuple[float, float]:
        """Return width and height of a matrix; of an addend, where it is a partial sum."""
        rows, columns = cut.shape
        if not self.cell:
            return self.length[columns], self.length[rows]
        beside, below = (cut.parts if cut.dim == dim else 1 for dim in (1, 0))
        width = columns * self.cell + (beside - 1) * GAP
        least = least_length(cut, roomy=True) if cut.dim == 1 else _SHORTEST
        height = rows * CELL_HEIGHT + below * (_HEADING + _FOOT) + (below - 1) * GAP
        return max(width, least), height


def least_length(cut: Cut, *, roomy: bool = False) -> float:
    """Return how long the cut side of a matrix must be, so that each part can name its rank."""
    drawn = len(drawn_ranks(cut.parts))
    long, short = _PART_LENGTHS[cut.dim or 0]
    return drawn * ((long if roomy or drawn <= _FEW else short) + GAP) - GAP


def fan_of(cut: Cut) -> float:
    """Return how far the copies of a whole matrix stand out behind the first."""
    return _fan_step(cut) * (min(cut.parts, MOST_PARTS) - 1) if cut.state == "whole" else 0.0


def _fan_step(cut: Cut) -> float:
    return _FAN if cut.parts <= _FEW else _TIGHT_FAN


# ---- boxes


def matrix(
    cut: Cut, width: float, height: float, words: Sequence[Entries] | None = None
) -> list[Item]:
    """Return the boxes of a matrix, its left top corner at the origin.

    A cut one is drawn as its parts. A whole one is drawn once, with the copies of other ranks
    behind it.

    Parameters
    ----------
    cut : Cut
        Whole or cut.
    width, height : float
        Of the matrix; copies stand out to the right and below.
    words : sequence of Entries, optional
        The numbers of each rank's part.
    """
    if cut.dim is not None:
        return _parts(cut, width, height, words)
    step, last = _fan_step(cut), cut.parts - 1
    cards = [
        Box(rank * step, rank * step, width, height, fill(rank), edge(rank))
        for rank in reversed(range(min(cut.parts, MOST_PARTS)))
    ]
    ranks = f"0–{last}" if last else "0"
    return [*cards, *_labels(cards[-1], cut, ranks, words[0] if words else None)]


def addend(cut: Cut, rank: int, scale: Scale) -> list[Item]:
    """Return the box of what one rank holds of a partial sum."""
    box = Box(0, 0, *scale.size(cut), fill(rank), edge(rank))
    return [box, *_labels(box, cut, str(rank), scale.words[cut][rank] if scale.words else None)]


def _parts(cut: Cut, width: float, height: float, words: Sequence[Entries] | None) -> list[Item]:
    """Return a box for each part: equal slices, in rank order."""
    ranks = drawn_ranks(cut.parts)
    dx = (width + GAP) / len(ranks) if cut.dim == 1 else 0.0
    dy = (height + GAP) / len(ranks) if cut.dim == 0 else 0.0
    slot = Box(0, 0, dx - GAP if dx else width, dy - GAP if dy else height, FRAME, FAINT_EDGE)
    items: list[Item] = []
    for place, rank in enumerate(ranks):
        box = replace(slot, x=place * dx, y=place * dy)
        if rank is None:
            middle = (box.x + box.width / 2, box.y + box.height / 2)
            items += [box, Label(*middle, "…", NORMAL, QUIET, "center")]
        else:
            box = replace(box, face=fill(rank), edge=edge(rank))
            entries = words[rank] if words else None
            items += [box, *_labels(box, cut, str(rank), entries, part_name(cut, rank))]
    return items


def _labels(
    box: Box, cut: Cut, ranks: str, entries: Entries | None, name: str = ""
) -> Iterator[Label]:
    """Yield what a box holds: its numbers, or else its name, ranks and shape."""
    room = box.width - 4
    holder = f"ranks {ranks}" if "–" in ranks else f"rank {ranks}"
    titles = [f"{name}, {holder}"] if name and entries is not None else []
    titles += [holder, ranks]
    title = next((words for words in titles if width_of(words, SMALL) <= room), ranks)
    x, ink = box.x + box.width / 2, ink_on(box.face)
    if entries is not None:
        yield Label(x, box.y + 9.5, title, SMALL, ink, "center")
        cell = box.width / len(entries[0])
        for row, line in enumerate(entries):
            y = box.y + _HEADING + (row + 0.5) * CELL_HEIGHT
            for column, word in enumerate(line):
                yield Label(box.x + (column + 0.5) * cell, y, word, SMALL, ink, "center")
        return
    lines = [(title, SMALL, False)]
    shape = times(cut.local_shape)
    if box.height >= 2 * _LINE + 4 and width_of(shape, SMALL) <= room:
        lines.append((shape, SMALL, False))
    if name and box.height >= (len(lines) + 1) * _LINE + 4:
        lines.insert(0, (name, NORMAL, True))
    top = box.y + box.height / 2 - (len(lines) - 1) / 2 * _LINE
    for place, (text, size, bold) in enumerate(lines):
        yield Label(x, top + place * _LINE, text, size, ink, "center", bold)
