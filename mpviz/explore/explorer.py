"""What every explorer does: settings in, a picture and its words out, an explanation if need be.

An explorer is a widget of ipywidgets: each setting a synced trait, the thing it shows its `value`.
It has native controls of the browser, which carry labels, keys and zoom for everybody, and is one
widget for all of them, because then a move is one message there and one back.
"""

import base64
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product
from math import isfinite
from pathlib import Path
from typing import Any, Self

import anywidget
import traitlets

from ..draw import Picture
from ..draw.canvas.page import aligned
from ..draw.canvas.scene_json import glyphs_of, to_json
from . import recording
from .controls import Control

Settings = dict[str, Any]

_HERE = Path(__file__).parent
SCRIPT = "\n".join(
    (_HERE / f"{name}.js").read_text(encoding="utf-8") for name in ("canvas", "recorded", "panel")
)
_DEEPEST = 12
"""Moves within one another: who observes a move may make the next one, but not for ever."""

STYLE = (_HERE / "panel.css").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Fix:
    """A way out of settings that do not fit: a text to click, and the settings it brings."""

    text: str
    changes: Mapping[str, Any]

    def described(self) -> dict[str, Any]:
        """Return what the page needs to know."""
        return {"text": self.text, "changes": dict(self.changes)}


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
    value
        What is shown: a layout, a plan.
    """

    picture: Picture
    summary: str
    table: Sequence[Sequence[str]]
    note: str
    value: Any

    @property
    def text(self) -> str:
        """The view in characters."""
        return f"{self.picture.text}\n\n{aligned(self.table)}\n{self.note}"


class Setting(traitlets.TraitType[Any, Any]):
    """A setting: a number, a text or None; whether it fits, its explorer says."""

    def __init__(self) -> None:
        super().__init__(default_value=None, allow_none=True)
        self.tag(sync=True)

    def validate(self, explorer: Any, value: Any) -> Any:
        """Return the value as Python's own, or raise ``ValueError`` for what no page can send."""
        value = recording.plain(value)
        if not isinstance(value, int | float | str) or not isfinite(_number(value)):
            raise ValueError(f"{self.name} must be a number, a text or None, got {value!r}")
        held = explorer.settings[self.name]
        return held if value == held else value  # 2.0 is no change of 2

    def set(self, explorer: Any, value: Any) -> None:
        """Set it when no other thread moves the explorer."""
        with explorer._turn:
            super().set(explorer, value)


@dataclass(frozen=True)
class _State:
    """All that an explorer knows; replaced as a whole, so that nobody sees half of a move."""

    settings: Settings
    """What the controls say."""
    good: Settings
    """The last that fitted, and the view of these."""
    view: View
    controls: Sequence[Control]
    problem: str | None = None
    fixes: Sequence[Fix] = ()


