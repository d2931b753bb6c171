"""The lesson with the explorers elsewhere than in JupyterLab: as a Voilà page, in Notebook 7."""

import pytest
from browser.conftest import SLIDERS
from browser.pages import choose, hosts
from browser.panels import Panel
from browser.servers import NOTEBOOK_7, VOILA, serving

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

# Its shortcuts race with its settings: https://github.com/jupyter/notebook/issues/7862
OWN_ERROR_OF_NOTEBOOK_7 = "Cannot read properties of undefined (reading 'schema')"


def move_a_slider(page):
    """See all explorers come up, and the picture of the first follow its slider to tp 1."""
    page.locator(".mpviz-explorer").nth(4).wait_for(timeout=60_000)
    panel = Panel(page.locator(".mpviz-explorer").first)
    panel.settled(fits=True)
    tp = panel.control("tp")
    tp.scroll_into_view_if_needed()
    tp.focus()
    page.keyboard.press("ArrowRight")
    assert "tp=3" in panel.settled(fits=False)["status"]
    page.keyboard.press("ArrowRight")
    shown = panel.settled(fits=True)
    assert "tp=4" in shown["code"] and shown["focus"] == "tp"


def test_explorers_move_in_notebook_7(chromium, page):
    with serving(NOTEBOOK_7) as server:
        page.goto(server.address(f"notebooks/{SLIDERS}"))
        idle = page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]")
        page.get_by_text("Python 3 (ipykernel)").wait_for(timeout=60_000)
        idle.wait_for(timeout=60_000)
        choose(page, "Run", "Run All Cells")
        page.locator(".mpviz-explorer").nth(4).wait_for(timeout=60_000)
        idle.wait_for(timeout=60_000)
        move_a_slider(page)
        assert set(page.errors) <= {OWN_ERROR_OF_NOTEBOOK_7}
        assert hosts(page) == {"localhost"}


def test_explorers_move_on_a_voila_page(chromium, page):
    # The template asks a distant host for icons, which the lesson does without.
    icons = "https://cdn.jsdelivr.net/npm/@fortawesome/**"
    page.route(icons, lambda route: route.fulfill(content_type="text/css", body=""))
    with serving(VOILA) as server:
        page.goto(server.address(f"voila/render/{SLIDERS}"))
        move_a_slider(page)
        assert page.errors == []
        elsewhere = [url for url in page.asked if url.hostname not in ("localhost", None)]
        assert all("fontawesome" in url.path for url in elsewhere)
