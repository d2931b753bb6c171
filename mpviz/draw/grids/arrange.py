"""From a layout to its board: a block for each model copy, or for each node."""

from collections.abc import Sequence
from math import ceil

import numpy as np

from ... import shards
from ...layout import ParallelLayout
from ...rankgrid import Ranks
from ..canvas.limits import check_drawable
from ..canvas.theme import MAX_WIDTH
from .board import EMPTY, ROOMY, TIGHT, Board, Noun
from .fit import MOST_CELLS, fitted

_COPY, _NODE = Noun("copy", "copies", 1), Noun("node", "nodes", 0)
_WIDEST_BLOCK, _FOLDED_BLOCK = 16, 12


def grid_board(
    layout: ParallelLayout,
    *,
    max_width: float = MAX_WIDTH,
    cells: Sequence[tuple[float, float]] = (ROOMY, TIGHT),
) -> Board:
    """Lay out the slide grid: a block for each model copy, tp down, pp across.

    With context parallelism a block has tp rows for each cp rank: they share one copy's work.
    ``cells`` are the sizes of a cell to try, the preferred first.
    """
    check_drawable(layout)
    at = layout.coordinates(np.arange(layout.world_size))
    row = at["cp"] * layout.tp + at["tp"]
    place = (at["dp"] * layout.cp * layout.tp + row) * layout.pp + at["pp"]
    blocks = np.argsort(place).reshape(layout.dp, layout.cp * layout.tp, layout.pp)
    of_cp = [f"cp {cp_rank}, " for cp_rank in range(layout.cp)] if layout.cp > 1 else [""]
    rows = [f"{cp}tp {tp_rank}" for cp in of_cp for tp_rank in range(layout.tp)]
    columns = [f"pp {pp_rank}" for pp_rank in range(layout.pp)]
    if layout.pp > _WIDEST_BLOCK and layout.world_size <= MOST_CELLS:
        blocks, rows, columns = _folded(blocks, rows)
    board = Board(blocks, _COPY, lambda n: f"model{shards.subscript(n + 1)}", rows, columns)
    return fitted(board, max_width, cells)


def cluster_board(
    layout: ParallelLayout,
    *,
    max_width: float = MAX_WIDTH,
    beside: int = 8,
    headroom: float = 0.0,
) -> Board:
    """Lay out the cluster: a block for each node, at most ``beside`` GPUs in a row."""
    check_drawable(layout)
    per_node = layout.gpus_per_node
    fitting = [n for n in range(2, beside + 1) if per_node % n == 0]
    columns = per_node if per_node <= beside else max(fitting, default=beside)
    ranks = np.arange(layout.world_size).reshape(layout.nodes, per_node)
    blocks = _padded(ranks, columns).reshape(layout.nodes, -1, columns)
    board = Board(blocks, _NODE, lambda n: f"node {n}", framed=True, headroom=headroom)
    return fitted(board, max_width)


def _folded(blocks: Ranks, names: Sequence[str]) -> tuple[Ranks, list[str], list[str]]:
    """Fold rows too long for a page: stages 12 … 23 stand below stages 0 … 11."""
    copies, height, pp = blocks.shape
    width = ceil(pp / ceil(pp / _FOLDED_BLOCK))
    parts = _padded(blocks, width).reshape(copies, height, -1, width).swapaxes(1, 2)
    spans = [(start, min(start + width, pp) - 1) for start in range(0, pp, width)]
    rows = [f"pp {first}–{last}, {name}" for first, last in spans for name in names]
    return parts.reshape(copies, -1, width), rows, []


def _padded(ranks: Ranks, width: int) -> Ranks:
    """Return the rows filled up with `EMPTY` to a multiple of ``width``."""
    missing = -ranks.shape[-1] % width
    return np.pad(ranks, [(0, 0)] * (ranks.ndim - 1) + [(0, missing)], constant_values=EMPTY)
