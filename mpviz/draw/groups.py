"""Process groups drawn on the slide grid or on the cluster, and two layouts side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from ..layout import GROUP_KINDS, ParallelLayout
from ..rankgrid import Groups
from ..shards import letters
from .board import Board, cluster_board, grid_board
from .compose import FADED, Skin, aligned, cells, cycled, page, table
from .glyphs import width_of
from .grid import piece_skin
from .picture import Picture
from .scene import Box, Curve, Item, Label, shifted
from .theme import CROSSING, INK, MAX_WIDTH, NORMAL, QUIET, RGB, SMALL, edge, fill

_MOST_LISTED = 16
_MOST_MEMBERS = 8
_MOST_LINKED = 64
_LINE = 15.0
_HEADROOM = 30.0
_CROSSES = "⇄"


def groups(
    layout: ParallelLayout,
    kind: str,
    *,
    on: str = "grid",
    focus: int | None = None,
    ax: Axes | None = None,
) -> Picture:
    """Draw all groups of one kind, one colour each, and list them.

    Groups whose members sit on more than one node carry a dashed border and ⇄. On a small
    cluster, curves link the members.

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
    cast = _Cast.of(layout, kind, focus)
    items, width, height, text = _placed(cast, on, MAX_WIDTH)
    legend, legend_width, legend_height = _legend(cast, height)
    beside = width + legend_width + 24 <= MAX_WIDTH
    if not beside:
        legend, legend_width, legend_height = _legend(cast, 0)
    return page(
        cast.title,
        [(items, width, height), (legend, legend_width, legend_height)],
        [cast.verdict],
        "\n".join([text, *cast.lines, cast.verdict]),
        ax,
        beside=beside,
    )


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
        Which groups are coloured; by default the model copies.
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
        cast = _Cast.of(layout, kind, None)
        items, width, height, text = _placed(cast, "cluster", MAX_WIDTH / 2 - 12, beside=4)
        heading = Label(0, NORMAL / 2, name, NORMAL, bold=True)
        crossings = f"crossing nodes: {_crossing_counts(layout)}"
        below = [
            Label(0, height + 36 + line * _LINE, words, SMALL, INK)
            for line, words in enumerate(crossings.split(": "))
        ]
        widths = [width, *(width_of(each.text, each.size, each.bold) for each in (heading, *below))]
        parts.append(([heading, *shifted(items, 0, 22), *below], max(widths), height + 56))
        lines += [name, text, crossings]
    title = f"{names[0]} against {names[1]}: {cast.groups.kind} groups"
    return page(title, parts, [], "\n".join(lines), ax, beside=True)


def _crossing_counts(layout: ParallelLayout) -> str:
    counts = [
        f"{kind} {len(layout.crossings(kind))} of {len(layout.groups(kind))}"
        for kind in ("tp", "cp", "dp", "pp")
        if kind != "cp" or layout.cp > 1
    ]
    return " · ".join(counts)


# ---- who is in which group


@dataclass(frozen=True, eq=False)
class _Cast:
    """The groups of one kind, and what is known of each."""

    layout: ParallelLayout
    groups: Groups
    crosses: NDArray[np.bool_]
    focus: int | None
    index: NDArray[np.int64]
    """The number of each rank's group; -1 for a rank in none."""

    @classmethod
    def of(cls, layout: ParallelLayout, kind: str, focus: int | None) -> "_Cast":
        found = layout.groups(kind)
        index = np.full(layout.world_size, -1)
        index[found.ranks] = np.arange(len(found))[:, None]
        if focus is not None:
            found.of(layout.check_rank(focus))
            index = np.where(index == index[focus], index, -1)
        return cls(layout, found, layout.crosses(found), focus, index)

    @property
    def title(self) -> str:
        heading = repr(self.groups).partition("\n")[0]
        if self.focus is not None:
            members = " ".join(map(str, self.groups.of(self.focus)[:_MOST_MEMBERS]))
            heading = f"Look only at GPUs {members}: one of {heading}"
        meaning = GROUP_KINDS.get(self.groups.kind)
        return f"{heading}: {meaning}" if meaning and self.focus is None else heading

    @property
    def verdict(self) -> str:
        count = int(self.crosses.sum())
        return f"{count:,} of {len(self.groups):,} {self.groups.kind} groups cross nodes"

    @property
    def listed(self) -> list[int]:
        """The numbers of the groups that the legend names."""
        if self.focus is not None:
            return [int(self.index[self.focus])]
        return list(range(min(len(self.groups), _MOST_LISTED)))

    @property
    def lines(self) -> list[str]:
        """The legend in characters."""
        rows = []
        for number in self.listed:
            members, crossing = self.described(number)
            rows.append([name_of(number), members, crossing])
        left_out = len(self.groups) - len(self.listed)
        more = [f"… {left_out:,} more"] if left_out and self.focus is None else []
        return [*aligned(rows).split("\n"), *more]

    def described(self, number: int) -> tuple[str, str]:
        """Return the members of a group, and the nodes it touches if they are several."""
        members = _few([str(rank) for rank in self.groups[number]])
        nodes = np.unique(self.layout.node(self.groups.ranks[number])).tolist()
        crossing = f"{_CROSSES} nodes {_few([str(node) for node in nodes])}"
        return members, crossing if self.crosses[number] else ""

    def skin(self) -> Skin:
        pieces = piece_skin(self.layout)
        inside = self.index >= 0
        color = np.where(inside, cycled(self.index), np.uint8(FADED))
        crossing = np.zeros_like(inside)
        crossing[inside] = self.crosses[self.index[inside]]
        named = inside.nonzero()[0].tolist() if self.layout.world_size <= 256 else []
        tags = {rank: name_of(int(self.index[rank])) for rank in named}
        return Skin(color, pieces.label, tags, crossing)


