"""Buckets as strips: parameters above, and below them which rank owns what."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from ...shards import Bucket, times
from ..canvas.glyphs import width_of
from ..canvas.page import Panel, aligned, elided, heading, page
from ..canvas.picture import Picture
from ..canvas.scene import Box, Item, Label
from ..canvas.theme import FAINT_EDGE, FRAME, MAX_WIDTH, PAPER, QUIET, SMALL, edge, fill, ink_on

_HEIGHT = 20.0
_MOST_BUCKETS, _MOST_RANKS = 12, 16


def owned(
    buckets: Sequence[Bucket], *, title: str | None = None, ax: Axes | None = None
) -> Picture:
    """Draw what each rank owns of each parameter: a strip for each bucket, cut into shards.

    Parameters
    ----------
    buckets : sequence of Bucket
        In the order in which backward fills them; all of as many shards. Of many, those in the
        middle are left out.
    title : str, optional
        By default their number and that of the ranks.
    ax : matplotlib Axes, optional
        Draw there.

    Raises
    ------
    ValueError
        When there are none, or they are cut into different numbers of shards.

    Examples
    --------
    >>> owned([Bucket({"bias": (3,), "weight": (3, 2)}, parts=2)])
    1 bucket, 2 ranks
    bucket 0  bias 3, weight 3×2, padding 1
    rank 0    bias 0–2, weight 0–1
    rank 1    weight 2–5, padding 1
    """
    parts = {bucket.parts for bucket in buckets}
    if len(parts) != 1:
        shards = ", ".join(map(str, sorted(parts))) or "none"
        raise ValueError(f"buckets must be of as many shards each, got {shards}")
    ranks = parts.pop()
    plurals = ["s" if n != 1 else "" for n in (len(buckets), ranks)]
    title = title or f"{len(buckets)} bucket{plurals[0]}, {ranks} rank{plurals[1]}"
    scale = MAX_WIDTH / max(1, *(bucket.padded_numel for bucket in buckets))
    panels, lines = [], []
    for number in elided(len(buckets), _MOST_BUCKETS):
        if number is None:
            lines.append([f"… {len(buckets) - _MOST_BUCKETS + 1} more buckets"])
            panels.append(Panel([Label(0, 6, lines[-1][0], SMALL, QUIET)], MAX_WIDTH, 12))
        else:
            lines += _lines(number, buckets[number])
            panels.append(heading(f"bucket {number}", _strips(buckets[number], scale)))
    notes = [
        "above: parameters; below: the ranks that own them, in elements of the flattened buffer"
    ]
    return page(title, panels, notes, aligned(lines), ax)


def _lines(number: int, bucket: Bucket) -> list[list[str]]:
    held = [f"{name} {times(shape)}" for name, shape in bucket.shapes.items()]
    padding = bucket.padded_numel - bucket.numel
    held += [f"padding {padding}"] if padding else []
    lines = [[f"bucket {number}", ", ".join(held)]]
    for rank in elided(bucket.parts, _MOST_RANKS):
        if rank is None:
            lines.append(["…"])
            continue
        own = bucket.owned(rank)
        words = [f"{name} {_range(part)}" for name, part in own.items()]
        rest = bucket.shard_numel - sum(part.stop - part.start for part in own.values())
        words += [f"padding {rest}"] if rest else []
        lines.append([f"rank {rank}", ", ".join(words)])
    return lines


def _range(part: slice) -> str:
    first, last = part.start, part.stop - 1
    return f"{first}–{last}" if last > first else f"{first}"


def _strips(bucket: Bucket, scale: float) -> Panel:
    """Return the parameters of a bucket, and its shards under them."""
    items: list[Item] = []
    for name, span in bucket.spans.items():
        shape = times(bucket.shapes[name])
        words = (f"{name} {shape}", name)
        items += _box(span.start * scale, 0, span.stop * scale, words, PAPER, FAINT_EDGE)
    if bucket.padded_numel > bucket.numel:
        span = slice(bucket.numel, bucket.padded_numel)
        items += _box(span.start * scale, 0, span.stop * scale, ("padding",), FRAME, FAINT_EDGE)
    for rank in range(bucket.parts):
        span = bucket.shard(rank)
        words = (f"rank {rank}", str(rank))
        colors = fill(rank), edge(rank)
        items += _box(span.start * scale, _HEIGHT + 3, span.stop * scale, words, *colors)
    return Panel(items, MAX_WIDTH, 2 * _HEIGHT + 3)


def _box(
    left: float,
    top: float,
    right: float,
    words: Sequence[str],
    face: tuple[float, float, float],
    border: tuple[float, float, float],
) -> list[Item]:
    """Return a box with the first of the words that fit in it."""
    if right <= left:
        return []
    box = Box(left, top, right - left, _HEIGHT, face, border, 0.8)
    fitting = (word for word in words if width_of(word, SMALL) + 4 <= box.width)
    middle = (left + box.width / 2, top + _HEIGHT / 2)
    return [box, *(Label(*middle, w, SMALL, ink_on(face), "center") for w in list(fitting)[:1])]
