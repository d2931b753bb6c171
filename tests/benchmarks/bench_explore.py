"""From a key press to the new picture on the screen, in a real JupyterLab in Chromium.

    python tests/benchmarks/bench_explore.py [kernel] [saved] [memory]

kernel: the explorers at three sizes, and beside them what a lecturer would write without them:
`interact` around `plt.subplots`, once for 16 plain boxes with their texts, once for the very same
picture. Explorers and peers have a notebook each, so that no pyplot figure is left in the
explorers' kernel; in each, one key at a time, all subjects in turn, so that whatever else the
machine does slows all of them alike.

saved: what `save` writes of each explorer, without a kernel and without a network.

memory: of the kernel and of the page, while the first explorer makes 2,000 moves.

All three without an argument; they take five minutes.
"""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import NamedTuple

import nbformat
from playwright.sync_api import Browser, Locator, Page

sys.path.insert(0, str(Path(__file__).parents[1]))

from browser import kernels, pages, servers

from mpviz import explore

MOVES, WARM_UP = 30, 3
MEMORY_MOVES, LOOKS = 2_000, 4
PARTS = ("kernel", "saved", "memory")
PEER = """
import matplotlib.pyplot as plt
from ipywidgets import interact
from matplotlib.patches import Rectangle

SYMBOLS = "★⊕□⊠△⋈#○◆●■▲⊗◇☆▽"

def slide(tp=2):
    dp, pp = 4 // tp, 4
    figure, ax = plt.subplots(figsize=(5.3, 3.5))
    for rank in range(16):
        row, stage = rank % (tp * dp), rank // (tp * dp)
        piece = rank % tp + tp * stage
        ax.add_patch(Rectangle((stage, row), 0.9, 0.9, facecolor=f"C{piece}", edgecolor="black"))
        ax.text(stage + 0.06, row + 0.25, rank, fontsize=8)
        ax.text(stage + 0.45, row + 0.65, SYMBOLS[piece], fontsize=15, ha="center")
    for stage in range(pp):
        ax.text(stage + 0.45, -0.2, f"pp {stage}", ha="center")
    ax.set(xlim=(-0.1, 4), ylim=(4, -0.5), title=f"16 GPUs = tp {tp} × dp {dp} × pp {pp}")
    ax.axis("off")
    plt.show()

interact(slide, tp=(1, 2))
None
"""
SAME_PICTURE = """
from matplotlib.patches import FancyBboxPatch

from mpviz import ParallelLayout, draw
from mpviz.draw.canvas.scene import Box

def same(tp=2):
    scene = draw.grid(ParallelLayout(nodes=2, gpus_per_node=8, tp=tp, pp=4)).scene
    figure, ax = plt.subplots(figsize=(scene.width / 72, scene.height / 72), dpi=96)
    for item in scene.items:
        if isinstance(item, Box):
            at, style = (item.x, item.y), "round,pad=0,rounding_size=3"
            ax.add_patch(
                FancyBboxPatch(at, item.width, item.height, style, fc=item.face, ec=item.edge)
            )
        else:
            weight = "bold" if item.bold else "normal"
            ax.text(item.x, item.y, item.text, fontsize=item.size, color=item.color,
                    ha=item.align, va="center", weight=weight)
    ax.set(xlim=(0, scene.width), ylim=(scene.height, 0))
    ax.axis("off")
    plt.show()

interact(same, tp=(1, 2))
None
"""


class Subject(NamedTuple):
    """What is measured: a cell, the slider in its output, two keys in turn, and the aims."""

    name: str
    cell: str
    slider: str
    keys: tuple[str, str]
    aims: dict[str, float]


EXPLORERS = (
    Subject(
        "explorer, 16 GPUs",
        "from mpviz import explore, presets\nexplore.layout(presets.SLIDE)",
        "[name=tp]",
        ("ArrowLeft", "ArrowRight"),
        {"median": 45, "p95": 70},
    ),
    Subject(
        "explorer, 1,024 or 1,152 GPUs",
        "explore.layout(presets.MEGATRON_TABLE_1['76.1B'])",
        "[name=nodes]",
        ("ArrowRight", "ArrowLeft"),
        {},
    ),
    Subject(
        "explorer, 16,384 or 18,432 GPUs",
        "explore.layout(presets.LLAMA3_405B['8k'])",
        "[name=nodes]",
        ("ArrowRight", "ArrowLeft"),
        {"p95": 150},
    ),
)
PEERS = (
    Subject(
        "interact + plt.subplots, 16 boxes",
        PEER,
        ".noUi-handle",
        ("ArrowLeft", "ArrowRight"),
        {},
    ),
    Subject(
        "interact + plt.subplots, same picture",
        SAME_PICTURE,
        ".noUi-handle",
        ("ArrowLeft", "ArrowRight"),
        {},
    ),
)
AIM_AGAINST_PEER = 5