def name_of(number: int) -> str:
    """Return the letter of a group: a, b … z, aa …."""
    return letters(number).lower()


def _few(words: list[str]) -> str:
    if len(words) > _MOST_MEMBERS:
        words = [*words[: _MOST_MEMBERS - 2], "…", words[-1]]
    return " ".join(words)


# ---- where they are drawn


def _placed(
    cast: _Cast, on: str, max_width: float, beside: int = 8
) -> tuple[list[Item], float, float, str]:
    """Return the board's items, width, height and text."""
    if on not in ("grid", "cluster"):
        raise ValueError(f"on must be 'grid' or 'cluster', got {on!r}")
    layout = cast.layout
    if on == "grid":
        board = grid_board(layout, max_width=max_width)
    else:
        linked = layout.world_size <= _MOST_LINKED and layout.gpus_per_node <= beside
        headroom = _HEADROOM if linked and cast.groups.size > 1 else 0.0
        board = cluster_board(layout, max_width=max_width, beside=beside, headroom=headroom)
    skin = cast.skin()
    items, width, height = cells(board, skin)
    if board.headroom and board.across == 1:
        items += _links(board, cast)
    return items, width, height, table(board, skin)


def _links(board: Board, cast: _Cast) -> list[Item]:
    """Return curves from member to member: arcs inside a node, dashed lines between nodes.

    Arcs rise above even nodes and hang below odd ones: the space between two nodes is left to
    what crosses it.
    """
    frames, (width, height) = board.frames()[:, :2], np.array(board.frames()[0, 2:])
    links: list[Item] = []
    for number in np.unique(cast.index[cast.index >= 0]).tolist():
        members = cast.groups[number]
        for one, other in pairwise(members):
            (x0, y0), (x1, y1) = frames[one] + (width / 2, 0), frames[other] + (width / 2, 0)
            if y0 == y1:
                side = -1 if one // cast.layout.gpus_per_node % 2 == 0 else 1
                start = y0 if side < 0 else y0 + height
                bend = start + side * min(8 + 6 * abs(x1 - x0) / board.cell[0], 1.25 * _HEADROOM)
                links.append(_curve(x0, start, bend, x1, start, bend, edge(number)))
            else:
                top, bottom = y0 + height, y1
                bend = (bottom - top) * 0.45
                links.append(_curve(x0, top, top + bend, x1, bottom, bottom - bend, None))
    return links


def _curve(
    x0: float, y0: float, bend0: float, x1: float, y1: float, bend1: float, color: RGB | None
) -> Curve:
    """Return a link that leaves and arrives vertically; without a colour, one that crosses."""
    points = ((x0, y0), (x0, bend0), (x1, bend1), (x1, y1))
    return Curve(points, color or CROSSING, 1.5 if color else 1.8, dashed=color is None)


def _legend(cast: _Cast, height: float) -> tuple[list[Item], float, float]:
    """Return the list of groups, in one column of at least ``height``, else in several."""
    rows = [(number, *cast.described(number)) for number in cast.listed]
    text_width = max(
        width_of(f"{name_of(number)}  {members}  {crossing}", SMALL)
        for number, members, crossing in rows
    )
    column_width = text_width + 40
    per_column = max(1, int(height // _LINE) - 1)
    if per_column < len(rows):
        columns = max(1, int(MAX_WIDTH // column_width))
        per_column = -(-len(rows) // columns)
    items: list[Item] = []
    for place, (number, members, crossing) in enumerate(rows):
        column, line = divmod(place, per_column)
        x, y = column * column_width, (line + 0.5) * _LINE
        items.append(Box(x, y - 5, 10, 10, fill(number), edge(number)))
        items.append(Label(x + 15, y, name_of(number), SMALL, bold=True))
        after = x + 15 + width_of(name_of(number), SMALL, bold=True) + 7
        items.append(Label(after, y, members, SMALL))
        after += width_of(members, SMALL) + 8
        if crossing:
            items.append(Label(after, y, crossing, SMALL, CROSSING))
    columns_used = -(-len(rows) // per_column)
    lines = min(per_column, len(rows))
    left_out = len(cast.groups) - len(rows)
    if left_out and cast.focus is None:
        items.append(Label(0, (lines + 0.5) * _LINE, f"… {left_out:,} more", SMALL, QUIET))
        lines += 1
    return items, columns_used * column_width, lines * _LINE
