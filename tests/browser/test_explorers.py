"""The explorers of lesson 03 in JupyterLab: whatever is moved, the page shows what mpviz says."""

import random

import pytest
from browser.pages import eventually, heap
from browser.panels import PRESETS, Panel, brought_back, settings_of

from mpviz.draw.canvas.scene import Box

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

# The names of the explorers, in the order of the lesson.
IN_LESSON = ("explorer", "four", "wide", "llama", "orders")
AT_FIRST = {
    "explorer": "preset='The slide: 16 GPUs', highlight=None, focus=None, view='grid'",
    "orders": "nodes=2, gpus_per_node=8, tp=2, pp=4, cp=1, ep=1,"
    " left='tp-cp-ep-dp-pp', right='tp-cp-ep-pp-dp', highlight='tp-pp'",
}
MEGABYTE = 1e6
# Nothing is to be kept of a picture. The kernel's memory moves in steps of 14, which the largest
# picture takes while it is drawn; two hundred pictures of the smallest kind would be 140.
KERNEL_MEGABYTES, PAGE_MEGABYTES = 40, 2


@pytest.fixture
def panel(sliders, request):
    """Return an explorer of the lesson, moved back from its kernel to where it stood at first."""
    name = getattr(request, "param", "explorer")
    panel = Panel(
        sliders.locator(".mpviz-explorer").nth(IN_LESSON.index(name)), sliders.kernel, name
    )
    panel.locator.evaluate("panel => panel.scrollIntoView()")
    back_to_start(panel)
    return panel


def back_to_start(panel):
    """Move the explorer from its kernel, and see the page follow."""
    panel.settled()  # a move of the page's that is still on its way would come after, and win
    name = panel.name
    panel.kernel.evaluate(f"{name}.set({AT_FIRST[name]})")
    stands = eval(f"dict({AT_FIRST[name]})")

    def follows():
        settings = settings_of(panel.read())
        assert stands == {name: settings[name] for name in stands}

    eventually(follows, panel.page)
    return panel.settled(fits=True)


@pytest.fixture(autouse=True)
def nothing_went_wrong(lab, sliders):
    """Hold after each test that neither the page nor the kernel has complained."""
    said = len(lab.log)
    yield
    assert sliders.errors == []
    assert [line for line in lab.log[said:].splitlines() if "rror" in line] == []


both = pytest.mark.parametrize("panel", ["explorer", "orders"], indirect=True)


# ---- one move after the other


def test_keys_move_every_slider_and_the_page_follows(panel):
    for slider in panel.sliders():
        name = slider.get_attribute("name")
        slider.focus()
        for key, step in (
            *(("ArrowRight", 1), ("ArrowLeft", -1), ("End", 1), ("PageDown", -1)),
            *(("Home", -1), ("PageUp", 1)),
        ):
            before = int(slider.input_value())
            panel.page.keyboard.press(key)
            assert (int(slider.input_value()) - before) * step > 0
            assert panel.settled()["focus"] == name
        back_to_start(panel)


def test_a_drag_moves_every_slider_and_the_page_follows_before_it_ends(panel):
    mouse = panel.page.mouse
    for slider in panel.sliders():
        box = slider.bounding_box()
        assert box["height"] >= 24  # CSS pixels: what WCAG asks of a target
        least, most = (int(slider.get_attribute(end)) for end in ("min", "max"))

        def to(share, box=box, thumb=16, **how):
            across = thumb / 2 + share * (box["width"] - thumb)
            mouse.move(box["x"] + across, box["y"] + box["height"] / 2, **how)

        to((int(slider.input_value()) - least) / (most - least))
        mouse.down()
        for share in (0.5, 1, 0):
            to(share, steps=4)
            assert abs(int(slider.input_value()) - least - share * (most - least)) <= 1
            panel.settled()
        mouse.up()
        assert panel.settled()["focus"] == slider.get_attribute("name")
        back_to_start(panel)


@both
def test_every_menu_is_followed_by_keys_and_by_mouse(panel):
    # The popup is the system's, and takes no clicks in a Chromium without a screen: the mouse
    # opens it, the keys choose in it; or the keys alone, in a menu that stays closed.
    for menu in panel.menus():
        # Sizes that have a name are never "your own".
        texts = [text for text in menu.locator("option").all_inner_texts() if text != "your own"]
        menu.focus()
        for key, text in (("Home", texts[0]), ("ArrowDown", texts[1]), ("End", texts[-1])):
            panel.page.keyboard.press(key)
            chosen(panel, menu, text)
        menu.click()
        panel.page.keyboard.press("ArrowUp")
        panel.page.keyboard.press("Enter")
        chosen(panel, menu, texts[-2])
        back_to_start(panel)


def chosen(panel, menu, text):
    shown, name = panel.settled(), menu.get_attribute("name")
    assert dict(shown["controls"])[name] == text
    assert shown["focus"] == name
    if text in PRESETS:
        assert shown["status"] == str(PRESETS[text].layout)


