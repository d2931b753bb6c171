"""Every lesson, run from its menu by a reader who has just opened it."""

import json
from urllib.request import urlopen

import nbformat
import pytest
from browser.pages import (
    OUTPUT,
    SCREENSHOTS,
    TROUBLE,
    eventually,
    hosts,
    open_lesson,
    run_all,
    wait_for_idle,
)
from browser.servers import ROOT

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]
LESSONS = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))


def test_make_lab_serves_the_first_lesson(lab):
    with urlopen(lab.address("lab"), timeout=10) as answer:
        assert answer.status == 200
    with urlopen(lab.address("api/contents/00_start_here.ipynb"), timeout=10) as answer:
        assert json.load(answer)["type"] == "notebook"


@pytest.mark.parametrize("name", LESSONS)
def test_lesson_runs_and_shows_its_pictures(lab, page, name):
    stored = nbformat.read(ROOT / "notebooks" / name, as_version=4)
    code = [cell for cell in stored.cells if cell.cell_type == "code"]
    open_lesson(page, lab, name)
    run_all(page, len(code))
    wait_for_idle(page, seconds=10)
    pictures = eventually(lambda: shown_pictures(page), page)
    keep_screenshots(page, name)

    assert page.locator(TROUBLE).all_inner_texts() == []
    assert len(pictures) == sum(stored_pictures(cell) for cell in code)
    for picture in pictures:
        assert picture["width"] <= picture["room"]
    assert page.errors == []
    assert hosts(page) == {"localhost"}


def stored_pictures(cell):
    bundles = [output.get("data", {}) for output in cell.outputs]
    return sum(any(mime.startswith("image/") for mime in bundle) for bundle in bundles)


def shown_pictures(page):
    """Measure each picture once it is there: the width shown, and the room for it.

    An explorer paints its own on a canvas, where the stored notebook holds a PNG.
    """
    pictures = page.locator(f"{OUTPUT} img, {OUTPUT} .mpviz-picture canvas").evaluate_all(
        """async pictures => {
            await Promise.allSettled(pictures.map(picture => picture.decode?.()));
            return pictures.map(picture => ({
                there: picture.dataset.code ? picture.width > 0 : picture.naturalWidth > 0,
                width: picture.getBoundingClientRect().width,
                room: picture.closest(".jp-OutputArea-output").getBoundingClientRect().width,
            }));
        }"""
    )
    assert all(picture["there"] for picture in pictures)
    return pictures


def keep_screenshots(page, name):
    """Page through the lesson in a tall window, for a person to look at."""
    page.set_viewport_size({"width": 1400, "height": 1800})
    panel = page.locator(".jp-Notebook .jp-WindowedPanel-outer")
    length, height = panel.evaluate("panel => [panel.scrollHeight, panel.clientHeight]")
    for number, top in enumerate(range(0, length, height)):
        panel.evaluate("(panel, top) => panel.scrollTo(0, top)", top)
        panel.screenshot(path=SCREENSHOTS / f"{name}-{number}.png")
