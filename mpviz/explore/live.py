"""A curve that is drawn while the ranks work."""

import signal
import sys
import threading
import time
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from .. import draw
from .._checks import whole_number

if TYPE_CHECKING:
    from IPython.display import DisplayHandle

_SECONDS = 0.4
"""Between two drawings."""


class Stopped(KeyboardInterrupt):
    """The user has stopped the loop, between two steps."""

    def _render_traceback_(self) -> list[str]:
        return [f"Stopped: {self}"]


class LiveCurve:
    """A curve that grows while a loop is under way; made by `curve`.

    Attributes
    ----------
    values : list of float
        Those until now; they stay when the loop is stopped.
    """

    def __init__(self, name: str, steps: int | None, title: str, digits: int) -> None:
        self.values: list[float] = []
        self._name, self._title, self._digits = name, title, digits
        self._steps = None if steps is None else whole_number("steps", steps)
        self._handle: DisplayHandle | None = None
        self._drawn = 0.0
        self._stopping = False
        self._before: Any = None
        """Whom an interrupt called before; None while that is so."""

    @property
    def picture(self) -> draw.Picture:
        """The chart of the values until now."""
        named = {self._name: self.values}
        return draw.curves(named, title=self._title, steps=self._steps, digits=self._digits)

    def add(self, value: float) -> None:
        """Take the value of the next step, and draw it if the last drawing is a while ago.

        Raises
        ------
        Stopped
            When the user has asked for it since the last value.
        """
        self.values.append(float(value))
        if self._stopping:
            of = "" if self._steps is None else f" of {self._steps}"
            raise Stopped(f"after {len(self.values)}{of} steps, the last of them whole")
        if _in_notebook() and time.monotonic() - self._drawn > _SECONDS:
            self._show()

    def __enter__(self) -> Self:
        if _in_notebook():
            self._show()
        before = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is threading.main_thread() and before is not None:
            self._before = before
            signal.signal(signal.SIGINT, self._stop)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._interrupt_as_before()
        if _in_notebook():
            self._show()
        else:
            print(self.picture)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        """Stop at the next value; at a second interrupt, at once."""
        if self._stopping:
            self._interrupt_as_before()
            signal.raise_signal(signal.SIGINT)
        self._stopping = True

    def _interrupt_as_before(self) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None

    def _show(self) -> None:
        """Draw, in place of what was drawn before.

        The values are in the picture and its alternative text. ``text/plain`` is the same from the
        first drawing to the last: who compares outputs sees only the first.
        """
        from IPython.display import display

        data, metadata = self.picture._repr_mimebundle_()
        steps = "" if self._steps is None else f", {self._steps} steps"
        data["text/plain"] = f"{self._title}: {self._name}{steps}"
        if self._handle is None:
            self._handle = display(  # type: ignore[no-untyped-call]
                data, metadata=metadata, raw=True, display_id=True
            )
        else:
            self._handle.update(data, metadata=metadata, raw=True)  # type: ignore[no-untyped-call]
        self._drawn = time.monotonic()


def curve(
    name: str, *, steps: int | None = None, title: str = "Loss", digits: int = 2
) -> LiveCurve:
    """Draw a value of each step while a loop is under way.

    In a notebook the chart is there from the start, and grows; elsewhere its text is printed at the
    end. ■ stops the loop where the next value comes, which is after a whole step: ranks that
    compute it stay usable. A second ■ interrupts at once.

    Parameters
    ----------
    name : str
        Of the curve.
    steps : int, optional
        How many there will be.
    title, digits
        As for `draw.curves`.

    Examples
    --------
    >>> with curve("a parabola", steps=4, title="x²", digits=0) as parabola:
    ...     for x in range(4):
    ...         parabola.add(x * x)
    x²
    step        0  1  2  3
    a parabola  0  1  4  9
    >>> parabola.values
    [0.0, 1.0, 4.0, 9.0]
    """
    return LiveCurve(name, steps, title, digits)


def _in_notebook() -> bool:
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return hasattr(shell, "kernel")  # a terminal shows no pictures
