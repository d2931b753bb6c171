"""The slide grid and the cluster: which piece of which model copy sits where."""

from matplotlib.axes import Axes

from ... import shards
from ...layout import ParallelLayout
from ..canvas.legend import swatches
from ..canvas.page import page
from ..canvas.picture import Picture
from .arrange import cluster_board, grid_board
from .board import Board
from .cells import table
from .closeup import with_closeup
from .piece_style import colored_by, focused, piece_style, strong_names

_COPY_NOTE = "subscript: model copy · small number: GPU (rank)"
_CP_NOTE = "cp ranks of a copy hold the same parameters, each for its own part of every sequence"


def grid(layout: ParallelLayout, *, focus: int | None = None, ax: Axes | None = None) -> Picture:
    """Draw the slide grid: rows are tensor-parallel ranks, columns pipeline stages.

    Same symbol, same parameters; the subscript is the model copy, the small number the rank.
    The cp ranks of a copy stand below one another in its block. Above a few hundred GPUs, or
    where no label would be legible, cells become pixels, and one copy is drawn large above them.

    Parameters
    ----------
    layout : ParallelLayout
        What to draw.
    focus : int, optional
        A rank: only it and the ranks it communicates with are coloured, each tagged with the
        groups they share.
    ax : matplotlib Axes, optional
        Draw there.

    Examples
    --------
    >>> grid(ParallelLayout(nodes=1, gpus_per_node=4, tp=2, pp=1))
    4 GPUs = tp 2 × dp 2 × pp 1
                  pp 0
    model₁  tp 0  ★₁ 0
            tp 1  ⊕₁ 1
    model₂  tp 0  ★₂ 2
            tp 1  ⊕₂ 3
    """
    return _drawn(layout, grid_board(layout), focus, ax)


def cluster(layout: ParallelLayout, *, focus: int | None = None, ax: Axes | None = None) -> Picture:
    """Draw the machines: every node with its GPUs, and what sits on each.

    Parameters as for `grid`.

    Examples
    --------
    >>> cluster(ParallelLayout(nodes=2, gpus_per_node=2, tp=2, pp=1))
    4 GPUs = tp 2 × dp 2 × pp 1
    node 0  ★₁ 0  ⊕₁ 1
    node 1  ★₂ 2  ⊕₂ 3
    """
    return _drawn(layout, cluster_board(layout), focus, ax)


def _drawn(layout: ParallelLayout, board: Board, focus: int | None, ax: Axes | None) -> Picture:
    """Draw the pieces on a board; where cells have no room for tags, colours need a legend."""
    style, title, legend = piece_style(layout), str(layout), []
    if focus is not None:
        style = focused(layout, style, focus, strong=board.fine)
        title = f"GPU {focus} ({shards.label(layout, focus)}) and the groups it is in"
        legend = [swatches(strong_names(style))] if board.fine else []
    panels = [*with_closeup(board, style, focus or 0), *legend]
    return page(title, panels, _notes(layout, board, focus), table(board, style), ax)


def _notes(layout: ParallelLayout, board: Board, focus: int | None) -> list[str]:
    """Return what symbols stand for, or pixels, or their colours."""
    lettered = layout.tp * layout.pp > len(shards.SYMBOLS)
    mark = "letter: tp rank · number: stage" if lettered else "symbol: piece of the model"
    notes = [f"{mark} · {_COPY_NOTE}"]
    of_copies = bool(board.row_titles)
    if board.fine and of_copies:
        notes = ["same place in its copy, same parameters"]
    if board.fine and focus is None:
        notes.append(colored_by(layout))
    if layout.cp > 1 and of_copies:
        notes.append(_CP_NOTE)
    return notes
