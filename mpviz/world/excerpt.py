"""Text of any length, shown within limits; what is left out is said."""

HEAD, TAIL = 200, 50
"""Lines that are kept at the beginning and at the end, as of what a rank prints."""
LONGEST_LINE = 2_000


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
