"""What a run did: who sent how much to whom."""

from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from ...timeline import Event, sent_bytes
from ..canvas.glyphs import width_of
from ..canvas.page import Panel, aligned, page
from ..canvas.picture import Picture
from ..canvas.scene import Box, Item, Label
from ..canvas.theme import FAINT_EDGE, PALETTE, PAPER, QUIET, SMALL, ink_on, mixed

_MOST_RANKS = 64
_ROW = 20.0
_UNITS = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("B", 1.0))


def traffic(events: Iterable[Event], world_size: int, *, ax: Axes | None = None) -> Picture:
    r"""Draw who sent how much to whom: a row for each sender, a column for each receiver.

    Only messages count; what a collective sends inside is up to its algorithm.

    Parameters
    ----------
    events : iterable of Event
        Of a recorded run.
    world_size : int
        Number of ranks, at most 64.
    ax : matplotlib Axes, optional
        Draw there.

    Examples
    --------
    >>> traffic([Event(0, "send", 0.0, 1.0, (0, 1), bytes=8, peer=1)], world_size=2)
    8 B sent in messages
    from \ to  0  1
    0          ·  8
    1          ·  ·
    row: sender · column: receiver · in B
    """
    if not 1 <= world_size <= _MOST_RANKS:
        raise ValueError(f"a table of {world_size} ranks cannot be read; at most {_MOST_RANKS}")
    matrix = sent_bytes(events, world_size)
    unit, scale = _unit(int(matrix.max()))
    words = [[f"{value / scale:g}" if value else "·" for value in row] for row in matrix.tolist()]
    note = f"row: sender · column: receiver · in {unit}"
    title = f"{amount(int(matrix.sum()))} sent in messages"
    lines = [["from \\ to", *map(str, range(world_size))]]
    lines += [[str(rank), *row] for rank, row in enumerate(words)]
    text = "\n".join([aligned(lines), note])
    return page(title, [_matrix(matrix, words)], [note], text, ax)


def _matrix(matrix: NDArray[np.int64], words: Sequence[Sequence[str]]) -> Panel:
    world_size, most = len(matrix), max(1, int(matrix.max()))
    longest = max(width_of(word, SMALL) for row in words for word in row)
    width = max(24.0, longest + 6, width_of(str(world_size - 1), SMALL) + 6)
    items: list[Item] = []
    for rank in range(world_size):
        items.append(Label(30 + (rank + 0.5) * width, 6, str(rank), SMALL, QUIET, "center"))
        items.append(Label(20, 16 + (rank + 0.5) * _ROW, str(rank), SMALL, QUIET, "right"))
    for (sender, receiver), value in np.ndenumerate(matrix):
        x, y = 30 + receiver * width, 16 + sender * _ROW
        face = mixed(PAPER, PALETTE[1], 0.15 + 0.85 * value / most) if value else PAPER
        items.append(Box(x, y, width - 2, _ROW - 2, face, FAINT_EDGE, 0.8))
        if value:
            middle = (x + width / 2 - 1, y + _ROW / 2 - 1)
            word = words[sender][receiver]
            items.append(Label(*middle, word, SMALL, ink_on(face), "center"))
    return Panel(items, 30 + world_size * width, 16 + world_size * _ROW)


def _unit(most: int) -> tuple[str, float]:
    return next(((unit, scale) for unit, scale in _UNITS if most >= 10 * scale), ("B", 1.0))


def amount(count: int) -> str:
    """Return a number of bytes in the unit that suits it."""
    unit, scale = _unit(count)
    return f"{count / scale:g} {unit}"
