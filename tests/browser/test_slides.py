"""A lesson as a lecture: with RISE in JupyterLab, and as the page that nbconvert writes."""

import re
import shutil
import subprocess
import sys

import nbformat
import pytest
from browser.conftest import SLIDERS
from browser.pages import eventually, open_lesson, run_all, wait_for_idle
from browser.servers import ROOT
from nbformat.reader import NotJSONError
from playwright.sync_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]
LESSONS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def slides_of(cells):
    """Count the slides, each with its subslides, that the cells' metadata ask for."""
    return sum(cell.metadata.slideshow.slide_type == "slide" for cell in cells)


def is_stored(path):
    try:
        cells = nbformat.read(path, as_version=4).cells
    except NotJSONError as error:
        raise AssertionError("JupyterLab is just writing it") from error
    assert any(cell.get("outputs") for cell in cells)


def test_rise_shows_every_section_and_explorers_as_still_pictures(lab, page):
    name = "lecture.ipynb"
    shutil.copy(lab.folder / "notebooks" / SLIDERS, lab.folder / "notebooks" / name)
    cells = nbformat.read(lab.folder / "notebooks" / name, as_version=4).cells
    open_lesson(page, lab, name)
    run_all(page, sum(cell.cell_type == "code" for cell in cells))
    wait_for_idle(page, seconds=10)
    panels = page.locator(".jp-Notebook .mpviz-explorer")
    panels.first.wait_for(timeout=30_000)
    explorers = panels.count()
    pictures = page.locator(".jp-Notebook .jp-OutputArea-output img").count()
    page.keyboard.press("Control+s")
    eventually(lambda: is_stored(lab.folder / "notebooks" / name), page)

    page.locator('[data-command="RISE:preview"]').click()
    deck = page.frame_locator("iframe")
    sections = deck.locator(".reveal .slides > section")
    expect(sections).to_have_count(slides_of(cells), timeout=60_000)
    stills = deck.locator(".jp-OutputArea-output img")
    expect(stills).to_have_count(pictures + explorers, timeout=30_000)
    expect(deck.locator(".mpviz-explorer")).to_have_count(0)
    expect(sections.first.locator("h1")).to_contain_text("Move the sliders")


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    """Write all lessons as slides; return the folder of the pages."""
    folder = tmp_path_factory.mktemp("slides")
    command = [sys.executable, "-m", "nbconvert", "--to", "slides", f"--output-dir={folder}"]
    subprocess.run([*command, *LESSONS], check=True, capture_output=True, timeout=100)
    return folder


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_nbconvert_writes_every_section_as_a_slide(lesson, slides):
    text = (slides / f"{lesson.stem}.slides.html").read_text(encoding="utf-8")
    cells = nbformat.read(lesson, as_version=4).cells
    # A slide is a section that holds a section for each of its subslides.
    assert len(re.findall(r"<section>\s*<section>", text)) == slides_of(cells)
    pictures = sum(
        any(mime.startswith("image/") for mime in output.get("data", {}))
        for cell in cells
        for output in cell.get("outputs", [])
    )
    assert text.count('src="data:image/png;base64,') + text.count("<svg") >= pictures > 0
    assert re.search(r"https://[\w./]+/reveal\.js@", text)  # so it is no lecture without network
