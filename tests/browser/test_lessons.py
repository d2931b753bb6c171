"""Every lesson in JupyterLab: with explorers, run from its menu; else as it is stored.

`make lessons` runs each and compares; what only a browser shows is how outputs look, and that an
explorer's page comes up beside its kernel.
"""

import json
import shutil
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


def code_of(name):
    cells = nbformat.read(ROOT / "notebooks" / name, as_version=4).cells
    return [cell for cell in cells if cell.cell_type == "code"]


def has_explorer(name):
    shown = [cell.source.splitlines()[-1] for cell in code_of(name)]
    return any(line.startswith(("explorer", "explore.")) for line in shown)


RUN = [name for name in LESSONS if name == LESSONS[0] or has_explorer(name)]


def test_make_lab_serves_the_first_lesson(lab):
    with urlopen(lab.address("lab"), timeout=10) as answer:
        assert answer.status == 200
    with urlopen(lab.address("api/contents/00_start_here.ipynb"), timeout=10) as answer:
        assert json.load(answer)["type"] == "notebook"


def test_the_first_lesson_and_those_with_explorers_are_run():
    assert {name[:2] for name in RUN} >= {"00", "03", "04", "06", "07"}


@pytest.mark.parametrize("name", RUN)
def test_lesson_runs_and_shows_its_pictures(lab, page, name):
    open_lesson(page, lab, name)
    run_all(page, len(code_of(name)))
    wait_for_idle(page, seconds=10)
    shows_its_pictures(page, name)


@pytest.mark.parametrize("name", sorted({*LESSONS} - {*RUN}))
def test_lesson_as_it_is_stored_shows_its_pictures(lab, page, name):
    shutil.copy(ROOT / "notebooks" / name, lab.folder / "notebooks" / f"stored_{name}")
    open_lesson(page, lab, f"stored_{name}")
    page.locator(f"{OUTPUT} img").first.wait_for(timeout=10_000)
    shows_its_pictures(page, name)


def shows_its_pictures(page, name):
    expected = sum(stored_pictures(cell) for cell in code_of(name))
    pictures = eventually(lambda: shown_pictures(page, expected), page)
    keep_screenshots(page, name)

    assert page.locator(TROUBLE).all_inner_texts() == []
    for picture in pictures:
        assert picture["width"] <= picture["room"]
    assert page.errors == []
    assert hosts(page) == {"localhost"}


def stored_pictures(cell):
    bundles = [output.get("data", {}) for output in cell.outputs]
    return sum(any(mime.startswith("image/") for mime in bundle) for bundle in bundles)


def shown_pictures(page, expected):
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
    assert len(pictures) == expected
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
