"""The lesson with the explorers elsewhere than in JupyterLab: as a Voilà page, in Notebook 7."""

import nbformat
import pytest
from browser.conftest import SLIDERS
from browser.pages import OWN_ERROR_OF_NOTEBOOK_7, hosts, run_in_notebook_7, run_in_voila
from browser.panels import Panel
from browser.servers import ROOT

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]


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


def test_explorers_move_in_notebook_7(notebook_7, page):
    run_in_notebook_7(page, notebook_7, SLIDERS, code_cells(SLIDERS))
    move_a_slider(page)
    assert set(page.errors) <= {OWN_ERROR_OF_NOTEBOOK_7}
    assert hosts(page) == {"localhost"}


def test_explorers_move_on_a_voila_page(voila, page):
    run_in_voila(page, voila, SLIDERS, code_cells(SLIDERS))
    move_a_slider(page)
    assert page.errors == []
    elsewhere = [url for url in page.asked if url.hostname not in ("localhost", None)]
    assert all("fontawesome" in url.path for url in elsewhere)


def code_cells(name):
    cells = nbformat.read(ROOT / "notebooks" / name, as_version=4).cells
    return sum(cell.cell_type == "code" for cell in cells)
