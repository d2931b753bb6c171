"""An explorer among widgets in each front end: in a box, observed, linked both ways, twice."""

import nbformat
import pytest
from browser import kernels, pages
from browser.pages import eventually
from browser.panels import Panel

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

CELLS = (
    """
from ipywidgets import IntSlider, VBox, interact, link
from mpviz import ParallelLayout, draw, explore, presets

explorer, mine, seen = explore.layout(presets.SLIDE), IntSlider(min=1, max=8), []
link((explorer, "tp"), (mine, "value"))
explorer.observe(lambda change: seen.append(change.new.tp), "value")
VBox([mine, explorer])""",
    "explorer",
    """
@interact(tp=(1, 8))
def plain(tp=2):
    return draw.grid(ParallelLayout(nodes=2, tp=tp, pp=4))
None""",
)


FRONTENDS = {
    "lab": pages.run_in_jupyterlab,
    "notebook_7": pages.run_in_notebook_7,
    "voila": pages.run_in_voila,
}


@pytest.fixture(scope="module", params=FRONTENDS)
def page(request, chromium):
    """Run a notebook of these cells in a front end, and yield its page, with `.kernel`."""
    server = request.getfixturevalue(request.param)
    spec = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": spec})
    notebook.cells = [nbformat.v4.new_code_cell(source.strip()) for source in CELLS]
    name = "own_sliders.ipynb"
    nbformat.write(notebook, server.folder / "notebooks" / name)
    with pages.tab(chromium) as page:
        FRONTENDS[request.param](page, server, name, len(CELLS))
        page.locator(".mpviz-explorer").nth(1).wait_for(timeout=10_000)
        with kernels.kernel_of(server) as page.kernel:
            yield page
        assert set(page.errors) <= {pages.OWN_ERROR_OF_NOTEBOOK_7}


@pytest.fixture
def both(page):
    """Move the explorer to tp 2 from its kernel, and return its two views there."""
    views = [Panel(view, page.kernel, "explorer") for view in page.locator(".mpviz-explorer").all()]
    assert len(views) == 2
    page.kernel.evaluate("[explorer.set(tp=2), seen.clear()]")
    for view in views:
        eventually(lambda view=view: stands(view, "2"), page)
    return views


def drag_a_step(page, number):
    """Drag a slider of ipywidgets from 1 to 8 one step to the right.

    With the mouse: Notebook 7 keeps the arrow keys from it.
    """
    handle, track = (page.locator(f".noUi-{part}").nth(number) for part in ("handle", "base"))
    handle.scroll_into_view_if_needed()
    box, step = handle.bounding_box(), track.bounding_box()["width"] / 7
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + step, y, steps=4)
    page.mouse.up()


def stands(view, tp):
    assert dict(view.settled()["controls"])["tp"] == tp


def test_a_slider_of_ipywidgets_moves_both_views_and_the_observer(page, both):
    drag_a_step(page, 0)
    for view in both:
        eventually(lambda view=view: stands(view, "3"), page)
        assert "cannot be split into tp=3" in view.read()["status"]
    drag_a_step(page, 0)
    for view in both:
        eventually(lambda view=view: stands(view, "4"), page)
        assert "tp=4" in view.settled(fits=True)["code"]
    assert page.kernel.evaluate("seen") == [4]


def test_a_view_moves_the_slider_of_ipywidgets_and_the_other_view(page, both):
    both[1].control("tp").focus()
    page.keyboard.press("ArrowLeft")
    readout = page.locator(".widget-readout").first
    eventually(lambda: says(readout, "1"), page)
    eventually(lambda: stands(both[0], "1"), page)
    assert both[1].settled(fits=True)["focus"] == "tp"
    assert page.kernel.evaluate("[seen, mine.value]") == [[1], 1]


def says(readout, text):
    assert readout.inner_text() == text


def test_a_move_in_one_view_does_not_undo_a_move_in_the_other(page, both):
    for number, key in enumerate(["ArrowRight", "ArrowRight", "ArrowLeft", "ArrowLeft"]):
        both[number % 2].control("pp").focus()
        page.keyboard.press(key)
        shown = [view.settled() for view in both]
        assert page.kernel.evaluate("explorer.pp") == (5, 6, 5, 4)[number]
        eventually(lambda: same(both), page)
    assert "pp=4" in shown[0]["code"]


def same(both):
    one, other = (view.settled() for view in both)
    assert one["controls"] == other["controls"] and one["status"] == other["status"]


def test_no_frame_of_either_view_is_blank_while_one_moves(page, both):
    blank, pictures = both[0].blank_frames("tp", stops=(0, 1, 3))
    assert blank == 0 and pictures > 1
    for view in both:
        view.settled(fits=True)


def test_recorded_answers_stand_in_for_a_kernel_that_does_not_answer(page, both):
    view = both[0]
    page.kernel.evaluate("explorer.record(tp=(1, 2, 3, 4), pp=(4,)) and None")
    with page.kernel.suspended():
        view.control("tp").focus()
        for status in ("cannot be split into tp=3", "16 GPUs = tp 4 × dp 1 × pp 4"):
            page.keyboard.press("ArrowRight")
            eventually(lambda status=status: tells(view, status), page)
        assert "tp=4" in view.read()["code"]
    eventually(lambda: stands(view, "4"), page)
    eventually(lambda: stands(both[1], "4"), page)
    assert page.kernel.evaluate("explorer.tp") == 4


def test_where_nothing_is_recorded_a_kernel_that_does_not_answer_is_named(page, both):
    view = both[0]
    page.kernel.evaluate("explorer.set_trait('store', '')")
    with page.kernel.suspended():
        view.control("tp").focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        eventually(lambda: tells(view, "the kernel does not answer, and the recorded"), page)
        assert dict(view.read()["controls"])["tp"] == "4"
    for each in both:
        eventually(lambda each=each: stands(each, "4"), page)
        assert each.settled(fits=True)["status"] == "16 GPUs = tp 4 × dp 1 × pp 4"


def tells(view, status):
    assert status in view.read()["status"]


def test_interact_explains_what_does_not_fit_in_a_few_lines(page, both):
    drag_a_step(page, 1)
    said = page.locator("[data-mime-type='application/vnd.jupyter.stderr']")
    said.wait_for(timeout=5000)
    lines = said.inner_text().splitlines()
    assert lines[0].startswith("ValueError: 16 ranks cannot be split into tp=3 × pp=4")
    assert lines[1:] == ["at line 3: return draw.grid(ParallelLayout(nodes=2, tp=tp, pp=4))"]
    assert said.bounding_box()["height"] < 120
    drag_a_step(page, 1)
    page.locator(".jp-RenderedImage img").wait_for(timeout=5000)
    assert said.count() == 0
