"""The controls of an explorer, as data: what the page shows, and which values it may send back."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

FINE, STEPS = 16, 8


def notches(most: int, *also: int) -> tuple[int, ...]:
    """Return the stops of a slider over sizes: every one up to 16, then eight to each doubling.

    >>> notches(40, 35)
    (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 20, 22, 24, 26, 28, 30, 32, 35, \
36, 40)
    """
    stops = set(range(1, min(most, FINE) + 1)) | set(also)
    step = FINE // STEPS
    while step * STEPS <= most:
        stops |= set(range(step * STEPS, min(most, 2 * step * STEPS) + 1, step))
        step *= 2
    return tuple(sorted(stops))


@dataclass(frozen=True)
class Slider:
    """A slider.

    Attributes
    ----------
    name : str
        Of the setting that it moves.
    label : str
        What stands above it.
    values : sequence of float or None
        Its stops; -1, the first of a range, stands for None.
    plays : bool
        Whether it has a button that moves it from stop to stop, as a film.
    """

    name: str
    label: str
    values: Sequence[float | None]
    plays: bool = False

    def described(self) -> dict[str, Any]:
        """Return what the page needs to know."""
        stops = (
            {"least": self.values[0], "most": self.values[-1]}
            if isinstance(self.values, range)
            else {"values": list(self.values)}
        )
        own = {"kind": "slider", "name": self.name, "label": self.label, "plays": self.plays}
        return own | stops

    def narrowed(self, values: Sequence[Any]) -> "Slider":
        """Return the slider with these stops alone; of a range, those in it."""
        ends = self.values if isinstance(self.values, range) else None
        stops = [one for one in values if ends is None or (-1 if one is None else one) in ends]
        return replace(self, values=tuple(stops))


@dataclass(frozen=True)
class Menu:
    """A choice between a few values.

    Attributes
    ----------
    name : str
        Of the setting that it moves.
    label : str
        What stands above it.
    options : tuple of (text, value)
        In the order shown.
    """

    name: str
    label: str
    options: tuple[tuple[str, Any], ...]

    def described(self) -> dict[str, Any]:
        """Return what the page needs to know."""
        options = [{"text": text, "value": value} for text, value in self.options]
        return {"kind": "menu", "name": self.name, "label": self.label, "options": options}

    def narrowed(self, values: Sequence[Any]) -> "Menu":
        """Return the menu with these choices alone."""
        texts = {value: text for text, value in self.options}
        return replace(self, options=tuple((texts.get(one, str(one)), one) for one in values))


Control = Slider | Menu
