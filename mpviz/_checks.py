"""Checks of arguments that several modules share, each with an error that says what would fit."""

import operator
import traceback
from collections.abc import Iterable
from functools import partial
from math import prod
from pathlib import Path

_PACKAGE = str(Path(__file__).parent)


def whole_number(name: str, value: object, *, least: int = 1) -> int:
    """Return ``value`` as an int, or raise ``ValueError`` naming what was given.

    >>> whole_number("tp", 2)
    2
    >>> whole_number("tp", 1.5)
    Traceback (most recent call last):
        ...
    ValueError: tp must be a whole number ≥ 1, got 1.5
    """
    problem = f"{name} must be a whole number ≥ {least}, got {value!r}"
    if isinstance(value, bool):
        raise ValueError(problem)
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise ValueError(problem) from None
    if number < least:
        raise ValueError(problem)
    return number


def divisors(number: int) -> list[int]:
    """All divisors of ``number``, ascending.

    >>> divisors(16)
    [1, 2, 4, 8, 16]
    """
    small = [d for d in range(1, int(number**0.5) + 1) if number % d == 0]
    return sorted({*small, *(number // d for d in small)})


def listed(values: Iterable[object], last: str = ", ") -> str:
    """Join values for an error message.

    >>> listed([1, 2, 4], " or ")
    '1, 2 or 4'
    """
    words = [str(value) for value in values]
    return ", ".join(words[:-1]) + last + words[-1] if len(words) > 1 else "".join(words)


def check_divides(world_size: int, **sizes: int) -> None:
    """Raise unless the product of ``sizes`` divides the world; say which sizes would.

    >>> check_divides(8, tp=3)
    Traceback (most recent call last):
        ...
    ValueError: 8 ranks cannot be split into tp=3 (3 does not divide 8); tp may be 1, 2, 4 or 8
    """
    shown = {axis: size for axis, size in sizes.items() if axis not in ("cp", "ep") or size > 1}
    product = prod(sizes.values())
    if world_size % product == 0:
        return
    names = " × ".join(shown)
    alternatives = []
    for axis, size in shown.items():
        rest = product // size
        if size > 1 and world_size % rest == 0 and len(shown) > 1:
            others = listed(f"{name}={shown[name]}" for name in shown if name != axis)
            fits = listed(divisors(world_size // rest), " or ")
            alternatives.append(f"; with {others}, {axis} may be {fits}")
    raise ValueError(
        f"{world_size} ranks cannot be split into "
        f"{' × '.join(f'{axis}={size}' for axis, size in shown.items())} "
        f"({product} does not divide {world_size}); {names} may be "
        f"{listed(divisors(world_size), ' or ')}{''.join(alternatives)}"
    )


def seconds(value: object) -> float:
    """Return a timeout as a number.

    >>> seconds(0)
    Traceback (most recent call last):
        ...
    ValueError: timeout must be a number of seconds above 0, got 0
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e6:
        raise ValueError(f"timeout must be a number of seconds above 0, got {value!r}")
    return float(value)


def show_in_brief(error: ValueError) -> None:
    """Have IPython show an error as its message and the line of the caller that led to it.

    Sizes that do not fit are explained in the message; to who moves a slider of ``interact``, the
    frames above it are noise. It stays the error that it is, with all its frames for a debugger.

    Source: IPython's ``InteractiveShell.showtraceback`` asks an error for ``_render_traceback_``.
    """
    error._render_traceback_ = partial(_in_brief, error)  # type: ignore[attr-defined]


def _in_brief(error: ValueError) -> list[str]:
    frames = traceback.extract_tb(error.__traceback__)
    callers = [each for each in frames if not each.filename.startswith((_PACKAGE, "<string>"))]
    led = [f"at line {each.lineno}: {each.line}" for each in callers[-1:]]
    return [f"{type(error).__name__}: {error}", *led]
