"""The groups of one kind as a drawing needs them: who is in which, its name, colour, nodes."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ...layout import ParallelLayout
from ...names import GROUP_KINDS
from ...rankgrid import Groups
from ...shards import letters
from ..canvas.page import aligned
from ..canvas.theme import PAPER, RGB
from .board import check_drawable
from .cells import FADED, FILLS, SWATCHES, Skin, cycled
from .grid import piece_skin

_MOST_LISTED = 16
_MOST_MEMBERS = 8
_MOST_TAGGED = 256
_CROSSES = "⇄"
_INSET = 1.5

_TONES: tuple[RGB, ...] = ((0.38, 0.38, 0.38), PAPER, (0.66, 0.66, 0.66), (0.86, 0.86, 0.86))
_ONE_TONE = _TONES[3]


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
        check_drawable(layout)
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

    @property
    def linked(self) -> bool:
        """Whether curves go from member to member: along one axis, as their messages do.

        Nobody sends from each member of a whole model copy to the next.
        """
        return self.groups.size > 1 and "-" not in self.groups.kind

    @property
    def few(self) -> bool:
        """Whether each group has a grey of its own."""
        return self.focus is not None or len(self.groups) <= len(_TONES)

    def tone(self, number: int) -> RGB:
        """Return the grey of a group's frame: hues belong to the pieces of the model.

        One for each of a few groups; of many the letter has to tell.
        """
        if self.focus is not None:
            return _TONES[0]
        return _TONES[number] if self.few else _ONE_TONE

    def skin(self, *, fine: bool) -> Skin:
        """Return the cells' looks: the piece as ever, and a letter for the group.

        A cell of a few pixels has no room for both, and takes the colour of its group.
        """
        pieces = piece_skin(self.layout)
        inside = self.index >= 0
        if fine:
            color = np.where(inside, cycled(self.index), np.uint8(FADED))
            return replace(pieces, color=color, colors=FILLS, tags=self._tags)
        color = np.where(inside, pieces.color, np.uint8(FADED))
        chips = {rank: self.tone(int(self.index[rank])) for rank in self._tags}
        return replace(pieces, color=color, tags=self._tags, chips=chips, inset=_INSET)

    @cached_property
    def _tags(self) -> dict[int, str]:
        """The letter of each rank's group; of a large cluster none."""
        if self.layout.world_size > _MOST_TAGGED:
            return {}
        inside = np.flatnonzero(self.index >= 0).tolist()
        return {rank: name_of(int(self.index[rank])) for rank in inside}

    @property
    def colored_by(self) -> str:
        """What the colours of pixels stand for."""
        kind = self.groups.kind
        if self.focus is not None:
            return f"coloured: the {kind} group of GPU {self.focus}"
        again = f" (from the start again after {SWATCHES})" if len(self.groups) > SWATCHES else ""
        return f"here a colour for each {kind} group, not for a piece of the model{again}"


def name_of(number: int) -> str:
    """Return the letter of a group: a, b … z, aa …."""
    return letters(number).lower()


def _few(words: list[str]) -> str:
    if len(words) > _MOST_MEMBERS:
        words = [*words[: _MOST_MEMBERS - 2], "…", words[-1]]
    return " ".join(words)
