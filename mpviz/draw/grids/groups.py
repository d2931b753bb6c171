"""Process groups drawn on the slide grid or on the cluster, and two layouts side by side."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from ...layout import ParallelLayout
from ..canvas.glyphs import width_of
from ..canvas.page import Panel, page
from ..canvas.picture import Picture
from ..canvas.scene import Item, Label, shifted
from ..canvas.theme import INK, MAX_WIDTH, NORMAL, SMALL
from .board import Board, cluster_board, grid_board
from .cells import Skin, cells, table
from .grid import placed
from .grouping import Grouping
from .legend import HEADROOM, frames, legend_of, links

_MOST_LINKED = 64
_LINE = 15.0


def groups(
    layout: ParallelLayout,
    kind: str,
    *,
    on: str = "grid",
    focus: int | None = None,
    ax: Axes | None = None,
) -> Picture:
    """Draw all groups of one kind, a letter each, and list them.

    Cells keep the colours of their pieces. Members that stand side by side share a frame; each
    of a few groups has a grey of its own. Groups whose members sit on more than one node carry a
    dashed frame and ⇄. On a small cluster, curves link the members along one axis. Where cells
    are pixels, each group has a colour.

    Parameters
    ----------
    layout : ParallelLayout
        Who is who.
    kind : str
        As for `ParallelLayout.groups`.
    on : {"grid", "cluster"}
        Where to draw them.
    focus : int, optional
        A rank: forget all groups but its own.
    ax : matplotlib Axes, optional
        Draw there.

    Examples
    --------
    >>> groups(ParallelLayout(nodes=2, gpus_per_node=2, tp=2, pp=1), "dp", on="cluster")
    2 dp groups of 2: the same piece, other data
    node 0  ★₁ 0 a  ⊕₁ 1 b
    node 1  ★₂ 2 a  ⊕₂ 3 b
    a  0 2  ⇄ nodes 0 1
    b  1 3  ⇄ nodes 0 1
    2 of 2 dp groups cross nodes
    """
    grouping = Grouping.of(layout, kind, focus)
    board, skin, under = _board(grouping, on, MAX_WIDTH)
    if board.fine:
        return _of_pixels(grouping, board, skin, ax)
    drawn = cells(board, skin, under)
    legend = legend_of(grouping, drawn.height)
    beside = drawn.width + legend.width + 24 <= MAX_WIDTH
    if not beside:
        legend = legend_of(grouping, 0)
    return page(
        grouping.title,
        [drawn, legend],
        [grouping.verdict],
        _text(grouping, board, skin),
        ax,
        beside=beside,
    )


def _of_pixels(grouping: Grouping, board: Board, skin: Skin, ax: Axes | None) -> Picture:
    """Draw groups of a large cluster; their list has colours for letters."""
    legend = legend_of(grouping, 0, colored=True)
    parts = [*placed(board, skin, grouping.focus or 0), legend]
    notes = [grouping.colored_by, grouping.verdict]
    return page(grouping.title, parts, notes, _text(grouping, board, skin), ax)


def _text(grouping: Grouping, board: Board, skin: Skin) -> str:
    return "\n".join([table(board, skin), *grouping.lines, grouping.verdict])


def compare(
    left: ParallelLayout,
    right: ParallelLayout,
    kind: str = "model",
    *,
    titles: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Picture:
    """Draw the groups of one kind on two clusters side by side.

    Parameters
    ----------
    left, right : ParallelLayout
        Usually the same sizes in two orders.
    kind : str
        Which groups are marked; by default the model copies.
    titles : two str, optional
        Names of the layouts; by default their orders.
    ax : matplotlib Axes, optional
        Draw there.

    Examples
    --------
    >>> default = ParallelLayout(nodes=2, gpus_per_node=2, tp=1, pp=2)
    >>> other = ParallelLayout(nodes=2, gpus_per_node=2, tp=1, pp=2, order="tp-cp-ep-pp-dp")
    >>> compare(default, other)
    tp-cp-ep-dp-pp against tp-cp-ep-pp-dp: tp-pp groups
    tp-cp-ep-dp-pp
    node 0  ★₁ 0 a  ★₂ 1 b
    node 1  ⊕₁ 2 a  ⊕₂ 3 b
    crossing nodes: tp 0 of 4 · dp 0 of 2 · pp 2 of 2
    tp-cp-ep-pp-dp
    node 0  ★₁ 0 a  ⊕₁ 1 a
    node 1  ★₂ 2 b  ⊕₂ 3 b
    crossing nodes: tp 0 of 4 · dp 2 of 2 · pp 0 of 2
    """
    names = list(titles) if titles is not None else [left.order, right.order]
    if len(names) != 2:
        raise ValueError(f"titles names the two layouts, got {len(names)}: {names}")
    parts, lines = [], []
    for layout, name in zip((left, right), names, strict=True):
        grouping = Grouping.of(layout, kind, None)
        board, skin, under = _board(grouping, "cluster", MAX_WIDTH / 2 - 12, beside=4)
        items, width, height = cells(board, skin, under)
        heading = Label(0, NORMAL / 2, name, NORMAL, bold=True)
        crossings = f"crossing nodes: {_crossing_counts(layout)}"
        below = [
            Label(0, height + 36 + line * _LINE, words, SMALL, INK)
            for line, words in enumerate(crossings.split(": "))
        ]
        widths = [width, *(width_of(each.text, each.size, each.bold) for each in (heading, *below))]
        parts.append(Panel([heading, *shifted(items, 0, 22), *below], max(widths), height + 56))
        lines += [name, table(board, skin), crossings]
    title = f"{names[0]} against {names[1]}: {grouping.groups.kind} groups"
    return page(title, parts, [], "\n".join(lines), ax, beside=True)


def _crossing_counts(layout: ParallelLayout) -> str:
    counts = [
        f"{kind} {len(layout.crossings(kind))} of {len(layout.groups(kind))}"
        for kind in ("tp", "cp", "dp", "pp")
        if kind != "cp" or layout.cp > 1
    ]
    return " · ".join(counts)


def _board(
    grouping: Grouping, on: str, max_width: float, beside: int = 8
) -> tuple[Board, Skin, list[Item]]:
    """Return the board, its looks, and what lies below its cells: frames and links."""
    if on not in ("grid", "cluster"):
        raise ValueError(f"on must be 'grid' or 'cluster', got {on!r}")
    layout = grouping.layout
    if on == "grid":
        board = grid_board(layout, max_width=max_width)
    else:
        small = layout.world_size <= _MOST_LINKED and layout.gpus_per_node <= beside
        headroom = HEADROOM if small and grouping.linked else 0.0
        board = cluster_board(layout, max_width=max_width, beside=beside, headroom=headroom)
    under = [] if board.fine else frames(board, grouping)
    if board.headroom and board.across == 1:
        under += links(board, grouping)
    return board, grouping.skin(fine=board.fine), under