BACK_AND_FORTH = ("ArrowRight", "ArrowLeft")
SAVED = (
    Subject("saved layout", "layout", "[name=tp]", ("ArrowLeft", "ArrowRight"), {}),
    Subject("saved compare", "compare", "[name=tp]", ("ArrowLeft", "ArrowRight"), {}),
    Subject("saved schedule", "schedule", "[name=time]", BACK_AND_FORTH, {}),
    Subject("saved collective", "collective", "[name=step]", BACK_AND_FORTH, {}),
)

Times = list[list[float]]

# Milliseconds from the key's own time stamp until its answer has arrived, until its picture is in
# the page, and until the frame that shows it has been painted.
ARM = """output => {
    const painted = () => new Promise(done => requestAnimationFrame(() => {
        const { port1, port2 } = new MessageChannel();
        port1.onmessage = () => done();
        port2.postMessage(null);
    }));
    let pressed, arrived;
    addEventListener("keydown", key => { pressed = key.timeStamp; }, { capture: true, once: true });
    const words = output.querySelector(".mpviz-words");
    const old = output.querySelector("img");
    window.measured = new Promise(done => {
        const watch = new MutationObserver(async changes => {
            const image = output.querySelector("img");
            if (words && changes.some(change => words.contains(change.target)))
                arrived ??= performance.now();
            const swapped = changes.some(change => change.attributeName === "data-code");
            if (!(words ? swapped : image && image !== old)) return;
            watch.disconnect();
            arrived ??= performance.now();
            await image?.decode();
            const there = performance.now();
            await painted();
            done([arrived - pressed, there - pressed, performance.now() - pressed]);
        });
        watch.observe(output, { childList: true, subtree: true, attributeFilter: ["data-code"] });
    });
}"""
# One move after the other: each when the picture of the one before has been swapped in.
MOVE = """async (panel, moves) => {
    const input = panel.querySelector("[name=tp]");
    const canvas = panel.querySelector("canvas");
    for (let move = 0; move < moves; move++) {
        await new Promise((done, give_up) => {
            const late = setTimeout(() => give_up("no picture"), 10000);
            const watch = new MutationObserver(() => {
                watch.disconnect();
                clearTimeout(late);
                done();
            });
            watch.observe(canvas, { attributeFilter: ["data-code"] });
            input.valueAsNumber = input.valueAsNumber === 0 ? 1 : 0;
            input.dispatchEvent(new Event("input"));
        });
    }
}"""
ANSWER = """() => Promise.race([
    window.measured, new Promise((_, give_up) => setTimeout(() => give_up("no picture"), 10000)),
])"""


def lesson(folder: Path, subjects: tuple[Subject, ...]) -> str:
    """Write a notebook of some subjects."""
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": kernel})
    notebook.cells = [nbformat.v4.new_code_cell(subject.cell) for subject in subjects]
    name = f"bench_{len(subjects)}.ipynb"
    nbformat.write(notebook, folder / name)
    return name


def one_move(page: Page, output: Locator, subject: Subject, move: int) -> list[float]:
    """Press one key on the slider of a subject, and return the three times."""
    output.evaluate("output => output.scrollIntoView()")
    output.locator(subject.slider).focus()
    page.wait_for_timeout(300)  # until nothing of the move before is going on
    output.evaluate(ARM)
    page.keyboard.press(subject.keys[move % 2])
    times: list[float] = page.evaluate(ANSWER)
    return times


def measured(lab: servers.Server, page: Page, subjects: tuple[Subject, ...]) -> list[Times]:
    """Open a notebook of the subjects, move each in turn, and return the times of each."""
    pages.open_lesson(page, lab, lesson(lab.folder / "notebooks", subjects))
    pages.run_all(page, len(subjects))
    pages.wait_for_idle(page, seconds=20)
    page.wait_for_timeout(1000)
    times: list[Times] = [[] for _ in subjects]
    for move in range(WARM_UP + MOVES):
        for at, subject in enumerate(subjects):
            output = page.locator(".jp-CodeCell").nth(at).locator(".jp-Cell-outputArea")
            times[at].append(one_move(page, output, subject, move))
    return [each[WARM_UP:] for each in times]


