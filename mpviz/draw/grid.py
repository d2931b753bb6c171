"""The slide grid and the cluster: which piece of which model copy sits where."""

from functools import lru_cache

import numpy as np
from matplotlib.axes import Axes

from .. import shards
from ..layout import ParallelLayout
from .board import Board, cluster_board, grid_board
from .compose import FADED, SWATCHES, Skin, cells, cycled, page, table
from .picture import Picture
from .theme import MAX_WIDTH

_SYMBOLS_NOTE = "symbol: piece of the model · subscript: model copy · small number: GPU (rank)"

# Colour indices of a focused rank and its peers where cells are a few pixels.
_STRONG = {"here": 13, "tp": 9, "cp": 10, "dp": 14, "dp-cp": 14, "pp": 12}
_STRONG_NAMES = {13: "vermillion", 9: "sky blue", 10: "green", 14: "purple", 12: "blue"}


def grid(layout: ParallelLayout, *, focus: int | None = None, ax: Axes | None = None) -> Picture:
    """Draw the slide grid: rows are tensor-parallel ranks, columns pipeline stages.

    Same symbol, same parameters; the subscript is the model copy, the small number the rank.
    Above a few hundred GPUs, or where no label would be legible, cells become pixels.

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
    board = grid_board(layout, max_width=MAX_WIDTH)
    note = _SYMBOLS_NOTE
    if board.fine:
        note = (
            f"one block: one model copy, tp 0–{layout.tp - 1} down, pp 0–{layout.pp - 1} across · "
            f"same place in the block: same parameters"
        )
    return _drawn(layout, board, note, focus, ax)


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
    board = cluster_board(layout, max_width=MAX_WIDTH)
    note = _SYMBOLS_NOTE
    if board.fine:
        note = f"one block: one node of {layout.gpus_per_node} GPUs"
        note += f" · colour: {_colored_by(layout)}" if focus is None else ""
    return _drawn(layout, board, note, focus, ax)


def _drawn(
    layout: ParallelLayout, board: Board, note: str, focus: int | None, ax: Axes | None
) -> Picture:
    skin, title, notes = piece_skin(layout), str(layout), [note]
    if focus is not None:
        skin = focused(layout, skin, focus, strong=board.fine)
        title = f"GPU {focus} ({shards.label(layout, focus)}) and the groups it is in"
        notes += [_strong_note(skin)] if board.fine else []
    return page(title, [cells(board, skin)], notes, table(board, skin), ax)


def _colored_by_stage(layout: ParallelLayout) -> bool:
    """Whether there are too many pieces for a colour each, so that stages get one instead."""
    return layout.tp * layout.pp > SWATCHES


def _colored_by(layout: ParallelLayout) -> str:
    colored = "pipeline stage" if _colored_by_stage(layout) else "piece of the model"
    return colored + (f" (from the start again after {SWATCHES})" if layout.pp > SWATCHES else "")


def piece_skin(layout: ParallelLayout) -> Skin:
    """Return the colours and labels of the pieces of the model."""
    ranks = np.arange(layout.world_size)
    pieces, copies = shards.piece_of(layout, ranks), shards.copy_of(layout, ranks)

    def label(rank: int) -> str:
        return shards.symbol(layout, int(pieces[rank])) + shards.subscript(int(copies[rank]) + 1)

    colored = pieces % layout.pp if _colored_by_stage(layout) else pieces
    return Skin(cycled(colored), lru_cache(maxsize=None)(label))


def focused(layout: ParallelLayout, skin: Skin, rank: int, *, strong: bool) -> Skin:
    """Fade all but one rank and its peers; tag each peer with the group they share.

    ``strong`` gives each axis a full colour, to be seen where a cell is a few pixels.
    """
    rank = layout.check_rank(rank)
    tags = {rank: "here"}
    for kind in ("tp", "cp", "dp", "pp", "dp-cp"):  # the last: gradients also cross both axes
        for peer in layout.groups(kind).of(rank):
            tags.setdefault(peer, kind)
    spoken_of = list(tags)
    color = np.full_like(skin.color, FADED)
    color[spoken_of] = [_STRONG[tag] for tag in tags.values()] if strong else skin.color[spoken_of]
    return Skin(color, skin.label, tags, skin.crossing)


def _strong_note(skin: Skin) -> str:
    """Return what the full colours stand for; only those that occur."""
    tags: dict[str, list[str]] = {}
    for tag in dict.fromkeys(skin.tags.values()):
        tags.setdefault(_STRONG_NAMES[_STRONG[tag]], []).append(tag)
    return " · ".join(f"{color}: {', '.join(named)}" for color, named in tags.items())
