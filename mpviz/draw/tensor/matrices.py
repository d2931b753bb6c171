"""A matrix as boxes: one for each rank that holds a part of it, or the stack of its copies."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ...shards import Cut, times
from ..canvas.glyphs import width_of
from ..canvas.scene import Box, Item, Label
from ..canvas.theme import FAINT_EDGE, FRAME, NORMAL, QUIET, SMALL, edge, fill, ink_on
from .numbers import CELL_HEIGHT, MOST_PARTS, Rows
from .steps import named

GAP = 3.0
"""Between two parts."""

_LINE = 13.0
_HEADING, _FOOT = 18.0, 3.0
_SHORTEST = 56.0
_HIGH_PART, _LOW_PART = 32.0, 20.0
_WIDE_PART, _NARROW_PART = 38.0, 20.0
_FEW = 4
_FAN, _TIGHT_FAN = 5.0, 3.0


def drawn_ranks(parts: int, most: int = MOST_PARTS) -> list[int | None]:
    """Return the ranks to draw; None stands for those left out of the middle.

    >>> drawn_ranks(64, most=4)
    [0, 1, None, 63]
    """
    return list(range(parts)) if parts <= MOST_PARTS else [*range(most - 2), None, parts - 1]


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
    cell : float
        Width of a cell with a number in it; 0 where none are written.
    """

    length: Mapping[int, float]
    cell: float = 0.0

    @classmethod
    def of(cls, cuts: Iterable[Cut], longest: float) -> "Scale":
        """Return the scale on which the largest size takes ``longest`` points.

        Proportional as long as a part has room for its rank.
        """
        cuts = list(cuts)
        largest = max(size for cut in cuts for size in cut.shape)
        length = {
            size: max(_SHORTEST, longest * size / largest) for cut in cuts for size in cut.shape
        }
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
        beside = cut.parts if cut.dim == 1 else 1
        below = cut.parts if cut.dim == 0 else 1
        width = columns * self.cell + (beside - 1) * GAP
        return (
            max(width, least_length(cut, roomy=True) if cut.dim == 1 else _SHORTEST),
            rows * CELL_HEIGHT + below * (_HEADING + _FOOT) + (below - 1) * GAP,
        )


def least_length(cut: Cut, *, roomy: bool = False) -> float:
    """Return how long the cut side of a matrix must be, so that each part can name its rank."""
    drawn = len(drawn_ranks(cut.parts))
    roomy = roomy or drawn <= _FEW
    if cut.dim == 0:
        part = _HIGH_PART if roomy else _LOW_PART
    else:
        part = _WIDE_PART if roomy else _NARROW_PART
    return drawn * (part + GAP) - GAP


def fan_of(cut: Cut) -> float:
    """Return how far the copies of a whole matrix stand out behind the first."""
    return _fan_step(cut) * (_cards(cut) - 1) if cut.state == "whole" else 0.0


def _cards(cut: Cut) -> int:
    return min(cut.parts, MOST_PARTS)


def _fan_step(cut: Cut) -> float:
    return _FAN if cut.parts <= _FEW else _TIGHT_FAN


# ---- boxes


def matrix(
    cut: Cut, width: float, height: float, words: Sequence[Rows] | None = None
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
    words : sequence of rows, optional
        The numbers of each rank's part.
    """
    if cut.dim is None:
        last, step = cut.parts - 1, _fan_step(cut)
        who = ("rank 0", "0") if cut.parts == 1 else (f"ranks 0–{last}", f"0–{last}")
        return [
            *(
                Box(card * step, card * step, width, height, fill(card), edge(card))
                for card in range(_cards(cut) - 1, 0, -1)
            ),
            *_part(
                Box(0, 0, width, height, fill(0), edge(0)),
                "",
                who,
                cut,
                words[0] if words else None,
            ),
        ]
    items: list[Item] = []
    ranks = drawn_ranks(cut.parts)
    for place, rank in enumerate(ranks):
        box = _slot(cut.dim, place, len(ranks), width, height, rank)
        if rank is None:
            middle = (box.x + box.width / 2, box.y + box.height / 2)
            items += [box, Label(*middle, "…", NORMAL, QUIET, "center")]
        else:
            who = (f"rank {rank}", str(rank))
            items += _part(box, named(cut, rank), who, cut, words[rank] if words else None)
    return items


def addend(
    cut: Cut, rank: int, width: float, height: float, words: Sequence[Rows] | None = None
) -> list[Item]:
    """Return the box of what one rank holds of a partial sum."""
    box = Box(0, 0, width, height, fill(rank), edge(rank))
    return _part(box, "", (f"rank {rank}", str(rank)), cut, words[rank] if words else None)


def _slot(dim: int, place: int, count: int, width: float, height: float, rank: int | None) -> Box:
    """Return the box of one part: equal slices, in rank order."""
    colors = (FRAME, FAINT_EDGE) if rank is None else (fill(rank), edge(rank))
    if dim == 1:
        step = (width + GAP) / count
        return Box(place * step, 0, step - GAP, height, *colors)
    step = (height + GAP) / count
    return Box(0, place * step, width, step - GAP, *colors)


def _part(box: Box, name: str, who: Sequence[str], cut: Cut, rows: Rows | None) -> list[Item]:
    """Return a box with what it holds: its numbers, or else its name, rank and shape."""
    room = box.width - 4
    if name and rows is not None:
        who = (f"{name}, {who[0]}", *who)
    whose = next((words for words in who if width_of(words, SMALL) <= room), who[-1])
    x, ink = box.x + box.width / 2, ink_on(box.face)
    if rows is not None:
        return [box, Label(x, box.y + 9.5, whose, SMALL, ink, "center"), *_cells(box, rows)]
    lines = [(whose, SMALL, False)]
    shape = times(cut.local_shape)
    if box.height >= 2 * _LINE + 4 and width_of(shape, SMALL) <= room:
        lines.append((shape, SMALL, False))
    if name and box.height >= (len(lines) + 1) * _LINE + 4:
        lines.insert(0, (name, NORMAL, True))
    top = box.y + box.height / 2 - (len(lines) - 1) / 2 * _LINE
    return [
        box,
        *(
            Label(x, top + line * _LINE, text, size, ink, "center", bold)
            for line, (text, size, bold) in enumerate(lines)
        ),
    ]


def _cells(box: Box, rows: Rows) -> list[Label]:
    cell = box.width / len(rows[0])
    return [
        Label(
            box.x + (column + 0.5) * cell,
            box.y + _HEADING + (row + 0.5) * CELL_HEIGHT,
            word,
            SMALL,
            ink_on(box.face),
            "center",
        )
        for row, line in enumerate(rows)
        for column, word in enumerate(line)
    ]
