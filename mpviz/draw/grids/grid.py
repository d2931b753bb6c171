"""The slide grid and the cluster: which piece of which model copy sits where."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from ... import shards
from ...layout import ParallelLayout
from ...rankgrid import Ranks
from ..canvas.page import Panel, heading, page, swatches
from ..canvas.picture import Picture
from ..canvas.theme import MAX_WIDTH, PALETTE, PAPER, RGB, mixed
from .board import Board, cluster_board, grid_board
from .cells import FADED, FILLS, SWATCHES, Skin, cells, cycled, table
from .closeup import closeup

_COPY_NOTE = "subscript: model copy · small number: GPU (rank)"
_CP_NOTE = "cp ranks of a copy hold the same parameters, each for its own part of every sequence"

# Colour indices of a focused rank and its peers where cells are a few pixels.
_STRONG = {"here": 13, "tp": 9, "cp": 10, "dp": 14, "dp-cp": 14, "pp": 12}

_SPOKEN = {"here": "the GPU itself", "dp, dp-cp": "same dp or dp-cp group"}

_LIGHTEST, _STRONGEST, _BAND_GAP = 0.82, 0.265, 0.12
_MOST_SHADES = 8


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
    return _drawn(layout, grid_board(layout, max_width=MAX_WIDTH), focus, ax)


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
    return _drawn(layout, cluster_board(layout, max_width=MAX_WIDTH), focus, ax)


def _drawn(layout: ParallelLayout, board: Board, focus: int | None, ax: Axes | None) -> Picture:
    skin, title = piece_skin(layout), str(layout)
    parts: list[Panel] = []
    if focus is not None:
        skin = focused(layout, skin, focus, strong=board.fine)
        title = f"GPU {focus} ({shards.label(layout, focus)}) and the groups it is in"
        parts += [swatches(_strong_names(skin))] if board.fine else []
    notes = _notes(layout, board, focus)
    parts = [*placed(board, skin, focus or 0), *parts]
    return page(title, parts, notes, table(board, skin), ax)


def placed(board: Board, skin: Skin, rank: int) -> list[Panel]:
    """Return the board; above one of pixels, the block of a rank drawn large."""
    large = closeup(board, skin, rank)
    if large is None:
        return [cells(board, skin)]
    count = len(board.blocks)
    return [
        large,
        heading(f"all {count:,} {board.noun.many}, in the same colours", cells(board, skin)),
    ]


def _notes(layout: ParallelLayout, board: Board, focus: int | None) -> list[str]:
    """Return what symbols stand for, or pixels, or their colours."""
    lettered = layout.tp * layout.pp > len(shards.SYMBOLS)
    mark = "letter: tp rank · number: stage" if lettered else "symbol: piece of the model"
    notes = [f"{mark} · {_COPY_NOTE}"]
    of_copies = bool(board.row_titles)
    if board.fine:
        place = "same place in its copy, same parameters" if of_copies else notes[0]
        notes = [place, "" if focus is not None else _colored_by(layout)]
    if layout.cp > 1 and of_copies:
        notes.append(_CP_NOTE)
    return [note for note in notes if note]


def _colored_by(layout: ParallelLayout) -> str:
    """Return what the colours of pixels stand for."""
    if layout.tp * layout.pp <= SWATCHES:
        return "same colour, same parameters"
    again = f" (from the start again after {SWATCHES})" if layout.pp > SWATCHES else ""
    shades = ", lighter with each tp rank" if layout.tp > 1 else ""
    return f"a colour for each pipeline stage{again}{shades}"


def piece_skin(layout: ParallelLayout) -> Skin:
    """Return the colours and labels of the pieces of the model."""
    ranks = np.arange(layout.world_size)
    pieces, copies = shards.piece_of(layout, ranks), shards.copy_of(layout, ranks)

    def label(rank: int) -> str:
        return shards.symbol(layout, int(pieces[rank])) + shards.subscript(int(copies[rank]) + 1)

    color, colors = piece_colors(layout, pieces)
    return Skin(color, lru_cache(maxsize=None)(label), colors=colors)


def piece_colors(layout: ParallelLayout, pieces: Ranks) -> tuple[NDArray[np.uint8], list[RGB]]:
    """Return each rank's colour and the colours: one a piece, or shades of its stage's colour."""
    if layout.tp * layout.pp <= SWATCHES:
        return cycled(pieces), list(FILLS)
    tp_rank, stage = np.divmod(pieces, layout.pp)
    stages, shades = min(layout.pp, SWATCHES), min(layout.tp, _MOST_SHADES)
    color = (stage % stages * shades + tp_rank * shades // layout.tp).astype(np.uint8)
    bands = -(-stages // len(PALETTE))
    band = (_LIGHTEST - _STRONGEST + _BAND_GAP) / bands
    colors = [
        mixed(
            PALETTE[stage % len(PALETTE)],
            PAPER,
            _STRONGEST
            + band * (stage // len(PALETTE))
            + (band - _BAND_GAP) * shade / max(1, shades - 1),
        )
        for stage in range(stages)
        for shade in range(shades)
    ]
    return color, colors


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
    return replace(skin, color=color, tags=tags, colors=FILLS if strong else skin.colors)


def _strong_names(skin: Skin) -> dict[RGB, str]:
    """Return what the full colours stand for; only those that occur."""
    tags: dict[int, list[str]] = {}
    for tag in dict.fromkeys(skin.tags.values()):
        tags.setdefault(_STRONG[tag], []).append(tag)
    names = {index: ", ".join(named) for index, named in tags.items()}
    return {FILLS[index]: _SPOKEN.get(name, f"same {name} group") for index, name in names.items()}
