"""A word for each rank, written where the rank sits on the slide grid."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from ..layout import ParallelLayout
from .board import check_drawable, grid_board
from .compose import FADED, SWATCHES, Skin, cells, page, table
from .glyphs import width_of
from .picture import Picture
from .theme import MAX_WIDTH, NORMAL

_LONGEST_DRAWN, _LONGEST_WRITTEN = 24, 60
_NARROWEST, _ROW = 58.0, 40.0


def values(
    layout: ParallelLayout,
    words: Mapping[int, str],
    *,
    title: str | None = None,
    note: str = "the small number is the rank · same value, same colour",
    ax: Axes | None = None,
) -> Picture:
    """Draw what each rank has to say, where it sits on the slide grid.

    Parameters
    ----------
    layout : ParallelLayout
        Who is who.
    words : mapping from rank to str
        Ranks without a word are faded. Long words are shortened.
    title, note : str
        Above and below the grid; by default the title is the layout's arithmetic.
    ax : matplotlib Axes, optional
        Draw there.

    Examples
    --------
    >>> layout = ParallelLayout(nodes=1, gpus_per_node=4, tp=2, pp=2)
    >>> values(layout, {0: "0.5", 1: "0.5", 2: "2.5"})
    4 GPUs = tp 2 × dp 1 × pp 2
                  pp 0    pp 1
    model₁  tp 0  0: 0.5  2: 2.5
            tp 1  1: 0.5  ·
    """
    check_drawable(layout)
    for rank in words:
        layout.check_rank(rank)
    flat = {rank: " ".join(word.split()) for rank, word in words.items()}
    drawn = {rank: shortened(word, _LONGEST_DRAWN) for rank, word in flat.items()}
    widest = max((width_of(word, NORMAL) for word in drawn.values()), default=0.0)
    cell = (max(_NARROWEST, widest + 14), _ROW)
    skin = _ValueSkin(
        _colors(layout, flat), lambda rank: drawn.get(rank, ""), size=NORMAL, words=flat
    )
    board = grid_board(layout, max_width=MAX_WIDTH, cells=(cell,))
    heading = str(layout) if title is None else title
    return page(heading, [cells(board, skin)], [note], table(board, skin), ax)


def shortened(word: str, longest: int) -> str:
    """Cut a word that is too long, and show that it was.

    >>> shortened("abcdef", 4)
    'abc…'
    """
    return word if len(word) <= longest else word[: longest - 1] + "…"


def _colors(layout: ParallelLayout, words: Mapping[int, str]) -> NDArray[np.uint8]:
    in_rank_order = dict.fromkeys(words[rank] for rank in sorted(words))
    distinct = {word: number for number, word in enumerate(in_rank_order)}
    colors = np.full(layout.world_size, FADED, np.uint8)
    for rank, word in words.items():
        colors[rank] = distinct[word] % SWATCHES
    return colors


@dataclass(frozen=True)
class _ValueSkin(Skin):
    words: Mapping[int, str] = field(default_factory=dict)

    def word(self, rank: int) -> str:
        if rank not in self.words:
            return "·"
        return f"{rank}: {shortened(self.words[rank], _LONGEST_WRITTEN)}"
