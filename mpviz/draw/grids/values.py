"""A word for each rank, written where the rank sits on the slide grid."""

from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes

from ...layout import ParallelLayout
from ..canvas.glyphs import width_of
from ..canvas.legend import swatches
from ..canvas.limits import check_drawable
from ..canvas.page import page
from ..canvas.picture import Picture
from ..canvas.theme import NORMAL, SWATCHES
from .arrange import grid_board
from .board import Board
from .cells import FADED, FILLS, CellStyle, cells, table
from .closeup import with_closeup

_LONGEST_DRAWN, _LONGEST_WRITTEN = 24, 60
_NARROWEST, _ROW = 58.0, 40.0

_CAUSE, _WAITS = "✗", "…"
_MEANING = {_CAUSE: "the cause", _WAITS: "waits for another rank"}
_COLORS = {_CAUSE: 13, _WAITS: 1}  # strong vermillion, light blue


def values(
    layout: ParallelLayout,
    words: Mapping[int, str],
    *,
    title: str | None = None,
    note: str = "the small number is the rank · same value, same colour",
    ax: Axes | None = None,
) -> Picture:
    """Draw a word for each rank, where it sits on the slide grid.

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
    board, style = _worded(layout, words)
    heading = str(layout) if title is None else title
    return page(heading, [cells(board, style)], [note], table(board, style), ax)


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
    marks = dict.fromkeys(waiting, _WAITS) | dict.fromkeys(causes, _CAUSE)
    board, style = _worded(layout, states, marks)
    color = np.full_like(style.color, FADED)
    color[list(marks)] = [_COLORS[mark] for mark in marks.values()]
    style = replace(style, color=color, bold=frozenset(causes))
    shown = {mark: f"{mark} {_MEANING[mark]}" for mark in _COLORS if mark in marks.values()}
    key = swatches({FILLS[_COLORS[mark]]: words for mark, words in shown.items()})
    text = "\n".join(filter(None, [table(board, style), " · ".join(shown.values())]))
    panels = [*with_closeup(board, style, min(causes or waiting or [0])), key]
    return page(str(layout) if title is None else title, panels, [], text, ax)


def shortened(word: str, longest: int) -> str:
    """Cut a word that is too long, and show that it was.

    >>> shortened("abcdef", 4)
    'abc…'
    """
    return word if len(word) <= longest else word[: longest - 1] + "…"


def _worded(
    layout: ParallelLayout, words: Mapping[int, str], marks: Mapping[int, str] | None = None
) -> tuple[Board, CellStyle]:
    """Return cells that hold the longest word after its mark; those of one word have one colour."""
    check_drawable(layout)
    marks = marks or {}
    for rank in (*words, *marks):
        layout.check_rank(rank)
    flat = {rank: " ".join(words[rank].split()) for rank in sorted(words)}
    distinct = {word: number for number, word in enumerate(dict.fromkeys(flat.values()))}
    color = np.full(layout.world_size, FADED, np.uint8)
    color[list(flat)] = [distinct[word] % SWATCHES for word in flat.values()]
    drawn = {rank: shortened(word, _LONGEST_DRAWN) for rank, word in flat.items()}
    drawn |= {rank: f"{mark} {drawn.get(rank, '')}".strip() for rank, mark in marks.items()}

    def text(rank: int) -> str:
        if rank not in flat:
            return "·"
        return f"{marks.get(rank, '')} {rank}: {shortened(flat[rank], _LONGEST_WRITTEN)}".lstrip()

    widest = max((width_of(word, NORMAL) for word in drawn.values()), default=0.0)
    board = grid_board(layout, cells=[(max(_NARROWEST, widest + 14), _ROW)])
    return board, CellStyle(color, lambda rank: drawn.get(rank, ""), text, size=NORMAL)
