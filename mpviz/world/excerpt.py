"""Text of any length, shown within limits; what is left out is said."""

from collections.abc import Iterable, Sequence

HEAD, TAIL = 200, 50
"""Lines that are kept at the beginning and at the end, as of what a rank prints."""
LONGEST_LINE = 2_000
_MOST_RANKS = 16


def excerpt(text: str, *, line: int = LONGEST_LINE) -> str:
    """Return the first and the last lines of a text, and the beginning of each.

    Parameters
    ----------
    text : str
        Of any length.
    line : int
        Characters of a line that are kept.

    Examples
    --------
    >>> excerpt("a" * 1_000_000, line=5)
    'aaaaa … 999,995 characters left out'
    """
    lines = text.split("\n")
    left_out = len(lines) - HEAD - TAIL
    if left_out > 0:
        lines = [*lines[:HEAD], f"… {left_out:,} lines left out …", *lines[-TAIL:]]
    return "\n".join(_beginning(one, line) for one in lines)


def _beginning(line: str, most: int) -> str:
    if len(line) <= most:
        return line
    return f"{line[:most]} … {len(line) - most:,} characters left out"


def few(ranks: Iterable[int]) -> str:
    """Return numbers as text, of very many the first ones and the last.

    >>> few(range(64))
    '0 1 2 3 4 5 6 7 8 9 10 11 12 13 … 63'
    """
    words = [str(rank) for rank in ranks]
    if len(words) > _MOST_RANKS:
        words = [*words[: _MOST_RANKS - 2], "…", words[-1]]
    return " ".join(words)


def named_ranks(ranks: Iterable[int]) -> str:
    """Return ranks as text: "rank 3", "ranks 0 1 2"."""
    ranks = sorted(ranks)
    return f"rank{'s' if len(ranks) > 1 else ''} {few(ranks)}"


def named_group(ranks: Sequence[int], world_size: int, kind: str = "") -> str:
    """Return what a group is called, and its ranks.

    >>> named_group((0, 2), 4, "dp"), named_group((0, 2), 4), named_group((0, 1, 2, 3), 4)
    ('dp group 0 2', '0 2', 'all ranks')
    """
    if len(ranks) == world_size:
        return "all ranks"
    return f"{kind} group {few(ranks)}" if kind else few(ranks)
