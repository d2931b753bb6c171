"""Process groups drawn on the slide grid or on the cluster, and two layouts side by side."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from ...layout import ParallelLayout
from ..canvas.glyphs import width_of
from ..canvas.legend import ROW, in_columns, swatch
from ..canvas.page import Panel, chip_of, heading, page
from ..canvas.picture import Picture
from ..canvas.scene import Item, Label, shifted
from ..canvas.theme import CROSSING, MAX_WIDTH, QUIET, SMALL, fill
from .arrange import cluster_board, grid_board
from .board import Board
from .cells import cells, table
from .closeup import with_closeup
from .frames import HEADROOM, frames, links
from .grouping import Grouping, name_of

_MOST_LINKED = 64


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
    board = _board(grouping, on)
    style = grouping.style(fine=board.fine)
    text = f"{table(board, style)}\n{grouping.text}"
    if board.fine:
        panels = [*with_closeup(board, style, focus or 0), _legend(grouping, 0, colored=True)]
        notes = [grouping.colored_by, grouping.summary]
        return page(grouping.title, panels, notes, text, ax)
    drawn = cells(board, style, _under(board, grouping))
    legend = _legend(grouping, drawn.height)
    beside = drawn.width + legend.width + 24 <= MAX_WIDTH
    panels = [drawn, legend if beside else _legend(grouping, 0)]
    return page(grouping.title, panels, [grouping.summary], text, ax, beside=beside)


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
    panels, lines = [], []
    for layout, name in zip((left, right), names, strict=True):
        grouping = Grouping.of(layout, kind, None)
        board = _board(grouping, "cluster", MAX_WIDTH / 2 - 12, beside=4)
        style = grouping.style(fine=board.fine)
        items, width, height = cells(board, style, _under(board, grouping))
        counts = _crossing_counts(layout)
        below = [
            Label(0, height + 14 + line * ROW, words, SMALL)
            for line, words in enumerate(("crossing nodes", counts))
        ]
        width = max(width, *(width_of(label.text, SMALL) for label in below))
        panels.append(heading(name, Panel([*items, *below], width, height + 34)))
        lines += [name, table(board, style), f"crossing nodes: {counts}"]
    title = f"{names[0]} against {names[1]}: {grouping.groups.kind} groups"
    return page(title, panels, [], "\n".join(lines), ax, beside=True)


def _crossing_counts(layout: ParallelLayout) -> str:
    counts = [
        f"{kind} {len(layout.crossings(kind))} of {len(layout.groups(kind))}"
        for kind in ("tp", "cp", "dp", "pp")
        if kind != "cp" or layout.cp > 1
    ]
    return " · ".join(counts)


def _board(grouping: Grouping, on: str, max_width: float = MAX_WIDTH, beside: int = 8) -> Board:
    """Return the grid or the cluster; a small one with room for links."""
    layout = grouping.layout
    if on == "grid":
        return grid_board(layout, max_width=max_width)
    if on != "cluster":
        raise ValueError(f"on must be 'grid' or 'cluster', got {on!r}")
    small = layout.world_size <= _MOST_LINKED and layout.gpus_per_node <= beside
    headroom = HEADROOM if small and grouping.linked else 0.0
    return cluster_board(layout, max_width=max_width, beside=beside, headroom=headroom)


def _under(board: Board, grouping: Grouping) -> list[Item]:
    """Return what lies below the cells: frames, and links where there is room."""
    if board.fine:
        return []
    linked = board.headroom and board.across == 1
    return frames(board, grouping) + (links(board, grouping) if linked else [])


def _legend(grouping: Grouping, height: float, *, colored: bool = False) -> Panel:
    """Return the list of groups, in a column of at most ``height``, else in several.

    ``colored`` where cells are pixels, which have the colour of their group.
    """
    rows = [(number, name_of(number), *grouping.described(number)) for number in grouping.listed]
    width = 40 + max(width_of("  ".join(words), SMALL) for _, *words in rows)
    indent = 12 + max(width_of(name, SMALL, bold=True) for _, name, *_ in rows)
    middle = ROW / 2
    entries = []
    for number, name, members, crossing in rows:
        if colored:
            sample = [*shifted([swatch(fill(number))], 0, middle - 5)]
            sample.append(Label(15, middle, name, SMALL, bold=True))
        else:
            sample = [*chip_of((indent - 7) / 2, middle, name, grouping.tone(number), SMALL)]
        x = indent + 10 * colored
        sample.append(Label(x, middle, members, SMALL))
        if crossing:
            after = x + width_of(members, SMALL) + 8
            sample.append(Label(after, middle, crossing, SMALL, CROSSING))
        entries.append(Panel(sample, width, ROW))
    items, width, height = in_columns(entries, height)
    if grouping.more:
        items.append(Label(0, height + middle, grouping.more, SMALL, QUIET))
        height += ROW
    return Panel(items, width, height)
