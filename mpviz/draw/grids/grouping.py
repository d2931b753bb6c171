"""The groups of one kind as a drawing needs them: who is in which, its name, colour, nodes."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ...layout import ParallelLayout
from ...names import GROUP_KINDS
from ...rankgrid import Groups
from ...shards import letters
from ..canvas.limits import check_drawable
from ..canvas.page import aligned, elided_words
from ..canvas.theme import PAPER, RGB, SWATCHES
from .cells import FADED, FILLS, CellStyle, cycled
from .piece_style import piece_style

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
            members = _few(self.groups.of(self.focus))
            heading = f"Look only at GPUs {members}: one of {heading}"
        meaning = GROUP_KINDS.get(self.groups.kind)
        return f"{heading}: {meaning}" if meaning and self.focus is None else heading

    @property
    def summary(self) -> str:
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
    def more(self) -> str:
        """How many groups the legend leaves out, in words; nothing when one is looked at."""
        left_out = len(self.groups) - len(self.listed)
        return f"… {left_out:,} more" if left_out and self.focus is None else ""

    @property
    def text(self) -> str:
        """The legend in characters, and how many of the groups leave their node."""
        rows = [[name_of(number), *self.described(number)] for number in self.listed]
        return "\n".join(filter(None, [aligned(rows), self.more, self.summary]))

    def described(self, number: int) -> tuple[str, str]:
        """Return the members of a group, and the nodes it touches if they are several."""
        members = _few(self.groups[number])
        if not self.crosses[number]:
            return members, ""
        nodes = np.unique(self.layout.node(self.groups.ranks[number]))
        return members, f"{_CROSSES} nodes {_few(nodes)}"

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

        One for each of a few groups; many share one, and differ by their letter.
        """
        if self.focus is not None:
            return _TONES[0]
        return _TONES[number] if self.few else _ONE_TONE

    def style(self, *, fine: bool) -> CellStyle:
        """Return the style of cells: the piece as ever, and a letter for the group.

        A cell of a few pixels has no room for both, and takes the colour of its group.
        """
        style = replace(piece_style(self.layout), tags=self._tags)
        inside = self.index >= 0
        color = cycled(self.index) if fine else style.color
        color = np.where(inside, color, np.uint8(FADED))
        if fine:
            return replace(style, color=color, colors=FILLS)
        chips = {rank: self.tone(int(self.index[rank])) for rank in self._tags}
        return replace(style, color=color, chips=chips, inset=_INSET)

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


def _few(numbers: Iterable[int]) -> str:
    return " ".join(elided_words([str(number) for number in numbers], _MOST_MEMBERS))
