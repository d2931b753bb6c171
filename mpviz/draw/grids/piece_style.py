"""The pieces of the model: their colours and symbols, and one rank among its peers."""

from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ... import shards
from ...layout import ParallelLayout
from ...rankgrid import Ranks
from ..canvas.theme import PALETTE, PAPER, RGB, SWATCHES, mixed
from .cells import FADED, FILLS, CellStyle, cycled

# Colour indices of a focused rank and its peers where cells are a few pixels.
_STRONG = {"here": 13, "tp": 9, "cp": 10, "dp": 14, "dp-cp": 14, "pp": 12}
_NAMES = {"here": "the GPU itself", "dp, dp-cp": "same dp or dp-cp group"}

_LIGHTEST, _STRONGEST, _BAND_GAP = 0.82, 0.265, 0.12
_MOST_SHADES = 8


def piece_style(layout: ParallelLayout) -> CellStyle:
    """Return the colours and labels of the pieces of the model."""
    ranks = np.arange(layout.world_size)
    pieces, copies = shards.piece_of(layout, ranks), shards.copy_of(layout, ranks)

    @cache
    def label(rank: int) -> str:
        return shards.symbol(layout, int(pieces[rank])) + shards.subscript(int(copies[rank]) + 1)

    color, colors = piece_colors(layout, pieces)
    return CellStyle(color, label, colors=colors)


def piece_colors(layout: ParallelLayout, pieces: Ranks) -> tuple[NDArray[np.uint8], list[RGB]]:
    """Return each rank's colour and the colours: one a piece, or shades of its stage's colour."""
    if layout.tp * layout.pp <= SWATCHES:
        return cycled(pieces), list(FILLS)
    tp_rank, stage = np.divmod(pieces, layout.pp)
    stages, shades = min(layout.pp, SWATCHES), min(layout.tp, _MOST_SHADES)
    color = (stage % stages * shades + tp_rank * shades // layout.tp).astype(np.uint8)
    bands = -(-stages // len(PALETTE))
    band = (_LIGHTEST - _STRONGEST + _BAND_GAP) / bands
    step = (band - _BAND_GAP) / max(1, shades - 1)
    colors = []
    for number in range(stages):
        again, hue = divmod(number, len(PALETTE))
        lightest = _STRONGEST + band * again
        colors += [mixed(PALETTE[hue], PAPER, lightest + step * shade) for shade in range(shades)]
    return color, colors


def colored_by(layout: ParallelLayout) -> str:
    """Return what the colours of pixels stand for."""
    if layout.tp * layout.pp <= SWATCHES:
        return "same colour, same parameters"
    again = f" (from the start again after {SWATCHES})" if layout.pp > SWATCHES else ""
    shades = ", lighter with each tp rank" if layout.tp > 1 else ""
    return f"a colour for each pipeline stage{again}{shades}"


def focused(layout: ParallelLayout, style: CellStyle, rank: int, *, strong: bool) -> CellStyle:
    """Fade all but one rank and its peers; tag each peer with the group they share.

    ``strong`` gives each axis a full colour, to be seen where a cell is a few pixels.
    """
    rank = layout.check_rank(rank)
    tags = {rank: "here"}
    for kind in ("tp", "cp", "dp", "pp", "dp-cp"):  # the last: gradients also cross both axes
        for peer in layout.groups(kind).of(rank):
            tags.setdefault(peer, kind)
    peers = list(tags)
    color = np.full_like(style.color, FADED)
    color[peers] = [_STRONG[tag] for tag in tags.values()] if strong else style.color[peers]
    return replace(style, color=color, tags=tags, colors=FILLS if strong else style.colors)


def strong_names(style: CellStyle) -> dict[RGB, str]:
    """Return what the full colours stand for; only those that occur."""
    tags: dict[int, list[str]] = {}
    for tag in dict.fromkeys(style.tags.values()):
        tags.setdefault(_STRONG[tag], []).append(tag)
    names = {index: ", ".join(named) for index, named in tags.items()}
    return {FILLS[index]: _NAMES.get(name, f"same {name} group") for index, name in names.items()}
