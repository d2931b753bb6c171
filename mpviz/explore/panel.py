"""The page's side of an explorer: one widget for all controls, the picture and the words.

Native controls of the browser, because those carry labels, keys and zoom for everybody; a single
widget, because then a move is one message there and one back.
"""

from pathlib import Path

import anywidget
import traitlets

_HERE = Path(__file__).parent


class Panel(anywidget.AnyWidget):
    """What the page shows, and what its reader has set there. It decides nothing."""

    _esm = (_HERE / "panel.js").read_text(encoding="utf-8")
    _css = (_HERE / "panel.css").read_text(encoding="utf-8")

    title = traitlets.Unicode().tag(sync=True)
    controls = traitlets.List(traitlets.Dict()).tag(sync=True)
    # Whether a click on the picture means something.
    pointable = traitlets.Bool().tag(sync=True)
    # From the page: a number, and all changes not answered yet, the latest last; a click as
    # "point": the number of the picture, and how far across and down. The page knows what it has
    # sent: without the echo, a move is one message less.
    asked = traitlets.Dict().tag(sync=True, echo_update=False)
    # To the page: what there is to see, and the number that it answers.
    shown = traitlets.Dict().tag(sync=True)
    png = traitlets.Bytes().tag(sync=True)
    # Pixels of the reader's screen to a CSS pixel.
    sharpness = traitlets.Int(2).tag(sync=True, echo_update=False)
