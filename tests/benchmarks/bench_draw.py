"""The slide grid to PNG: against the same picture by plt.subplots, and at up to 16,384 GPUs;
and the chart of a pipeline, drawn anew at each move of a slider.

The peer draws the very same boxes and labels, one artist each, as a notebook would.
"""

import io
from collections.abc import Callable
from statistics import median
from time import perf_counter

import matplotlib as mpl

mpl.use("agg")

import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch

from mpviz import ParallelLayout, draw, presets, schedule
from mpviz.draw.canvas.scene import Box, Scene
from mpviz.timeline import Timeline, simulate

RUNS = 25
DPI = 192


def with_pyplot(scene: Scene) -> bytes:
    figure, ax = plt.subplots(figsize=(scene.width / 72, scene.height / 72))
    for item in scene.items:
        if isinstance(item, Box):
            style = "round,pad=0,rounding_size=3"
            corner = (item.x, item.y)
            ax.add_patch(
                FancyBboxPatch(corner, item.width, item.height, style, fc=item.face, ec=item.edge)
            )
        else:
            weight = "bold" if item.bold else "normal"
            ax.text(
                item.x,
                item.y,
                item.text,
                fontsize=item.size,
                color=item.color,
                ha=item.align,
                va="center",
                weight=weight,
            )
    ax.set(xlim=(0, scene.width), ylim=(scene.height, 0))
    ax.axis("off")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    plt.close(figure)
    return buffer.getvalue()


def milliseconds(job: Callable[[], object]) -> float:
    job()  # fonts and glyphs are read once
    times = []
    for _ in range(RUNS):
        start = perf_counter()
        job()
        times.append(perf_counter() - start)
    return 1000 * median(times)


def main() -> None:
    layouts: list[ParallelLayout] = [
        presets.SLIDE.layout,
        presets.MEGATRON_TABLE_1["76.1B"].layout,
        presets.LLAMA3_405B["8k"].layout,
    ]
    scene = draw.grid(layouts[0]).scene
    print(f"slide grid to PNG, {DPI} dpi, median of {RUNS} runs")
    peer = milliseconds(lambda: with_pyplot(scene))
    print(f"  {'plt.subplots, the same picture':34} {peer:7.1f} ms")
    small = 0.0
    for layout in layouts:
        for name, make in (("draw.grid", draw.grid), ("draw.cluster", draw.cluster)):
            taken = milliseconds(lambda make=make, layout=layout: make(layout).png())
            if not small:
                small = taken
                against = f"{peer / taken:5.1f} times as fast as plt.subplots (aim ≥ 5)"
            else:
                against = f"{taken / small:5.1f} times the slide's time (aim ≤ 3)"
            print(f"  {name:12} at {layout.world_size:6,} GPUs {taken:17.1f} ms  {against}")
    charts(small)


def charts(slide: float) -> None:
    print("chart of a pipeline to PNG, with the activations held")
    for pp, microbatches, aim in ((4, 8, 20), (8, 32, 100), (64, 512, 300)):
        plan = schedule.one_forward_one_backward(pp=pp, microbatches=microbatches)
        simulated = simulate(plan, {"F": 1, "B": 2})

        def make(simulated: Timeline = simulated) -> bytes:
            # A fresh one, which remembers nothing of the last.
            return draw.timeline(Timeline(simulated.events, simulated.pp)).png()

        taken = milliseconds(make)
        against = f"{taken / slide:5.1f} times the slide's time (aim ≤ {aim} ms)"
        print(f"  draw.timeline, p={pp:<2} m={microbatches:<3} {taken:25.1f} ms  {against}")


if __name__ == "__main__":
    main()
