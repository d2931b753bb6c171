"""The chart of a pipeline in boxes: a row for each rank, time to the right."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..canvas.glyphs import width_of
from ..canvas.scene import Box, Item, Label, stroke
from ..canvas.theme import FAINT_EDGE, INK, SMALL, ink_on
from .action_table import KIND_ORDER, Floats, Work
from .axis import PIXELS_PER_POINT, Axis
from .style import BUBBLE, WAIT, Look

_ROW_GAP = 4.0
_TALLEST, _LOWEST, _HEIGHT = 30.0, 13.0, 250.0
_FINE_HEIGHT = 330.0
_NARROWEST, _MOST_BOXES = 4.0, 1500
_PADDING = 3.0
_LOWEST_TEXT = 9.0


@dataclass(frozen=True)
class Rows:
    """How the ranks stand below one another.

    Attributes
    ----------
    count : int
        Ranks.
    pitch : float
        From one to the next, in points.
    fine : bool
        Whether work is drawn as pixels, because boxes would be too narrow or too many.
    """

    count: int
    pitch: float
    fine: bool

    @classmethod
    def of(cls, works: Sequence[Work], axis: Axis) -> "Rows":
        """Choose rows that suit all of these."""
        count = max(work.pp for work in works)
        pitch = min(_TALLEST, _HEIGHT / count)
        narrowest = min(widths[widths > 0].min(initial=np.inf) for widths in _widths(works, axis))
        boxes = sum(len(work.start) for work in works)
        if pitch >= _LOWEST and narrowest >= _NARROWEST and boxes <= _MOST_BOXES:
            return cls(count, pitch, fine=False)
        pixels = int(min(_TALLEST, _FINE_HEIGHT / count) * PIXELS_PER_POINT)
        return cls(count, max(1, pixels) / PIXELS_PER_POINT, fine=True)

    @property
    def named(self) -> range:
        """The ranks whose row is named: every one, or as many as there is room for."""
        return range(0, self.count, max(1, int(np.ceil(_LOWEST / self.pitch))))

    @property
    def all_named(self) -> bool:
        """Whether each row has room for a line of text."""
        return len(self.named) == self.count

    def names(self, ranks: int) -> list[Item]:
        """Return the titles of the first so many rows."""
        return [
            Label(0, self.middle(rank), f"rank {rank}", SMALL)
            for rank in self.named
            if rank < ranks
        ]

    def middle(self, rank: int) -> float:
        """Return where the middle of a row is."""
        return (rank + 0.5) * self.pitch - self.gap / 2

    @property
    def gap(self) -> float:
        """Free space between two rows; none between rows of a few pixels."""
        low = self.fine and not self.all_named
        return 0.0 if low else min(_ROW_GAP, self.pitch / 5)

    def lower(self, share: float, height: float) -> "Rows":
        """Return rows of a share of the height, and of at most so much in all."""
        pitch = min(self.pitch * share, height / self.count)
        if self.fine:
            pitch = max(1, int(pitch * PIXELS_PER_POINT)) / PIXELS_PER_POINT
        return Rows(self.count, pitch, self.fine)


def _widths(works: Sequence[Work], axis: Axis) -> Iterator[Floats]:
    """Yield, for each time line, how wide a box of each of its kinds typically is."""
    for work in works:
        spans = (work.end - work.start) * axis.scale
        yield np.array([np.median(spans[work.kind == kind]) for kind in work.kinds])


def lettered(work: Work, axis: Axis) -> bool:
    """Whether each box has room for the letter of its kind beside its microbatch."""
    number = width_of(str(int(work.microbatch.max())), SMALL)
    letters = [width_of(KIND_ORDER[kind], SMALL) for kind in work.kinds]
    typical = next(_widths([work], axis))
    return bool((typical >= np.array(letters) + number + _PADDING).all())


def boxes(work: Work, axis: Axis, rows: Rows, look: Look, at: float | None) -> list[Item]:
    """Return a row for each rank, its boxes, each as long as its work, and what it waits."""
    height = rows.pitch - rows.gap
    width = axis.scale * work.seconds
    items: list[Item] = [
        Box(axis.left, rank * rows.pitch, width, height, BUBBLE, FAINT_EDGE, 0.8)
        for rank in range(work.pp)
    ]
    for event, start, end in work.waits():
        y = event.rank * rows.pitch + height / 2
        items.append(stroke(axis.x(start), y, axis.x(end), y, WAIT, 1.0))
    now = set() if at is None else set(work.doing(at))
    columns = (work.rank, work.kind, work.chunk, work.start, work.end - work.start)
    active: list[Box] = []
    for action, (rank, kind, chunk, start, duration) in enumerate(
        zip(*(column.tolist() for column in columns), strict=True)
    ):
        top, bottom = look.span(kind)
        box = Box(
            axis.x(start),
            rank * rows.pitch + top * height,
            duration * axis.scale,
            (bottom - top) * height,
            look.face(kind, look.tint(chunk)),
            look.edge(kind),
            0.8,
        )
        if action in now:
            active.append(replace(box, edge=INK, line=2.0))
        else:
            items.append(box)
        items += _words(work, action, box, look)
    return items + active


def _words(work: Work, action: int, box: Box, look: Look) -> Iterator[Label]:
    """Yield the microbatch, with the letter of the kind if all have it, where there is room."""
    word = str(work.microbatch[action])
    if look.lettered:
        word = KIND_ORDER[work.kind[action]] + word
    if box.height >= _LOWEST_TEXT and box.width >= width_of(word, SMALL) + _PADDING:
        middle = (box.x + box.width / 2, box.y + box.height / 2)
        yield Label(*middle, word, SMALL, ink_on(box.face), "center")
