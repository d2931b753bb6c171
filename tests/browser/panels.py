"""An explorer as its page shows it, and what mpviz itself says that it should show.

What is expected comes from the controls alone: whatever they stand at, the page must show what
`explore.layout` or `explore.compare` draws for it in this process, or state its ``ValueError``.
"""

import base64
import io
from dataclasses import replace
from functools import cache

import numpy as np
from PIL import Image

from mpviz import explore
from mpviz.draw import Picture
from mpviz.explore import words
from mpviz.explore.layout import PRESETS
from mpviz.presets import MODELS

from .pages import eventually

READ = """panel => {
    const all = (selector, get) => [...panel.querySelectorAll(selector)].map(get);
    const canvas = panel.querySelector("canvas");
    return {
        title: panel.getAttribute("aria-label"),
        controls: all(".mpviz-control :is(input, select)", at => [
            at.name, at.getAttribute("aria-valuetext") ?? at.selectedOptions[0]?.text ?? "",
        ]),
        says: all("output", output => output.textContent),
        status: panel.querySelector("[role=status]").textContent,
        buttons: all(".mpviz-message button", button => button.textContent),
        line: panel.querySelector(".mpviz-message code")?.textContent ?? "",
        table: all("tr", row => [...row.cells].map(cell => cell.textContent)),
        code: canvas.dataset.code,
        alt: canvas.getAttribute("aria-label"),
        focus: document.activeElement.name ?? "",
    };
}"""
FRAMES = """async (panel, [name, stops, frames]) => {
    const input = panel.querySelector(`[name=${name}]`);
    const seen = new Set();
    let blank = 0;
    const isBlank = (canvas) => { // of one colour, or cleared
        const { width, height } = canvas;
        const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
        return data.every((value, at) => value === data[at % 4]);
    };
    for (let frame = 0; frame < frames; frame++) {
        input.value = stops[frame % stops.length];
        input.dispatchEvent(new Event("input"));
        await new Promise(requestAnimationFrame);
        const canvases = [...document.querySelectorAll(".mpviz-explorer canvas")];
        blank += canvases.length === 0 || canvases.some(isBlank);
        seen.add(panel.querySelector("canvas").dataset.code);
    }
    return [blank, seen.size];
}"""
MAKERS = {
    "Explore one layout": explore.layout,
    "Compare two orders": explore.compare,
    "Explore one pipeline schedule": explore.schedule,
    "Explore one collective": explore.collective,
    "Explore ZeRO": explore.zero,
}
NAMES = {"slide grid": "grid", "nothing": None, "none": None}


class Panel:
    """One explorer on a page; given its kernel and its name there, compared with that too."""

    def __init__(self, locator, kernel=None, name=""):
        self.locator = locator
        self.page = locator.page
        self.kernel = kernel
        self.name = name

    def control(self, name):
        return self.locator.locator(f"[name={name}]")

    def sliders(self):
        names = self.locator.locator(".mpviz-control input").evaluate_all(
            "all => all.map(each => each.name)"
        )
        return [self.control(name) for name in names]

    def menus(self):
        names = self.locator.locator(".mpviz-control select").evaluate_all(
            "all => all.map(each => each.name)"
        )
        return [self.control(name) for name in names]

    def read(self):
        return self.locator.evaluate(READ)

    def pixels(self):
        """The picture as it is on the canvas, shape (height, width, 3)."""
        url = self.locator.locator("canvas").evaluate("canvas => canvas.toDataURL()")
        return decoded(base64.b64decode(url.partition(",")[2]))

    def blank_frames(self, name, stops, frames=300):
        """Move a slider at each frame; count the frames with a blank view, and the pictures."""
        return self.locator.evaluate(FRAMES, [name, list(stops), frames])

    def settled(self, *, fits=None):
        """Wait until the page shows what its controls say; return what it shows.

        ``fits``: whether a picture is expected, or an explanation; None for either.
        """

        def check():
            shown = self.read()
            agrees(shown, fits)
            if self.kernel:
                held = self.kernel.evaluate(f"{self.name}.settings")
                assert settings_of(shown) == {name: held[name] for name in settings_of(shown)}
                assert shown["code"] == self.kernel.evaluate(f"repr({self.name})")
            return shown

        shown = eventually(check, self.page)
        if shown["line"]:  # the picture is that of the controls, not of the last good ones
            looks_like(self.pixels(), made(shown["title"], settings_of(shown)).picture)
        return shown


# Of 255, between the page's painter and matplotlib's: on the whole, and of a patch of 4 × 4 pixels.
# They differ in how soft an edge is; a symbol in place of another one is a patch of 100.
WHOLE, PATCH = 1.5, 40


def looks_like(seen, picture):
    """Assert that pixels, shape (height, width, 3), are those that matplotlib draws."""
    whole, patch = difference(seen, picture)
    assert whole < WHOLE
    assert patch < PATCH


def difference(seen, picture):
    """Return the mean difference, and the largest of a patch."""
    width, height = picture.shown_size
    sharpness = round(seen.shape[1] / width)
    # A page has whole pixels, and matplotlib's first is at the bottom: a scene that ends with one.
    whole = replace(picture.scene, width=width * 72 / 96, height=height * 72 / 96)
    figure = Picture(whole, "").figure
    figure.dpi = 96 * sharpness
    figure.canvas.draw()
    drawn = np.asarray(figure.canvas.buffer_rgba())[..., :3]
    apart = seen.astype(float) - drawn
    down, across = apart.shape[0] // 4, apart.shape[1] // 4
    patches = apart[: 4 * down, : 4 * across].reshape(down, 4, across, 4, 3).mean((1, 3))
    return np.abs(apart).mean(), np.abs(patches).max()


def decoded(png):
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGB"))


def settings_of(shown):
    return {name: value_of(text) for name, text in shown["controls"]}


def value_of(text):
    """Return the value behind a control's text: '2,048', '7.5', 'none', 'dp: the same piece, …'."""
    if text in PRESETS:
        return text
    word = text.partition(":")[0].partition(" (")[0]
    digits = word.replace(",", "")
    if digits.replace(".", "", 1).isdigit():
        return float(digits) if "." in digits else int(digits)
    return NAMES.get(word, word)


def made(title, settings):
    """Make the explorer that stands at these settings, or return why there is none."""
    return _made(title, frozenset(settings.items() - {("preset", settings.get("preset"))}))


@cache
def _made(title, settings):
    make = MAKERS[title]
    try:
        return make(**dict(settings))
    except ValueError as error:
        return str(error)


@cache
def brought_back(code):
    """Make the explorer of a line that a reader has copied."""
    return eval(code, {"explore": explore})


def agrees(shown, fits=None):
    """Assert that all that is shown belongs together."""
    expected = made(shown["title"], settings_of(shown))
    drawn = brought_back(shown["code"])
    assert shown["alt"] == drawn.picture.text
    if isinstance(expected, str):
        assert not fits
        assert shown["status"] == f"{expected}."
        assert shown["buttons"]
        assert shown["line"] == ""
    else:
        assert fits in (None, True)
        assert shown["code"] == shown["line"] == repr(expected)
        assert shown["status"] == str(layout_of(expected))
        assert shown["buttons"] == ["Copy"]
    assert shown["table"] == [list(row) for row in table_of(drawn)]


def layout_of(explorer):
    return explorer.value[0] if isinstance(explorer.value, tuple) else explorer.value


def table_of(explorer):
    if isinstance(explorer.value, tuple):
        return words.comparison(*explorer.value)
    return words.table(explorer.value, MODELS[explorer.model])