class Explorer(anywidget.AnyWidget):
    """Sliders over one picture, as one widget.

    A subclass names its settings as traits, ``tp = Setting()``, and says what they show:
    `_controls`, `_viewed`, `_arguments` and `_check`; the rest it may leave.

    Settings that do not fit raise nothing: `problem` says why, the page offers what would fit,
    and the last good `value` and its picture stay.

    Attributes
    ----------
    value
        What is shown; can be observed.
    problem : str or None
        Why the settings do not fit; None when they do. Can be observed.
    """

    _esm = SCRIPT
    _css = STYLE

    value = traitlets.Any(read_only=True)
    problem = traitlets.Unicode(None, allow_none=True, read_only=True).tag(sync=True)

    # ---- for the page
    title = traitlets.Unicode(read_only=True).tag(sync=True)
    # The setting that a click on the cell of a rank moves; "" where none does.
    pointed = traitlets.Unicode(read_only=True).tag(sync=True)
    controls: Any = traitlets.List(read_only=True).tag(sync=True)
    # A number, and all changes not answered yet, the latest last. The page knows what it has sent:
    # without the echo, a move is one message less.
    asked = traitlets.Dict().tag(sync=True, echo_update=False)
    # What there is to see, and the number that it answers.
    shown = traitlets.Dict(read_only=True).tag(sync=True)
    scene = traitlets.Dict(read_only=True).tag(sync=True)
    glyphs = traitlets.Dict(read_only=True).tag(sync=True)
    # Answers kept ahead, for a page without a kernel: gzip in base64.
    store = traitlets.Unicode(read_only=True).tag(sync=True)

    _title: str
    _call: str
    _pointed = ""
    _defaults: Mapping[str, Any]
    """Arguments that the line which brings a state back need not say."""
    _recorded: Mapping[str, Sequence[Any]]
    """The settings that `record` keeps answers for, if it is not told."""

    def __init__(self, settings: Settings) -> None:
        settings = {name: recording.plain(value) for name, value in settings.items()}
        self._check(settings)
        # A kernel may answer the page in one thread while it runs a cell in another. And who
        # observes a move may make the next one.
        self._turn = threading.RLock()
        self._depth = 0
        self._start = dict(settings)
        self._kept: Mapping[str, Sequence[Any]] = {}
        view = self._viewed(settings)
        self._state = _State(self._start, self._start, view, self._controls(settings))
        super().__init__()
        self._show(title=self._title, pointed=self._pointed, **self._drawn(view))
        self.observe(lambda asked: self._move(self._possible(asked.new)), "asked")
        self.observe(lambda change: self._move(self._changed(change.name)), list(settings))

    # ---- what an explorer is made of

    def _controls(self, settings: Settings) -> Sequence[Control]:
        """Return the controls, in the order shown."""
        raise NotImplementedError

    def _viewed(self, settings: Settings) -> View:
        """Return what the settings show, or raise ``ValueError``."""
        raise NotImplementedError

    def _arguments(self, settings: Settings) -> Mapping[str, Any]:
        """Return the arguments that bring these settings back, usual ones too."""
        return settings

    def _check(self, settings: Settings) -> None:
        """Raise ``ValueError`` for values that no control could be at."""
        raise NotImplementedError

    def _after(self, settings: Settings, name: str) -> Settings:
        """Return the settings with what follows from the change of one."""
        return settings

    def _fixes(self, settings: Settings, moved: str) -> list[Fix]:
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
        """Move controls from code, several at once.

        Raises
        ------
        ValueError
            If there is no control of that name, or none could be at the value. Values that do
            not fit together are explained in `problem`, as is whatever is assigned to a trait.
        """
        here = self.settings
        unknown = sorted(settings.keys() - here.keys())
        if unknown:
            raise ValueError(f"no control named {', '.join(unknown)}; there are {', '.join(here)}")
        settings = {name: recording.plain(value) for name, value in settings.items()}
        self._check({**here, **settings})
        self._move(settings)

    def set_state(self, sync_data: dict[str, Any]) -> None:
        """Take what a page has set, when no other thread moves the explorer."""
        with self._turn:
            super().set_state(sync_data)

    def _possible(self, asked: Mapping[str, Any]) -> Settings:
        """Return the changes that a page asks for, or raise ``ValueError`` before there are any."""
        changes, here = asked.get("changes", {}), self.settings
        return {
            name: getattr(type(self), name)._validate(self, value)
            for name, value in changes.items()
            if name in here  # a page of another version may have more
        }

    def _changed(self, last: str) -> Settings:
        """Return the settings whose traits were assigned to, one of them as the last."""
        held = self._state.settings
        now = {name: getattr(self, name) for name in (*(held.keys() - {last}), last)}
        return {name: value for name, value in now.items() if value != held[name]}

    def _move(self, changes: Mapping[str, Any]) -> None:
        with self._turn, self._nested(changes):
            before = self._state
            settings = dict(before.settings)
            for name, value in changes.items():
                settings = self._followed(settings, name, value)
            if settings != before.settings:
                self._state = self._tried(settings, moved=list(changes)[-1])
            view = self._state.view
            self._show(**(self._drawn(view) if view is not before.view else {}))

    @contextmanager
    def _nested(self, changes: Mapping[str, Any]) -> Iterator[None]:
        """Raise where observers of a move make the next one, and that without end."""
        if self._depth == _DEEPEST:
            asked = ", ".join(f"{name}={value!r}" for name, value in changes.items())
            raise ValueError(
                f"{self._call}: observers move it again and again: {asked} is the "
                f"move {_DEEPEST + 1} of one change; let them stop when nothing has changed"
            )
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1

    def _followed(self, settings: Settings, name: str, value: Any) -> Settings:
        """Return the settings after the change of one; nothing follows from nonsense."""
        settings = {**settings, name: value}
        try:
            self._check(settings)
        except ValueError:
            return settings
        return self._after(settings, name)

    def _tried(self, settings: Settings, moved: str) -> _State:
        before = replace(self._state, settings=settings)
        back = Fix(f"back to {before.view.summary}", before.good)
        try:
            self._check(settings)
        except ValueError as error:
            return replace(before, problem=str(error), fixes=[back])
        before = replace(before, controls=self._controls(settings))
        try:
            view = self._viewed(settings)
        except ValueError as error:
            fixes = [*self._fixes(settings, moved), back]
            return replace(before, problem=str(error), fixes=fixes)
        return _State(settings, settings, view, before.controls)

    # ---- pages without a kernel

    def record(self, **kept: Iterable[Any]) -> Self:
        """Keep the answers to some settings, for pages without a kernel.

        Parameters
        ----------
        **kept
            For each setting that moves there, its values; all combinations are kept, the other
            settings stay. Without any, a choice made for this kind of explorer.

        Returns
        -------
        Explorer
            Itself.

        Raises
        ------
        ValueError
            If there is no such setting, no control could be at a value, or the record would be
            larger than `recording.MOST_ANSWERS` or `recording.MOST_BYTES`.
        """
        with self._turn:
            movable = {each.name: self._good[each.name] for each in self._state.controls}
            values = recording.checked(kept or self._recorded, movable)
            for name, several in values.items():
                for value in several:
                    self._check({**self._good, name: value})
            pieces = recording.packed(self._answers(values), values)
            self.set_trait("store", base64.b64encode(b"".join(pieces)).decode())
            self._kept = values
        return self

    def _answers(self, kept: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
        """Yield the answer to each combination of settings, and last what is kept."""
        glyphs: dict[str, Any] = {}
        start = self._good
        for combination in product(*kept.values()):
            settings = start
            for name, value in zip(kept, combination, strict=True):
                settings = self._followed(settings, name, value)
            settled = self._after(dict(settings), "")  # whichever was last
            if all(settled[name] in kept[name] for name in kept):
                settings = settled
            try:
                view = self._viewed(settings)
            except ValueError as error:
                fixes = [fix.described() for fix in self._recorded_fixes(settings, kept)]
                yield {"problem": str(error), "fixes": fixes}
                continue
            scene = view.picture.scene
            glyphs = glyphs_of(scene, glyphs)
            words = {**self._words(view, settings), "settings": settings}
            controls = self._narrowed(settings, kept)
            yield {"words": words, "scene": to_json(scene), "controls": controls}
        yield {
            "title": self._title,
            "pointed": self._pointed,
            "glyphs": glyphs,
            "kept": kept,
            "start": {name: start[name] for name in kept},
        }

    def _narrowed(
        self, settings: Settings, kept: Mapping[str, Sequence[Any]]
    ) -> list[dict[str, Any]]:
        """Return the controls that move among what is kept."""
        controls = {each.name: each for each in self._controls(settings)}
        return [controls[name].narrowed(kept[name]).described() for name in kept]

    def _recorded_fixes(self, settings: Settings, kept: Mapping[str, Sequence[Any]]) -> list[Fix]:
        """Return the ways out of settings that do not fit which a page without a kernel has."""
        return [
            fix
            for fix in self._fixes(settings, moved="")
            if all(value in kept.get(name, ()) for name, value in fix.changes.items())
        ]

    def save(self, path: str | Path, **kept: Iterable[Any]) -> Path:
        """Write a page that moves without a kernel and without a network.

        Parameters
        ----------
        path : str or Path
            Ends in ``.html``.
        **kept
            As of `record`; without any, what was recorded last.

        Returns
        -------
        Path
            The file.

        Raises
        ------
        ValueError
            If it cannot be written there, and as `record`.
        """
        target = recording.checked_path(path)
        with self._turn:
            self.record(**(kept or self._kept))
            view = self._state.view
            width, height = view.picture.shown_size
            text = recording.page(
                **{"title": self._title, "summary": view.summary, "text": view.text},
                **{"style": STYLE, "script": SCRIPT, "store": self.store},
                **{"width": width, "height": height},
                png=base64.b64encode(view.picture.png()).decode(),
            )
        recording.write(target, text)
        return Path(path)

    # ---- the page

    def _drawn(self, view: View) -> dict[str, Any]:
        """Return the traits that change with the picture alone."""
        scene = view.picture.scene
        return {"scene": to_json(scene), "glyphs": glyphs_of(scene, self.glyphs)}

    def _show(self, **drawn: Any) -> None:
        """Set all traits at once: one message to the page, and observers see them agree."""
        state = self._state
        drawn["controls"] = [each.described() for each in state.controls]
        drawn["shown"] = {
            **self._words(state.view, state.good),
            "answers": self.asked.get("number", 0),
            "settings": state.settings,
            "problem": state.problem or "",
            "fixes": [fix.described() for fix in state.fixes],
        }
        # After what the page shows: an observer that raises keeps nothing of that from it.
        drawn |= {"value": state.view.value, "problem": state.problem, **state.settings}
        with self.hold_sync(), self.hold_trait_notifications():
            for name, value in drawn.items():
                self.set_trait(name, value)

    def _words(self, view: View, settings: Settings) -> dict[str, Any]:
        """Return what stands around a picture, and how large that is on a page."""
        width, height = view.picture.shown_size
        return {
            "alt": view.picture.text,
            "width": width,
            "height": height,
            "summary": view.summary,
            "table": [list(row) for row in view.table],
            "note": view.note,
            "code": self._code(settings),
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

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        data, metadata = self.picture._repr_mimebundle_()
        live: Any = super()._repr_mimebundle_(**kwargs) or ({}, {})
        return {**live[0], **data, "text/plain": self.text}, metadata


def _number(value: float | str) -> float:
    """Return what has to be finite; a text, and a whole number beyond a float's, is."""
    return value if isinstance(value, float) else 0.0
