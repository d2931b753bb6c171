"""Chromium and its tabs, and what a reader does with a lesson in one."""

import re
import shutil
import time
from contextlib import contextmanager
from urllib.parse import urlsplit

from playwright.sync_api import expect, sync_playwright

from .servers import ROOT

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
ICONS = "https://cdn.jsdelivr.net/npm/@fortawesome/**"
# Notebook 7's shortcuts race with its settings: https://github.com/jupyter/notebook/issues/7862
OWN_ERROR_OF_NOTEBOOK_7 = "Cannot read properties of undefined (reading 'schema')"
SCREENSHOTS = ROOT / ".screenshots"
OUTPUT = ".jp-OutputArea-output"
TROUBLE = ", ".join(
    f"{OUTPUT}[data-mime-type='application/vnd.jupyter.{kind}']" for kind in ("error", "stderr")
)


def found_browser():
    """Return the path of the system's Chromium, or None."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


@contextmanager
def chromium(path):
    """Start it, until the block ends."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def tab(browser):
    """Open an empty tab that remembers what went wrong (`errors`) and what it asked for."""
    with browser.new_context(viewport={"width": 1400, "height": 900}) as context:
        page = context.new_page()
        page.errors, page.asked = [], []
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.on("console", lambda said: said.type == "error" and page.errors.append(said.text))
        page.on("request", lambda request: page.asked.append(urlsplit(request.url)))
        yield page


def heap(page):
    """Return the bytes in use of the page's JavaScript, without garbage."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    session.send("HeapProfiler.collectGarbage")
    metrics = session.send("Performance.getMetrics")["metrics"]
    session.detach()
    return next(each["value"] for each in metrics if each["name"] == "JSHeapUsedSize")


def hosts(page):
    """Name whom the page has asked for anything; data: and blob: are its own."""
    return {url.hostname for url in page.asked if url.scheme not in ("data", "blob")}


def open_lesson(page, lab, name):
    """Open a lesson in JupyterLab, in a workspace of its own, where no other is open."""
    page.goto(lab.address(f"lab/workspaces/{name.partition('.')[0]}/tree/{name}"))
    wait_for_idle(page, seconds=60)


def wait_for_idle(page, seconds):
    kernel = page.locator("#jp-bottom-panel").get_by_text("Python 3 (ipykernel) | Idle")
    expect(kernel).to_be_visible(timeout=1000 * seconds)


def run_all(page, cells, seconds=200):
    """Run all cells, and wait for the last, or for trouble, whichever comes first."""
    choose(page, "Run", "Run All Cells")
    done = page.locator(".jp-CodeCell").last.get_by_text(f"[{cells}]:", exact=True)
    done.or_(page.locator(TROUBLE)).first.wait_for(timeout=1000 * seconds)


def run_in_jupyterlab(page, server, name, cells):
    """Open a notebook in JupyterLab, and run it."""
    open_lesson(page, server, name)
    run_all(page, cells)
    wait_for_idle(page, seconds=10)


def run_in_notebook_7(page, server, name, cells):
    """Open a notebook in Notebook 7, and run it."""
    page.goto(server.address(f"notebooks/{name}"))
    idle = page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]")
    page.get_by_text("Python 3 (ipykernel)").wait_for(timeout=60_000)
    idle.wait_for(timeout=60_000)
    run_all(page, cells)
    idle.wait_for(timeout=60_000)


def run_in_voila(page, server, name, cells):
    """Open a notebook as a page of Voilà, which runs it first, and shows no cells."""
    # The template asks a distant host for icons, which nothing here needs.
    page.route(ICONS, lambda route: route.fulfill(content_type="text/css", body=""))
    page.goto(server.address(f"voila/render/{name}"))
    page.locator(".mpviz-explorer canvas").first.wait_for(timeout=60_000)


def choose(page, *menus):
    """Click through a menu of Jupyter's."""
    page.locator(".lm-MenuBar-item", has_text=exactly(menus[0])).click()
    for text in menus[1:]:
        page.locator(".lm-Menu-item", has_text=exactly(text)).click()


def exactly(text):
    return re.compile(f"^{re.escape(text)}$")


def eventually(check, page, seconds=10):
    """Repeat a check, which asserts, until it passes; then return what it returns."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return check()
        except AssertionError:
            if time.monotonic() > deadline:
                raise
        page.wait_for_timeout(10)
