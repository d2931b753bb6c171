"""What `save` writes, opened as a file in a browser without a network: it moves, and says why not.

What is expected comes from the controls alone, as with a kernel: whatever they stand at, the page
must show what this process draws for it.
"""

import base64
import contextlib
import gzip

import pytest
from axe_playwright_python.sync_playwright import Axe
from browser.pages import SCREENSHOTS, eventually
from browser.panels import Panel, looks_like, settings_of, value_of
from steps import recorded_events

from mpviz import explore, presets
from mpviz.draw.canvas.scene import Box, Raster

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

MAKERS = {
    "layout": explore.layout,
    "compare": explore.compare,
    "schedule": explore.schedule,
    "collective": explore.collective,
    "zero": explore.zero,
    "step": lambda: explore.step(recorded_events(), presets.SLIDE.layout),
}
SET = """(control, value) => {
    control.value = value;
    control.dispatchEvent(new Event(control.tagName === "INPUT" ? "input" : "change"));
}"""
LARGE = {"nodes": (1024, 2048), "focus": (None, 0, 5000)}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Save each explorer once: the page's path by the explorer's name."""
    folder = tmp_path_factory.mktemp("saved")
    paths = {name: make().save(folder / f"{name}.html") for name, make in MAKERS.items()}
    paths["large"] = large().save(folder / "large.html", **LARGE)
    return paths


def large():
    return explore.layout(presets.LLAMA3_405B["8k"], focus=5000, view="cluster")


@contextlib.contextmanager
def opened(chromium, path, **how):
    """Open a file in a browser that has no network; yield its page, which remembers its errors."""
    how = {"viewport": {"width": 1400, "height": 900}} | how
    with chromium.new_context(offline=True, **how) as context:
        page = context.new_page()
        page.errors, page.asked = [], []
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.on("console", lambda said: said.type == "error" and page.errors.append(said.text))
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(path.as_uri())
        yield page
        assert page.errors == []
        allowed = (path.as_uri(), "data:", "blob:")
        assert [url for url in page.asked if not url.startswith(allowed)] == []


def expected(name, panel):
    """The explorer that stands where the controls of the page are."""
    other = large() if name == "large" else MAKERS[name]()
    other.set(**settings_of(panel.read()) if name != "schedule" else of_schedule(panel))
    return other


def of_schedule(panel):
    titles = {"GPipe": "gpipe", "1F1B": "1f1b", "interleaved 1F1B": "interleaved"}
    titles |= {"zero bubble, ZB-H1": "zb-h1", "zero bubble, ZB-V": "zb-v"}
    return {at: titles.get(text, value_of(text)) for at, text in panel.read()["controls"]}


def agrees(name, panel):
    other, shown = expected(name, panel), panel.read()
    assert shown["status"].startswith(other.problem or other.shown["summary"])
    if not other.problem:
        assert shown["code"] == repr(other)
        assert shown["alt"] == other.picture.text
        assert shown["table"] == other.shown["table"]
        looks_like(panel.pixels(), other.picture)
    return shown


@pytest.mark.parametrize("name", [*MAKERS, "large"])
def test_every_control_moves_picture_and_words(chromium, saved, name):
    with opened(chromium, saved[name]) as page:
        panel = Panel(page.locator(".mpviz-explorer"))
        panel.locator.wait_for(timeout=10_000)
        agrees(name, panel)
        for control in [*panel.sliders(), *panel.menus()]:
            start, pictures, words = control.input_value(), set(), set()
            control.focus()
            for key in ("ArrowRight", "End", "ArrowLeft", "Home"):
                page.keyboard.press(key)
                shown = eventually(lambda: agrees(name, panel), page)
                pictures.add(panel.pixels().tobytes())
                words.add(shown["code"] + str(shown["table"]))
            assert len(pictures) > 1 and len(words) > 1, control
            control.evaluate(SET, start)
            eventually(lambda: agrees(name, panel), page)


@pytest.mark.parametrize("name", [*MAKERS, "large"])
def test_a_sharp_screen_shows_the_same_picture(chromium, saved, name):
    with opened(chromium, saved[name], device_scale_factor=2) as page:
        panel = Panel(page.locator(".mpviz-explorer"))
        panel.locator.wait_for(timeout=10_000)
        agrees(name, panel)
        panel.sliders()[0].focus()
        page.keyboard.press("End")
        eventually(lambda: agrees(name, panel), page)


def test_what_does_not_fit_is_explained_and_each_way_out_ends_it(chromium, saved):
    with opened(chromium, saved["layout"]) as page:
        panel = Panel(page.locator(".mpviz-explorer"))
        before = panel.read()
        for name in ("tp", "pp"):
            panel.control(name).focus()
            page.keyboard.press("End")  # tp 8 × pp 8 on 16 GPUs
        shown = eventually(lambda: explained(panel), page)
        assert "cannot be split into tp=8 × pp=8" in shown["status"]
        assert (shown["alt"], shown["code"]) == (before["alt"], before["code"])
        for at in range(len(shown["buttons"])):
            panel.locator.locator(".mpviz-message button").nth(at).click()
            eventually(lambda: agrees("layout", panel), page)
            assert panel.read()["buttons"] == ["Copy"]
            for name in ("tp", "pp"):
                panel.control(name).focus()
                page.keyboard.press("End")
            eventually(lambda: explained(panel), page)


def explained(panel):
    shown = panel.read()
    assert shown["line"] == ""
    return shown


@pytest.mark.parametrize("sharpness", [1, 2])
def test_a_click_on_a_gpu_that_is_recorded_looks_at_it_and_on_another_says_what_is(
    chromium, tmp_path, sharpness
):
    path = explore.layout().save(tmp_path / "explore.html", focus=(None, 3, 7))
    with opened(chromium, path, device_scale_factor=sharpness) as page:
        panel = Panel(page.locator(".mpviz-explorer"))
        for rank, said in ((3, None), (5, "focus 5 is not recorded on this page; the nearest is")):
            scene = expected("layout", panel).picture.scene
            (box,) = (box for box in scene.of(Box) if box.rank == rank)
            click(panel, scene, box.x + 5, box.y + 20)
            if said:
                shown = eventually(lambda: explained(panel), page)
                assert shown["status"] == f"{said} 3 or 7."
                assert shown["buttons"][:2] == ["focus = 3", "focus = 7"]
                panel.locator.get_by_role("button", name="focus = 7", exact=True).click()
            eventually(lambda: agrees("layout", panel), page)
        assert dict(panel.read()["controls"])["focus"] == "7"


def test_a_click_on_a_raster_finds_its_rank(chromium, saved):
    with opened(chromium, saved["large"]) as page:
        panel = Panel(page.locator(".mpviz-explorer"))
        scene = large().picture.scene
        (raster,) = scene.of(Raster)
        row, column = 40, 31
        assert (rank := int(raster.ranks[row, column])) > 300
        rows, columns = raster.ranks.shape
        x = raster.x + (column + 0.5) / columns * raster.width
        y = raster.y + (row + 0.5) / rows * raster.height
        click(panel, scene, x, y)
        shown = eventually(lambda: explained(panel), page)
        assert shown["status"].startswith(f"focus {rank} is not recorded on this page")


def click(panel, scene, x, y):
    canvas = panel.locator.locator("canvas")
    canvas.scroll_into_view_if_needed()
    width, height = (canvas.bounding_box()[side] for side in ("width", "height"))
    canvas.click(position={"x": x / scene.width * width, "y": y / scene.height * height})


# ---- the film


def test_play_moves_time_to_its_end_and_pause_stops_it(chromium, saved):
    with opened(chromium, saved["schedule"]) as page:
        panel = Panel(page.locator(".mpviz-explorer"))
        panel.locator.get_by_role("combobox", name="speed").select_option("4 ×")
        button = panel.locator.locator(".mpviz-player button")
        assert button.inner_text() == "▶ Play"
        button.click()
        eventually(lambda: stands(panel, "12"), page)
        button.click()
        assert button.inner_text() == "▶ Play"
        there = panel.read()
        page.wait_for_timeout(300)
        assert panel.read() == there
        agrees("schedule", panel)
        button.click()
        eventually(lambda: stands(panel, "100"), page)
        assert button.inner_text() == "▶ Play"
        agrees("schedule", panel)


def stands(panel, time_shown):
    assert dict(panel.read()["controls"])["time"] == time_shown


def test_a_film_begins_with_the_first_step_and_ends_with_the_last(chromium, tmp_path):
    path = explore.collective(ranks=2, step=2).save(tmp_path / "film.html")
    with opened(chromium, path) as page:
        panel = Panel(page.locator(".mpviz-explorer"))
        panel.locator.get_by_role("combobox", name="speed").select_option("4 ×")
        button = panel.locator.locator(".mpviz-player button")
        panel.locator.evaluate(
            """panel => {
                window.seen = [];
                const step = panel.querySelector("[name=step]");
                step.addEventListener("input", () => window.seen.push(step.value));
            }"""
        )
        button.click()
        eventually(lambda: ended(page, button), page)
        assert "after step 2 of 2" in panel.read()["status"]
        panel.control("ranks").focus()
        page.keyboard.press("ArrowRight")
        page.evaluate("window.seen.length = 0")
        assert panel.control("step").get_attribute("max") == "4"
        button.click()
        eventually(lambda: ended(page, button, ["3", "4"]), page)
        panel.control("ranks").focus()
        page.keyboard.press("Home")
        assert dict(panel.read()["controls"])["step"] == "0"
        assert "nothing to send" in panel.read()["alt"]


def ended(page, button, seen=("0", "1", "2")):
    assert page.evaluate("window.seen") == [*seen]
    assert button.inner_text() == "▶ Play"


def test_who_wants_less_motion_goes_step_by_step(chromium, saved):
    with opened(chromium, saved["schedule"], reduced_motion="reduce") as page:
        panel = Panel(page.locator(".mpviz-explorer"))
        button = panel.locator.get_by_role("button", name="Step", exact=True)
        for time_shown in ("0", "4", "8"):
            button.click()
            eventually(lambda at=time_shown: stands(panel, at), page)
        page.wait_for_timeout(300)
        stands(panel, "8")
        assert not panel.locator.get_by_role("combobox", name="speed").is_visible()


# ---- everybody


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_grave_and_the_page_is_kept_to_look_at(chromium, saved, name, scheme):
    with opened(chromium, saved[name], color_scheme=scheme) as page:
        page.locator(".mpviz-explorer").wait_for(timeout=10_000)
        SCREENSHOTS.mkdir(exist_ok=True)
        page.screenshot(path=SCREENSHOTS / f"saved-{name}-{scheme}.png", full_page=True)
        found = Axe().run(page).response["violations"]
        assert [(rule["id"], rule["nodes"][0]["html"]) for rule in found] == []


@pytest.mark.parametrize("name", MAKERS)
def test_a_narrow_window_is_never_scrolled_sideways(chromium, saved, name):
    with opened(chromium, saved[name], viewport={"width": 320, "height": 480}) as page:
        page.locator(".mpviz-explorer").wait_for(timeout=10_000)
        wide = "() => document.documentElement.scrollWidth"
        assert page.evaluate(wide) <= 320


def test_no_frame_is_blank_while_it_moves(chromium, saved):
    with opened(chromium, saved["layout"]) as page:
        page.locator("canvas").wait_for(timeout=10_000)
        blank, pictures = Panel(page.locator(".mpviz-explorer")).blank_frames("tp", range(4))
        assert blank == 0 and pictures > 2


def test_two_pages_in_one_document_both_move(chromium, saved, tmp_path):
    first, second = (saved[name].read_text(encoding="utf-8") for name in ("zero", "step"))
    both = tmp_path / "both.html"
    both.write_text(first.replace("</body>", second.partition("<body class=")[2].partition(">")[2]))
    with opened(chromium, both) as page:
        for number, (name, moved) in enumerate((("zero", "stage"), ("step", "time"))):
            panel = Panel(page.locator(".mpviz-explorer").nth(number))
            panel.locator.wait_for(timeout=10_000)
            panel.control(moved).focus()
            page.keyboard.press("End")
            eventually(lambda p=panel, n=name: agrees(n, p), page)
        assert page.locator(".mpviz-notice").count() == 0


# ---- what is missing


def altered(path, tmp_path, change):
    other = tmp_path / "altered.html"
    text = path.read_text(encoding="utf-8")
    assert change(text) != text
    other.write_text(change(text), encoding="utf-8")
    return other


def edited(text, answers):
    return f"{text[: text.index(STORE)]}{STORE}{base64.b64encode(gzip.compress(answers)).decode()}"


STORE = '<script type="text/plain" class="mpviz-store">'


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: edited(text, b""), "are not those of an explorer"),
        (lambda text: edited(text, b"{}"), "are not those of an explorer"),
        (lambda text: edited(text, b'{"kept": {"tp": [1, 2]}}'), "are not those of an explorer"),
        (lambda text: text[: text.index(STORE)], "the recorded answers are missing from this page"),
        (lambda text: text[: text.index(STORE) + 5000], "are damaged or cut off"),
        (
            lambda text: text.replace("globalThis.DecompressionStream", "globalThis.Nothing"),
            "this browser cannot unpack the recorded answers (DecompressionStream)",
        ),
    ],
)
def test_without_its_answers_a_page_says_so_and_keeps_picture_and_text(
    chromium, saved, tmp_path, change, said
):
    with opened(chromium, altered(saved["layout"], tmp_path, change)) as page:
        notice = page.locator(".mpviz-notice")
        notice.get_by_text(said).wait_for(timeout=5000)
        assert notice.inner_text().startswith("The sliders are missing: ")
        stays(page)


def test_without_javascript_picture_and_text_stay(chromium, saved):
    with opened(chromium, saved["layout"], java_script_enabled=False) as page:
        assert page.get_by_text("The sliders need JavaScript").is_visible()
        assert page.get_by_text("model₁ tp 0 ★₁ 0").is_visible()
        assert page.get_by_role("img", name="16 GPUs = tp 2 × dp 2 × pp 4").is_visible()


def stays(page):
    image = page.locator("img")
    assert image.evaluate("image => image.naturalWidth") > 400
    assert "★₁ 0  ⊕₁ 4" in page.locator("pre").inner_text()
    assert page.locator(".mpviz-explorer").count() == 0
