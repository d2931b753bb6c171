"""A line that says how far a long run is, and goes away when it ends."""

import os
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.display import DisplayHandle

_SILENT_SECONDS = 3.0
_SWITCH = "MPVIZ_PROGRESS"
"""With "0" in this variable there is no line: where outputs are compared, a slow machine's line,
which leaves an empty output behind, would be a difference."""


class Progress:
    """Tell a user in Jupyter, after a few seconds, how many ranks are done."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._begun = time.monotonic()
        self._handle: DisplayHandle | None = None

    def __call__(self, done: int) -> None:
        """Show that ``done`` ranks have answered."""
        seconds = time.monotonic() - self._begun
        if seconds < _SILENT_SECONDS or not _wanted():
            return
        self._show(f"{done} of {self._count} ranks done, {seconds:.0f} s …")

    def _show(self, text: str) -> None:
        from IPython.display import display

        bundle: dict[str, Any] = {"text/plain": text}
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._handle is not None:
            self._show("")


def _wanted() -> bool:
    return "ipykernel" in sys.modules and os.environ.get(_SWITCH) != "0"
