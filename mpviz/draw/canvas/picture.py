"""What every drawing returns: a picture and its twin in text."""

import base64
import io
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection, PolyCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline
from matplotlib.transforms import Affine2D, Transform
from numpy.typing import NDArray
from PIL import Image

from .glyphs import outline
from .palette import palette_of
from .scene import Box, Curve, Label, Raster, Scene
from .theme import PAPER

_SCREEN_DPI = 96
_SHARPNESS = 2
_SAVED_DPI = 300
_CORNER = 3.0
_FORMATS = (".png", ".svg", ".pdf")


class Picture:
    """A drawing, as a figure and as text.

    In a notebook it shows itself: the PNG to the eye, the text to a screen reader, a terminal
    and nbval. No pyplot state is touched.

    Parameters
    ----------
    scene : Scene
        What to draw, in points.
    text : str
        The same, in characters; deterministic.
    ax : matplotlib Axes, optional
        Draw there instead of on a figure of its own.
    """

    def __init__(self, scene: Scene, text: str, ax: Axes | None = None) -> None:
        self.scene = scene
        self.text = text
        self._ax = ax
        if ax is not None:
            ax.set(xlim=(0, scene.width), ylim=(scene.height, 0), aspect="equal")
            ax.set_axis_off()
            _paint(scene, lambda artist: ax.add_artist(artist), ax.transData)

    @cached_property
    def figure(self) -> Figure:
        """The matplotlib figure; for a picture drawn on your ``ax``, that one's."""
        if self._ax is not None:
            return self._ax.get_figure(root=True)  # type: ignore[return-value]
        scene = self.scene
        size = (scene.width / 72, scene.height / 72)
        figure = Figure(figsize=size, dpi=_SCREEN_DPI * _SHARPNESS, facecolor=PAPER)
        FigureCanvasAgg(figure)
        points = Affine2D().scale(1 / 72, -1 / 72).translate(0, scene.height / 72)
        _paint(scene, figure.add_artist, points + figure.dpi_scale_trans)
        return figure

    @property
    def shown_size(self) -> tuple[int, int]:
        """Width and height on a page, in CSS pixels."""
        pixels_per_point = _SCREEN_DPI / 72
        width, height = self.scene.width, self.scene.height
        return round(width * pixels_per_point), round(height * pixels_per_point)

    def png(self, *, sharpness: int = _SHARPNESS) -> bytes:
        """Return the picture as PNG.

        Parameters
        ----------
        sharpness : int
            Pixels to a CSS pixel, across and down. 1 is all that an ordinary screen shows, and
            takes half the time; a raster, whose cells are whole pixels at 2, stays at 2.
        """
        buffer = io.BytesIO()
        dpi = _SCREEN_DPI * (_SHARPNESS if self.scene.of(Raster) else sharpness)
        if self._ax is not None:
            self.figure.savefig(buffer, format="png", dpi=dpi)
            return buffer.getvalue()
        canvas = self.figure.canvas
        assert isinstance(canvas, FigureCanvasAgg)
        self.figure.dpi = dpi
        canvas.draw()  # type: ignore[no-untyped-call]
        drawn = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
        image = Image.fromarray(drawn).convert("RGB")
        colors = palette_of(self.scene)
        if colors:
            # One byte a pixel: encoding takes 3 ms instead of 15, and half the bytes.
            palette = Image.new("P", (1, 1))
            palette.putpalette(colors)
            image = image.quantize(palette=palette, dither=Image.Dither.NONE)
        image.save(buffer, "png", compress_level=1)
        return buffer.getvalue()

    def save(self, path: str | Path) -> Path:
        """Write the picture to a file for a slide or a paper.

        Parameters
        ----------
        path : str or Path
            Ends in ``.png`` (300 dpi), ``.svg`` or ``.pdf``; text becomes outlines, so no font
            needs to be installed where it is shown.

        Returns
        -------
        Path
            The file.

        Raises
        ------
        ValueError
            If the ending is none of these.
        """
        path = Path(path)
        if path.suffix.lower() not in _FORMATS:
            raise ValueError(f"cannot save as {path.name!r}; a name may end in .png, .svg or .pdf")
        title = self.text.partition("\n")[0]
        # No date and no random id: the same picture is the same file.
        metadata: dict[str, Any] = {"Title": title}
        metadata |= {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(
            path.suffix.lower(), {}
        )
        with rc_context({"svg.hashsalt": "mpviz"}):
            self.figure.savefig(path, dpi=_SAVED_DPI, metadata=metadata)
        return path

    def __repr__(self) -> str:
        return self.text

    def _repr_mimebundle_(
        self, include: Any = None, exclude: Any = None
    ) -> tuple[dict[str, str], dict[str, Any]]:
        data = {"text/plain": self.text, "image/png": base64.b64encode(self.png()).decode()}
        width, height = self.shown_size
        return data, {"image/png": {"width": width, "height": height, "alt": self.text}}


def _paint(scene: Scene, add: Callable[[Artist], object], points: Transform) -> None:
    """Turn a scene into a handful of artists, however many items it holds."""
    for raster in scene.of(Raster):
        add(_Pixels(raster, points))
    boxes = scene.of(Box)
    if boxes:
        add(
            PolyCollection(
                list(_rounded(boxes)),
                facecolors=[box.face for box in boxes],
                edgecolors=[box.edge for box in boxes],
                # One more than boxes: a lone one would be a marker, moved onto whole pixels.
                linewidths=[box.line for box in (*boxes, boxes[0])],
                linestyles=_styles(boxes),
                transform=points,
            )
        )
    curves = scene.of(Curve)
    if curves:
        bezier = [Outline.MOVETO, *[Outline.CURVE4] * 3]
        add(
            PathCollection(
                [Outline(curve.points, bezier) for curve in curves],
                facecolors="none",
                edgecolors=[curve.color for curve in curves],
                linewidths=[curve.line for curve in curves],
                linestyles=_styles(curves),
                transform=points,
            )
        )
    labels = scene.of(Label)
    for color in dict.fromkeys(label.color for label in labels):
        path = outline(label for label in labels if label.color == color)
        add(PathPatch(path, facecolor=to_hex(color), linewidth=0, transform=points))


def _styles(items: Sequence[Box] | Sequence[Curve]) -> list[Any]:
    return [(0, (3.2, 1.6)) if item.dashed else "-" for item in items]


def _rounded(boxes: Sequence[Box]) -> NDArray[np.float64]:
    """Return the outlines of all boxes, shape (boxes, points of one, 2)."""
    turns = np.linspace(0, 2 * np.pi, 17)[:-1].reshape(4, 4)
    turns = np.column_stack([turns, turns[:, -1:] + np.pi / 8])  # each corner a closed quarter
    unit = np.stack([np.cos(turns), np.sin(turns)], axis=-1)
    frames = np.array([(box.x, box.y, box.width, box.height) for box in boxes])
    radius = np.minimum(_CORNER, frames[:, 2:].min(axis=1) / 2)[:, None]
    left_top, right_bottom = frames[:, :2] + radius, frames[:, :2] + frames[:, 2:] - radius
    corners = np.stack(
        [
            right_bottom,
            np.stack([left_top[:, 0], right_bottom[:, 1]], axis=1),
            left_top,
            np.stack([right_bottom[:, 0], left_top[:, 1]], axis=1),
        ],
        axis=1,
    )
    outlines: NDArray[np.float64] = corners[:, :, None, :] + radius[:, :, None, None] * unit
    return outlines.reshape(len(boxes), -1, 2)


class _Pixels(Artist):
    """A raster whose pixels stay sharp squares.

    Matplotlib's own images are resampled in floating point, which takes longer than all the
    rest of a picture; colours out of a table need no arithmetic.
    """

    def __init__(self, raster: Raster, points: Transform) -> None:
        super().__init__()
        self._raster = raster
        self._points = points

    def draw(self, renderer: RendererBase) -> None:
        raster = self._raster
        corners = [(raster.x, raster.y), (raster.x + raster.width, raster.y + raster.height)]
        (left, top), (right, bottom) = self._points.transform(corners)
        scale = renderer.get_image_magnification()
        shape = (round(abs(top - bottom) * scale), round(abs(right - left) * scale))
        nearest = [
            np.arange(drawn) * held // max(drawn, 1)
            for drawn, held in zip(shape, raster.indices.shape, strict=True)
        ]
        table = np.array([(*color, 255) for color in raster.colors], dtype=np.uint8)
        colors = table.view(np.uint32)[:, 0][raster.indices[np.ix_(*nearest)]]
        rgba = colors[::-1].copy().view(np.uint8).reshape(*shape, 4)
        renderer.draw_image(renderer.new_gc(), min(left, right), min(top, bottom), rgba)