def measured_saved(browser: Browser, folder: Path) -> list[Times]:
    """Save each explorer, open them side by side without a network, and move each in turn."""
    with contextlib.ExitStack() as opened:
        tabs = []
        for subject in SAVED:
            path = getattr(explore, subject.cell)().save(folder / f"{subject.cell}.html")
            page = opened.enter_context(pages.tab(browser))
            page.context.set_offline(True)
            page.goto(path.as_uri())
            page.locator(".mpviz-explorer canvas").wait_for(timeout=10_000)
            tabs.append(page)
        times: list[Times] = [[] for _ in SAVED]
        for move in range(WARM_UP + MOVES):
            for at, (page, subject) in enumerate(zip(tabs, SAVED, strict=True)):
                page.bring_to_front()
                times[at].append(one_move(page, page.locator("body"), subject, move))
    return [each[WARM_UP:] for each in times]


def memory(lab: servers.Server, page: Page) -> Iterator[tuple[int, float, float]]:
    """Move the first explorer, and yield how often it moved, and the MB of kernel and page."""
    pages.run_in_jupyterlab(page, lab, lesson(lab.folder / "notebooks", EXPLORERS[:1]), 1)
    with kernels.kernel_of(lab) as kernel:
        panel, part = page.locator(".mpviz-explorer"), MEMORY_MOVES // LOOKS
        panel.evaluate(MOVE, part // 5)  # until all that is kept once is kept
        for look in range(LOOKS + 1):
            yield look * part, kernel.memory() / 1e6, pages.heap(page) / 1e6
            if look < LOOKS:
                panel.evaluate(MOVE, part)


def report(subjects: tuple[Subject, ...], results: list[Times]) -> None:
    print(f"{MOVES} moves each, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    peers = [
        median(times[-1] for times in result)
        for subject, result in zip(subjects, results, strict=True)
        if subject in PEERS
    ]
    print(
        "key press to picture on screen, ms" + 14 * " " + "median    p95   of it: answer, picture"
    )
    for subject, times in zip(subjects, results, strict=True):
        arrived, there, painted = zip(*times, strict=True)
        found = {"median": median(painted), "p95": quantiles(painted, n=20)[-1]}
        aims = [f"{name} ≤ {aim:.0f}" for name, aim in subject.aims.items()]
        if subject is EXPLORERS[0]:
            ratios = " and ".join(f"{peer / found['median']:.1f}" for peer in peers)
            aims.append(f"≥ {AIM_AGAINST_PEER} times the peers, is {ratios}")
        print(
            f"  {subject.name:38}{found['median']:12.0f}{found['p95']:7.0f}"
            f"{median(arrived):11.0f}{median(there):10.0f}  "
            + (f"(aim {', '.join(aims)})" if aims else "")
        )


def main() -> None:
    parts = sys.argv[1:] or PARTS
    if not set(parts) <= set(PARTS):
        raise SystemExit(f"bench_explore: what it measures is {', '.join(PARTS)}")
    found = pages.found_browser()
    if not found:
        print(f"bench_explore: no browser here: none of {', '.join(pages.BROWSERS)}")
        return
    with pages.chromium(found) as browser:
        if "saved" in parts:
            with tempfile.TemporaryDirectory() as folder:
                report(SAVED, measured_saved(browser, Path(folder)))
        if {"kernel", "memory"} & set(parts):
            with servers.serving(servers.JUPYTERLAB) as lab:
                with_kernel(lab, browser, parts)


def with_kernel(lab: servers.Server, browser: Browser, parts: Sequence[str]) -> None:
    if "kernel" in parts:
        with pages.tab(browser) as page:
            results = [*measured(lab, page, EXPLORERS), *measured(lab, page, PEERS)]
        report((*EXPLORERS, *PEERS), results)
    if "memory" in parts:
        print("memory, MB" + 38 * " " + "moves   kernel     page")
        with pages.tab(browser) as page:
            for moves, kernel, heap in memory(lab, page):
                print(f"{moves:>53,}{kernel:9.1f}{heap:9.2f}")


if __name__ == "__main__":
    main()
