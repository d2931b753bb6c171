"""The groups of one kind as a drawing needs them: who is in which, its name, colour, nodes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..layout import ParallelLayout
from ..names import GROUP_KINDS
from ..rankgrid import Groups
from ..shards import letters
from .compose import FADED, Skin, aligned, cycled
from .grid import piece_skin

_MOST_LISTED = 16
_MOST_MEMBERS = 8
_MOST_TAGGED = 256
_CROSSES = "⇄"


@dataclass(frozen=True, eq=False)
class Grouping:
    """The groups of one kind, and what is known of each."""

    layout: ParallelLayout
    groups: Groups
    crosses: NDArray[np.bool_]
    focus: int | None
    index: NDArray[np.int64]
    """The number of each rank's group; -1 for a rank in none."""

    @classmethod
    def of(cls, layout: ParallelLayout, kind: str, focus: int | None) -> "Grouping":
        """Look up the groups; with a focus, forget all but that rank's own."""
        found = layout.groups(kind)
        index = np.full(layout.world_size, -1)
        index[found.ranks] = np.arange(len(found))[:, None]
        if focus is not None:
            found.of(layout.check_rank(focus))
            index = np.where(index == index[focus], index, -1)
        return cls(layout, found, layout.crosses(found), focus, index)

    @property
    def title(self) -> str:
        """How many groups, how large, and what their members share."""
        heading = repr(self.groups).partition("\n")[0]
        if self.focus is not None:
            members = " ".join(map(str, self.groups.of(self.focus)[:_MOST_MEMBERS]))
            heading = f"Look only at GPUs {members}: one of {heading}"
        meaning = GROUP_KINDS.get(self.groups.kind)
        return f"{heading}: {meaning}" if meaning and self.focus is None else heading

    @property
    def verdict(self) -> str:
        """How many of the groups leave their node."""
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
        """Return the cells' looks: a colour and a letter for each group."""
        pieces = piece_skin(self.layout)
        inside = self.index >= 0
        color = np.where(inside, cycled(self.index), np.uint8(FADED))
        crossing = np.zeros_like(inside)
        crossing[inside] = self.crosses[self.index[inside]]
        named = inside.nonzero()[0].tolist() if self.layout.world_size <= _MOST_TAGGED else []
        tags = {rank: name_of(int(self.index[rank])) for rank in named}
        return Skin(color, pieces.label, tags, crossing)


def name_of(number: int) -> str:
    """Return the letter of a group: a, b … z, aa …."""
    return letters(number).lower()


def _few(words: list[str]) -> str:
    if len(words) > _MOST_MEMBERS:
        words = [*words[: _MOST_MEMBERS - 2], "…", words[-1]]
    return " ".join(words)