def test_a_click_on_a_gpu_puts_it_in_focus_and_one_beside_it_looks_at_all_again(panel):
    canvas = panel.locator.locator("canvas")
    canvas.scroll_into_view_if_needed()
    for view in ("grid", "cluster"):
        panel.kernel.evaluate(f"explorer.set(view={view!r})")
        for rank in (5, 15, 0, None, 9):
            # Of the picture that is there: with a focus, its title is another, and the same cells.
            scene = brought_back(panel.settled(fits=True)["code"]).picture.scene
            boxes = [box for box in scene.of(Box) if box.rank == rank and rank is not None]
            x, y = (boxes[0].x + 5, boxes[0].y + 20) if boxes else (2, 2)
            width, height = (canvas.bounding_box()[side] for side in ("width", "height"))
            at = {"x": x / scene.width * width, "y": y / scene.height * height}
            canvas.click(position=at)
            eventually(lambda rank=rank: looks_at(panel, rank), panel.page)
            panel.settled(fits=True)


def looks_at(panel, rank):
    assert settings_of(panel.read())["focus"] == rank


# ---- what does not fit


def test_sizes_that_do_not_fit_are_explained_and_the_picture_stays(panel):
    before, pixels = panel.read(), panel.pixels()
    panel.control("tp").focus()
    panel.page.keyboard.press("ArrowRight")
    shown = panel.settled(fits=False)
    assert "16 ranks cannot be split into tp=3 × pp=4" in shown["status"]
    same = ("code", "alt", "table")
    assert {name: shown[name] for name in same} == {name: before[name] for name in same}
    assert (panel.pixels() == pixels).all()


def test_every_button_brings_a_picture_and_keeps_the_keyboard_in_the_controls(panel):
    panel.kernel.evaluate("explorer.set(tp=3)")
    buttons = eventually(lambda: offered(panel), panel.page)
    assert len(buttons) > 2
    for text in buttons:
        panel.locator.get_by_role("button", name=text, exact=True).click()
        assert panel.settled(fits=True)["focus"]
        back_to_start(panel)
        panel.kernel.evaluate("explorer.set(tp=3)")
        eventually(lambda: offered(panel), panel.page)


def offered(panel):
    shown = panel.settled()
    assert shown["line"] == ""
    return shown["buttons"]


# ---- all at once

MOVE = """async (panel, moves) => {
    const pictures = new Set();
    const canvas = panel.querySelector("canvas");
    const watch = new MutationObserver(() => pictures.add(canvas.dataset.code));
    watch.observe(canvas, {attributeFilter: ["data-code"]});
    for (const [name, share, pause] of moves) {
        const input = panel.querySelector(`[name=${name}]`);
        const ways = panel.querySelectorAll(".mpviz-problem button");
        if (name === "button") {
            ways[Math.floor(share * ways.length)]?.click();
        } else if (input.type === "range") {
            input.value = Math.round(+input.min + share * (input.max - input.min));
            input.dispatchEvent(new Event("input", {bubbles: true}));
        } else {
            input.selectedIndex = Math.floor(share * input.options.length);
            input.dispatchEvent(new Event("change", {bubbles: true}));
        }
        await new Promise(done => setTimeout(done, pause));
    }
    watch.disconnect();
    return pictures.size;
}"""


def test_two_hundred_random_moves_end_in_their_picture_with_memory_flat(panel):
    chance = random.Random(3)
    controls = [name for name, _ in panel.read()["controls"]]
    # As many clicks on what would fit as moves, or hardly anything would be drawn.
    names = [*controls, *["button"] * len(controls)]
    moves = [[chance.choice(names), chance.random(), 30 * chance.random()] for _ in range(200)]

    panel.locator.evaluate(MOVE, moves)  # once before, so that the same sizes have been there
    back_to_start(panel)
    before = memory(panel)
    drawn = panel.locator.evaluate(MOVE, moves)
    shown = panel.settled()
    panel.page.wait_for_timeout(300)
    assert panel.read() == shown  # nothing came late
    back_to_start(panel)
    after = memory(panel)

    assert drawn > 3  # how many, the machine decides
    grown = {name: (after[name] - before[name]) / MEGABYTE for name in before}
    assert grown["page"] < PAGE_MEGABYTES
    assert grown["kernel"] < KERNEL_MEGABYTES


def test_a_cell_and_the_page_may_move_the_explorer_at_once(panel):
    # JupyterLab has the kernel answer pages in another thread than the one that runs cells.
    chance = random.Random(4)
    controls = [name for name, _ in panel.read()["controls"]]
    for _ in range(4):
        moves = [[chance.choice(controls), chance.random(), 5] for _ in range(20)]
        panel.locator.evaluate(MOVE, moves)
        panel.kernel.evaluate(f"explorer.set({AT_FIRST['explorer']})")
        panel.settled()


def memory(panel):
    """Return the bytes in use of the kernel and of the page, both without their garbage."""
    return {"kernel": panel.kernel.memory(), "page": heap(panel.page)}
