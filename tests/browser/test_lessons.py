"""Every lesson, run from its menu by a reader who has just opened it."""

import json
import re
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import nbformat
import pytest
from playwright.sync_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]
ROOT = Path(__file__).parents[2]
LESSONS = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))
OUTPUT = ".jp-OutputArea-output"
TROUBLE = ", ".join(
    f"{OUTPUT}[data-mime-type='application/vnd.jupyter.{kind}']" for kind in ("error", "stderr")
)


def test_make_lab_serves_the_first_lesson(lab):
    with urlopen(lab.address("lab"), timeout=10) as answer:
        assert answer.status == 200
    with urlopen(lab.address("api/contents/00_start_here.ipynb"), timeout=10) as answer:
        assert json.load(answer)["type"] == "notebook"


@pytest.mark.parametrize("name", LESSONS)
def test_lesson_runs_and_shows_its_pictures(lab, page, name):
    stored = nbformat.read(ROOT / "notebooks" / name, as_version=4)
    code = [cell for cell in stored.cells if cell.cell_type == "code"]
    asked = []
    page.on("request", lambda request: asked.append(urlsplit(request.url).hostname))

    # A workspace of its own: the lessons before this one stay closed.
    page.goto(lab.address(f"lab/workspaces/{name.partition('.')[0]}/tree/{name}"))
    kernel = page.locator("#jp-bottom-panel").get_by_text("Python 3 (ipykernel) | Idle")
    expect(kernel).to_be_visible(timeout=60_000)
    run_all(page)
    trouble = page.locator(TROUBLE)
    done = page.locator(".jp-CodeCell").last.get_by_text(f"[{len(code)}]:", exact=True)
    done.or_(trouble).first.wait_for(timeout=200_000)
    expect(kernel).to_be_visible(timeout=10_000)
    keep_screenshots(page, name)

    assert trouble.all_inner_texts() == []
    pictures = shown_pictures(page)
    assert len(pictures) == sum(stored_pictures(cell) for cell in code)
    for picture in pictures:
        assert picture["pixels"] > 0
        assert picture["width"] <= picture["room"]
    assert page.errors == []
    assert set(asked) == {"localhost"}


def run_all(page):
    page.locator(".lm-MenuBar-item", has_text=re.compile("^Run$")).click()
    page.locator(".lm-Menu-item", has_text=re.compile("^Run All Cells$")).click()


def stored_pictures(cell):
    bundles = [output.get("data", {}) for output in cell.outputs]
    return sum(any(mime.startswith("image/") for mime in bundle) for bundle in bundles)


def shown_pictures(page):
    """Measure each picture once it has loaded: its own pixels, the width shown, the room for it."""
    pictures = page.locator(f"{OUTPUT} img")
    return pictures.evaluate_all(
        """async images => {
            await Promise.allSettled(images.map(image => image.decode()));
            return images.map(image => ({
                pixels: image.naturalWidth * image.naturalHeight,
                width: image.getBoundingClientRect().width,
                room: image.closest(".jp-OutputArea-output").getBoundingClientRect().width,
            }));
        }"""
    )


def keep_screenshots(page, name):
    """Page through the lesson in a tall window, for a person to look at."""
    page.set_viewport_size({"width": 1400, "height": 1800})
    panel = page.locator(".jp-Notebook .jp-WindowedPanel-outer")
    length, height = panel.evaluate("panel => [panel.scrollHeight, panel.clientHeight]")
    for number, top in enumerate(range(0, length, height)):
        panel.evaluate("(panel, top) => panel.scrollTo(0, top)", top)
        panel.screenshot(path=ROOT / ".screenshots" / f"{name}-{number}.png")
