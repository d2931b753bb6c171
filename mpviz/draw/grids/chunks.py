"""A collective, step by step: which rank holds which chunk, and who sends what to whom."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

from matplotlib.axes import Axes

from ...schedule import CollectivePlan, Send
from ...schedule.algorithms import spans
from ..canvas.glyphs import width_of
from ..canvas.page import Panel, aligned, page
from ..canvas.picture import Picture
from ..canvas.scene import Box, Curve, Item, Label
from ..canvas.theme import FAINT_EDGE, INK, PAPER, QUIET, SMALL, edge, fill
from .messages import amount

_MOST_RANKS = 8
_ROW, _CELL, _GAP, _HEADER = 40.0, 35.0, 3.0, 32.0
_NARROWEST, _BETWEEN, _STRIP = 26.0, 14.0, 11.0
_ARC, _AWAY, _HEAD = 44.0, 5.0, 3.5


def collective(
    plan: CollectivePlan,
    step: int | None = None,
    *,
    size: int | None = None,
    ax: Axes | None = None,
) -> Picture:
    """Draw what each rank holds after a step of a collective, and the messages of that step.

    A row for each rank, a cell for each chunk. The numbers in a cell, and the colours below them,
    say whose data is in it; of several ranks' data it is the sum. A thick border marks what was
    received in this step.

    Parameters
    ----------
    plan : CollectivePlan
        Of at most 8 ranks (see `schedule.collective`).
    step : int, optional
        0 is before the first step; the last one if not given.
    size : int, optional
        Bytes of the tensor; without it, what was sent is counted in tensors.
    ax : matplotlib Axes, optional
        Draw there.

    Raises
    ------
    ValueError
        If there are more ranks or fewer steps, or the size cannot be cut into the chunks.

    Examples
    --------
    >>> from mpviz import schedule
    >>> collective(schedule.collective("all_reduce", ranks=3), step=2, size=600)
    all-reduce of 3 ranks, ring: after step 2 of 4
            chunk 0  chunk 1  chunk 2  added in this step  sent so far
    rank 0  0        0–2 ←    0+2      chunk 2 to rank 1   400 B
    rank 1  0+1      1        0–2 ←    chunk 0 to rank 2   400 B
    rank 2  0–2 ←    1+2      2        chunk 1 to rank 0   400 B
    0+1: the sum of what ranks 0 and 1 brought · ←: received in this step
    """
    if plan.ranks > _MOST_RANKS:
        raise ValueError(
            f"the chunks of {plan.ranks} ranks cannot be read; at most {_MOST_RANKS} are drawn"
        )
    table = _Table(plan, plan.check_step(step), size)
    return page(table.title, [table.panel], [table.note("thick border")], table.text, ax)


@dataclass(frozen=True)
class _Table:
    """The rows of the picture, and of its text."""

    plan: CollectivePlan
    step: int
    size: int | None

    # ---- words

    @property
    def title(self) -> str:
        last = len(self.plan.steps)
        when = f"after step {self.step} of {last}" if last else "nothing to send"
        return f"{self.plan}: {when}"

    @property
    def sends(self) -> Sequence[Send]:
        """The messages of this step; of none before the first."""
        return self.plan.steps[self.step - 1] if self.step else ()

    @property
    def columns(self) -> list[tuple[str, list[str]]]:
        """The groups of columns, and the names in each."""
        numbers = list(map(str, range(self.plan.chunks)))
        if self.plan.name == "all_to_all":
            return [("for rank", numbers), ("from rank", numbers)]
        return [("chunk", numbers)] if self.plan.chunks > 1 else [("tensor", [""])]

    def chunks(self, rank: int) -> list[int]:
        """Return the chunk in each column of a rank's row."""
        if self.plan.name == "all_to_all":
            return [*self.plan.inputs(rank), *self.plan.outputs(rank)]
        return list(range(self.plan.chunks))

    def word(self, chunk: int, origins: Sequence[int]) -> str:
        """Say whose data is in a chunk."""
        if origins and self.plan.name == "all_to_all":
            return f"{origins[0]}→{chunk % self.plan.chunks}"
        return spans(origins, "+")

    def message(self, send: Send) -> str:
        """Say what is sent to whom."""
        if self.plan.name == "all_to_all":
            return f"to rank {send.receiver}"
        if self.plan.chunks == 1:
            return f"all to rank {send.receiver}"
        plural = "s" * (len(send.chunks) > 1)
        return f"chunk{plural} {spans(send.chunks, ' ')} to rank {send.receiver}"

    @property
    def heads(self) -> tuple[str, str]:
        """The names of the last two columns."""
        does = "added" if any(send.reduces for send in self.sends) else "copied"
        return f"{does} in this step" if self.sends else "", "sent so far"

    @cached_property
    def tails(self) -> list[tuple[str, str]]:
        """The words of the last two columns, for each rank."""
        sent = self.plan.sent(self.step).tolist()
        if self.size is None:
            amounts = [_tensors(Fraction(count, self.plan.chunks)) for count in sent]
        else:
            amounts = list(map(amount, self.plan.bytes_sent(self.size, self.step).tolist()))
        messages = [
            "; ".join(self.message(send) for send in self.sends if send.sender == rank)
            for rank in range(self.plan.ranks)
        ]
        return list(zip(messages, amounts, strict=True))

    def note(self, mark: str) -> str:
        """Say what the cells mean, and the mark of what was received."""
        received = f" · {mark}: received in this step"
        if self.plan.name == "all_to_all":
            return f"0→1: what rank 0 has for rank 1{received}"
        if self.adds:
            return f"0+1: the sum of what ranks 0 and 1 brought{received}"
        return f"0: what rank 0 brought{received}"

    @property
    def text(self) -> str:
        names = [f"{group} {name}".strip() for group, numbers in self.columns for name in numbers]
        lines = [["", *names, *self.heads]]
        for rank, held in enumerate(self.plan.held(self.step)):
            words = [
                (self.word(chunk, held.get(chunk, ())) or "·")
                + " ←" * ((rank, chunk) in self.received)
                for chunk in self.chunks(rank)
            ]
            lines.append([f"rank {rank}", *words, *self.tails[rank]])
        return f"{aligned(lines)}\n{self.note('←')}"

    @cached_property
    def received(self) -> set[tuple[int, int]]:
        """Rank and chunk of what arrived in this step."""
        return {(send.receiver, chunk) for send in self.sends for chunk in send.chunks}

    # ---- the picture

    @property
    def panel(self) -> Panel:
        """Arrows, the ranks' names, their cells, and what they send."""
        items: list[Item] = [curve for send in self.sends for curve in _arrow(send)]
        edges = self._edges(_ARC + width_of("rank 0", SMALL, bold=True) + 24)
        items += self._header(edges)
        for rank, held in enumerate(self.plan.held(self.step)):
            middle = _middle(rank)
            items.append(Box(_ARC + 3, middle - 5, 10, 10, fill(rank), edge(rank)))
            items.append(Label(_ARC + 18, middle, f"rank {rank}", SMALL, bold=True))
            for x, chunk in zip(edges, self.chunks(rank), strict=True):
                items += self._cell(x, rank, chunk, held.get(chunk, ()))
        x = edges[-1] + self.width + _BETWEEN
        for column, head in enumerate(self.heads):
            items.append(Label(x, _HEADER - 10, head, SMALL, QUIET))
            for rank, tail in enumerate(self.tails):
                items.append(Label(x, _middle(rank), tail[column], SMALL))
            x += self._tail_width(column) + _BETWEEN
        return Panel(items, x - _BETWEEN, _HEADER + self.plan.ranks * _ROW)

    @cached_property
    def every(self) -> "list[_Table]":
        """The tables of all steps, which have the same places."""
        return [replace(self, step=step) for step in range(len(self.plan.steps) + 1)]

    @cached_property
    def width(self) -> float:
        """Of a cell."""
        words = {
            self.word(chunk, origins)
            for table in self.every
            for held in self.plan.held(table.step)
            for chunk, origins in held.items()
        }
        least = [width_of(group, SMALL) / len(numbers) for group, numbers in self.columns]
        strips = 6 + 6 * self.plan.ranks * self.adds
        return max(*least, strips, *(width_of(word, SMALL, bold=True) + 6 for word in words))

    @property
    def adds(self) -> bool:
        """Whether a cell may hold a sum."""
        return any(send.reduces for sends in self.plan.steps for send in sends)

    def _tail_width(self, column: int) -> float:
        words = {words[column] for table in self.every for words in (table.heads, *table.tails)}
        return max(width_of(word, SMALL) for word in words)

    def _edges(self, x: float) -> list[float]:
        """Return the left edge of each column."""
        edges = []
        for _, numbers in self.columns:
            edges += [x + column * (self.width + _GAP) for column in range(len(numbers))]
            x = edges[-1] + self.width + _BETWEEN
        return edges

    def _header(self, edges: Sequence[float]) -> list[Item]:
        items: list[Item] = []
        first = 0
        for group, numbers in self.columns:
            mine = edges[first : first + len(numbers)]
            middle = (mine[0] + mine[-1] + self.width) / 2
            items.append(Label(middle, _HEADER - 24, group, SMALL, QUIET, "center"))
            for x, number in zip(mine, numbers, strict=True):
                items.append(
                    Label(x + self.width / 2, _HEADER - 10, number, SMALL, QUIET, "center")
                )
            first += len(numbers)
        return items

    def _cell(self, x: float, rank: int, chunk: int, origins: Sequence[int]) -> list[Item]:
        """Return a cell: whose data is in it, in words and as colours in the ranks' order."""
        y = _HEADER + rank * _ROW + (_ROW - _CELL) / 2
        border, line = (INK, 2.0) if (rank, chunk) in self.received else (FAINT_EDGE, 0.8)
        items: list[Item] = [Box(x, y, self.width, _CELL, PAPER, border, line, rank=rank)]
        places = self.plan.ranks if self.adds else 1
        part, top = (self.width - 6) / places, y + _CELL - 3 - _STRIP
        for origin in origins:
            left = x + 3 + origin % places * part
            items.append(Box(left, top, part, _STRIP, fill(origin), edge(origin), 0.6))
        whole = self.adds and len(origins) == self.plan.ranks
        word = self.word(chunk, origins)
        items.append(Label(x + self.width / 2, y + 10, word, SMALL, INK, "center", bold=whole))
        return items


def _middle(rank: int) -> float:
    """Return the height of a rank's row."""
    return _HEADER + (rank + 0.5) * _ROW


def _arrow(send: Send) -> list[Curve]:
    """Return an arc in the sender's colour, out of the lower half of a row, into an upper half."""
    start, end = _middle(send.sender) + _AWAY, _middle(send.receiver) - _AWAY
    bend = _ARC - min(_ARC, 10 + 7 * abs(end - start) / _ROW) * 4 / 3
    color = edge(send.sender)
    tips = [(_ARC - _HEAD, end - _HEAD), (_ARC - _HEAD, end + _HEAD)]
    return [
        Curve(((_ARC, start), (bend, start), (bend, end), (_ARC, end)), color, 1.6),
        *(Curve((tip, tip, (_ARC, end), (_ARC, end)), color, 1.6) for tip in tips),
    ]


def _tensors(amount: Fraction) -> str:
    """Return an amount in tensors.

    >>> _tensors(Fraction(3, 2))
    '3/2 tensors'
    """
    return f"{amount} tensor{'s' * (amount > 1)}" if amount else "0"
