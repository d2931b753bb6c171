"""What every explorer does: settings in, a picture and its words out, an explanation if need be."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..draw import Picture
from ..draw.canvas.page import aligned
from .controls import Control
from .panel import Panel

Settings = dict[str, Any]


@dataclass(frozen=True)
class Fix:
    """A way out of settings that do not fit: a text to click, and the settings it brings."""

    text: str
    changes: Mapping[str, Any]


@dataclass(frozen=True)
class View:
    """What one state of the settings shows.

    Attributes
    ----------
    picture : Picture
        The drawing.
    summary : str
        One line, read aloud to who cannot see the picture.
    table : sequence of rows
        The words beside the picture; the first row is its head.
    note : str
        What the table assumes.
    """

    picture: Picture
    summary: str
    table: Sequence[Sequence[str]]
    note: str

    @property
    def text(self) -> str:
        """The view in characters."""
        return f"{self.picture.text}\n\n{aligned(self.table)}\n{self.note}"


@dataclass(frozen=True)
class _State:
    """All that an explorer knows; replaced as a whole, so that nobody sees half of a move."""

    settings: Settings
    """What the controls say."""
    good: Settings
    """The last that fitted, and the view of these."""
    view: View
    problem: str | None = None
    fixes: Sequence[Fix] = ()


class Explorer(ABC):
    """Sliders over one picture.

    Settings that do not fit raise nothing: `problem` says why, the page offers what would fit,
    and the last good picture stays.
    """

    _title: str
    _call: str
    _pointable = False
    """Whether `_pointed` makes anything of a click on the picture."""
    _defaults: Mapping[str, Any]
    """Arguments that the line which brings a state back need not say."""

    def __init__(self, settings: Settings) -> None:
        settings = _plain(settings)
        self._check(settings)
        self._start = dict(settings)
        self._state = _State(self._start, self._start, self._viewed(settings))
        # A kernel may answer the page in one thread while it runs a cell in another.
        self._turn = threading.Lock()
        self._panel = Panel(title=self._title, pointable=self._pointable)
        self._pictures = 0
        self._show(new_picture=True)
        self._panel.observe(lambda asked: self._move(asked.new["changes"]), "asked")
        self._panel.observe(lambda _: self._sharpen(), "sharpness")

    # ---- what an explorer is made of

    @abstractmethod
    def _controls(self, settings: Settings) -> Sequence[Control]:
        """Return the controls, in the order shown."""

    @abstractmethod
    def _viewed(self, settings: Settings) -> View:
        """Return what the settings show, or raise ``ValueError``."""

    @abstractmethod
    def _arguments(self, settings: Settings) -> Mapping[str, Any]:
        """Return the arguments that bring these settings back, usual ones too."""

    @abstractmethod
    def _check(self, settings: Settings) -> None:
        """Raise ``ValueError`` for values that the page could not even send."""

    def _after(self, settings: Settings, name: str) -> Settings:
        """Return the settings with what follows from the change of one."""
        return settings

    def _pointed(self, x: float, y: float) -> Settings:
        """Return what a click at a point of the picture changes."""
        return {}

    def _ways_out(self, settings: Settings, moved: str) -> list[Fix]:
        """Return the nearest settings that fit."""
        return []

    # ---- state

    @property
    def settings(self) -> Settings:
        """What the controls say, by name."""
        return dict(self._state.settings)

    @property
    def picture(self) -> Picture:
        """The last picture that could be drawn."""
        return self._state.view.picture

    @property
    def problem(self) -> str | None:
        """Why the settings do not fit; None when they do."""
        return self._state.problem

    @property
    def moved(self) -> bool:
        """Whether it shows something else than at first."""
        return self._state.good != self._start

    @property
    def text(self) -> str:
        """All that is shown, in characters."""
        state = self._state
        parts = (state.view.text, state.problem, self._code(state.good))
        return "\n\n".join(part for part in parts if part)

    @property
    def _good(self) -> Settings:
        return self._state.good

    def set(self, **settings: Any) -> None:
        """Move controls from code, as a reader does with the mouse.

        Raises
        ------
        ValueError
            If there is no control of that name, or the value is of another kind. Values that
            do not fit are explained in `problem`.
        """
        here = self.settings
        unknown = sorted(settings.keys() - here.keys())
        if unknown:
            raise ValueError(f"no control named {', '.join(unknown)}; there are {', '.join(here)}")
        settings = _plain(settings)
        self._check({**here, **settings})
        self._move(settings)

    def _move(self, changes: Mapping[str, Any]) -> None:
        with self._turn:
            before = self._state
            settings = dict(before.settings)
            changes = self._understood(changes)
            for name, value in changes.items():
                settings = self._after({**settings, name: value}, name)
            if settings != before.settings:
                self._state = self._tried(settings, moved=list(changes)[-1])
            self._show(new_picture=self._state.view is not before.view)

    def _understood(self, changes: Mapping[str, Any]) -> Settings:
        """Return the changes with what a click means; on a picture that is gone, nothing."""
        named = {name: value for name, value in changes.items() if name != "point"}
        picture, across, down = changes.get("point", (None, 0, 0))
        if picture == self._pictures:
            scene = self.picture.scene
            named |= self._pointed(across * scene.width, down * scene.height)
        return named

    def _tried(self, settings: Settings, moved: str) -> _State:
        try:
            view = self._viewed(settings)
        except ValueError as error:
            back = Fix(f"back to {self._state.view.summary}", self._good)
            fixes = [*self._ways_out(settings, moved), back]
            return replace(self._state, settings=settings, problem=str(error), fixes=fixes)
        return _State(settings, settings, view)

    def _sharpen(self) -> None:
        with self._turn:
            self._show(new_picture=True)

    # ---- display

    def _show(self, *, new_picture: bool) -> None:
        state, panel = self._state, self._panel
        width, height = state.view.picture.shown_size
        with panel.hold_sync():
            panel.controls = [each.described() for each in self._controls(state.settings)]
            if new_picture:
                self._pictures += 1
                panel.png = state.view.picture.png(sharpness=panel.sharpness)
            panel.shown = {
                "answers": panel.asked.get("number", 0),
                "picture": self._pictures,
                "settings": state.settings,
                "alt": state.view.picture.text,
                "width": width,
                "height": height,
                "summary": state.view.summary,
                "table": [list(row) for row in state.view.table],
                "note": state.view.note,
                "problem": state.problem or "",
                "fixes": [{"text": fix.text, "changes": dict(fix.changes)} for fix in state.fixes],
                "code": self._code(state.good),
            }

    def _code(self, settings: Settings) -> str:
        given = [
            f"{name}={value!r}"
            for name, value in self._arguments(settings).items()
            if name not in self._defaults or value != self._defaults[name]
        ]
        return f"{self._call}({', '.join(given)})"

    def __repr__(self) -> str:
        return self._code(self._good)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Any:
        data, metadata = self.picture._repr_mimebundle_()
        live: Any = self._panel._repr_mimebundle_() or ({}, {})
        return {**live[0], **data, "text/plain": self.text}, metadata


def _plain(settings: Settings) -> Settings:
    """Return settings with numpy's numbers as Python's, which can be sent to the page."""
    return {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in settings.items()
    }
