"""A word for each rank, written where the rank sits on the slide grid."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from ...layout import ParallelLayout
from ..canvas.glyphs import width_of
from ..canvas.page import page, swatches
from ..canvas.picture import Picture
from ..canvas.theme import MAX_WIDTH, NORMAL
from .board import check_drawable, grid_board
from .cells import FADED, FILLS, SWATCHES, Skin, cells, table
from .grid import placed

_LONGEST_DRAWN, _LONGEST_WRITTEN = 24, 60
_NARROWEST, _ROW = 58.0, 40.0

_CAUSE, _WAITS = "✗", "…"
_MEANING = {_CAUSE: "the cause", _WAITS: "waits for another rank"}
_LOOKS = {_CAUSE: 13, _WAITS: 1}  # strong vermillion, light blue


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
    skin = _ValueSkin.of(layout, words)
    board = grid_board(layout, max_width=MAX_WIDTH, cells=(skin.cell,))
    heading = str(layout) if title is None else title
    return page(heading, [cells(board, skin)], [note], table(board, skin), ax)


def outcomes(
    layout: ParallelLayout,
    states: Mapping[int, str],
    *,
    causes: Collection[int] = (),
    waiting: Collection[int] = (),
    title: str | None = None,
    ax: Axes | None = None,
) -> Picture:
    """Draw what became of each rank of a run that did not go well, the cause in front.

    Parameters
    ----------
    layout : ParallelLayout
        Who is who.
    states : mapping from rank to str
        What became of it.
    causes, waiting : collection of int
        The ranks that the others waited for, or that failed; those that waited.
    title, ax
        As for `values`.

    Examples
    --------
    >>> layout = ParallelLayout(nodes=1, gpus_per_node=4, tp=2, pp=2)
    >>> states = {0: "waits in recv", 1: "done", 2: "raised ValueError", 3: "done"}
    >>> outcomes(layout, states, causes=[2], waiting=[0])
    4 GPUs = tp 2 × dp 1 × pp 2
                  pp 0                pp 1
    model₁  tp 0  … 0: waits in recv  ✗ 2: raised ValueError
            tp 1  1: done             3: done
    ✗ the cause · … waits for another rank
    """
    check_drawable(layout)
    marks = dict.fromkeys(waiting, _WAITS) | dict.fromkeys(causes, _CAUSE)
    skin = _ValueSkin.of(layout, states, marks)
    color = np.full_like(skin.color, FADED)
    color[list(waiting)] = _LOOKS[_WAITS]
    color[list(causes)] = _LOOKS[_CAUSE]
    skin = replace(skin, color=color, bold=frozenset(causes))
    board = grid_board(layout, max_width=MAX_WIDTH, cells=(skin.cell,))
    heading = str(layout) if title is None else title
    shown = [mark for mark in (_CAUSE, _WAITS) if mark in marks.values()]
    key = swatches({FILLS[_LOOKS[mark]]: f"{mark} {_MEANING[mark]}" for mark in shown})
    text = [table(board, skin), " · ".join(f"{mark} {_MEANING[mark]}" for mark in shown)]
    parts = [*placed(board, skin, min(causes or waiting or [0])), key]
    return page(heading, parts, [], "\n".join(filter(None, text)), ax)


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
    marks: Mapping[int, str] = field(default_factory=dict)
    cell: tuple[float, float] = (_NARROWEST, _ROW)

    @classmethod
    def of(
        cls,
        layout: ParallelLayout,
        words: Mapping[int, str],
        marks: Mapping[int, str] | None = None,
    ) -> "_ValueSkin":
        """Make cells that hold the longest word; those of one word have one colour."""
        marks = marks or {}
        for rank in (*words, *marks):
            layout.check_rank(rank)
        flat = {rank: " ".join(word.split()) for rank, word in words.items()}
        drawn = {rank: shortened(word, _LONGEST_DRAWN) for rank, word in flat.items()}
        drawn |= {rank: f"{mark} {drawn.get(rank, '')}".strip() for rank, mark in marks.items()}
        widest = max((width_of(word, NORMAL) for word in drawn.values()), default=0.0)
        return cls(
            _colors(layout, flat),
            lambda rank: drawn.get(rank, ""),
            size=NORMAL,
            words=flat,
            marks=marks,
            cell=(max(_NARROWEST, widest + 14), _ROW),
        )

    def word(self, rank: int) -> str:
        if rank not in self.words:
            return "·"
        mark = f"{self.marks[rank]} " if rank in self.marks else ""
        return f"{mark}{rank}: {shortened(self.words[rank], _LONGEST_WRITTEN)}"
