"""The explorers for who cannot see them, in both themes, and pictures of them to look at."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from browser.pages import OUTPUT, SCREENSHOTS, choose, eventually
from browser.panels import Panel

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

NAMES = ("explorer", "four", "wide", "llama", "orders")
THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}


@pytest.fixture(params=THEMES)
def theme(sliders, request):
    """Switch JupyterLab to a theme, and back afterwards."""
    wear(sliders, request.param)
    yield request.param
    wear(sliders, "light")


def wear(page, theme):
    choose(page, "Settings", "Theme", THEMES[theme])
    body = page.locator(f"body[data-jp-theme-name='{THEMES[theme]}']")
    body.wait_for(state="attached", timeout=10_000)
    page.locator("#jupyterlab-splash").wait_for(state="detached", timeout=10_000)


@pytest.fixture
def unfitting(sliders):
    """Leave the first explorer with an explanation, and bring its picture back afterwards."""
    panel = Panel(sliders.locator(".mpviz-explorer").first, sliders.kernel, "explorer")
    sliders.kernel.evaluate("explorer.set(preset='The slide: 16 GPUs', tp=3)")
    eventually(lambda: explains(panel), sliders)
    yield panel
    sliders.kernel.evaluate("explorer.set(tp=2)")
    panel.settled(fits=True)


def explains(panel):
    assert "tp=3" in panel.settled()["status"]


def violations(page, **context):
    """Return what axe-core finds: a line for each rule, with the elements below."""
    found = Axe().run(page, context=context).response["violations"]
    return [
        f"{rule['impact']}: {rule['id']}: {rule['help']}\n"
        + "".join(f"    {node['target']} {node['html']:.200}\n" for node in rule["nodes"])
        for rule in found
    ]


def grave(found):
    return [each for each in found if each.startswith(("serious", "critical"))]


# JupyterLab shows a PNG without the "alt" of its metadata, and there is no other way to give one:
# https://github.com/jupyter/enhancement-proposals/issues/120
SHOWN_BY_JUPYTERLAB = ".jp-RenderedImage img"
# A slider of ipywidgets, which the lesson has beside an explorer, has no name.
SLIDER_OF_IPYWIDGETS = ".noUi-handle"


def test_axe_finds_nothing_grave_in_the_outputs_of_the_lesson(sliders, unfitting, theme):
    found = violations(
        sliders, include=[[OUTPUT]], exclude=[[SHOWN_BY_JUPYTERLAB], [SLIDER_OF_IPYWIDGETS]]
    )
    assert grave(found) == []


def test_axe_would_find_a_picture_without_its_text(sliders, unfitting):
    canvas = unfitting.locator.locator("canvas")
    text = canvas.get_attribute("aria-label")
    canvas.evaluate("canvas => canvas.removeAttribute('aria-label')")
    found = grave(violations(sliders, include=[[".mpviz-explorer"]]))
    canvas.evaluate("(canvas, text) => canvas.setAttribute('aria-label', text)", text)
    assert [each.splitlines()[0].split(": ")[1] for each in found] == ["role-img-alt"]


def test_what_jupyterlab_itself_violates_is_listed_apart(sliders):
    found = violations(sliders, exclude=[[".mpviz-explorer"]])
    SCREENSHOTS.mkdir(exist_ok=True)
    (SCREENSHOTS / "axe-jupyterlab.txt").write_text("\n".join(found))


def test_explorers_fit_their_window_and_are_kept_to_look_at(sliders, unfitting, theme):
    for width in (1400, 900):
        sliders.set_viewport_size({"width": width, "height": 1300})
        for at, name in enumerate(NAMES):
            panel = sliders.locator(".mpviz-explorer").nth(at)
            panel.scroll_into_view_if_needed()
            panel.screenshot(path=SCREENSHOTS / f"explorer-{theme}-{width}-{name}.png")
            needs, has = panel.evaluate("panel => [panel.scrollWidth, panel.clientWidth]")
            assert needs <= has
    sliders.set_viewport_size({"width": 1400, "height": 900})
