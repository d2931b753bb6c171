"""One legend for every picture: in lines no wider than a page, or in columns."""

import pytest

from mpviz.draw.canvas.glyphs import box_of
from mpviz.draw.canvas.legend import ROW, in_columns, legend, swatch
from mpviz.draw.canvas.page import Panel, elided, elided_words
from mpviz.draw.canvas.scene import Box, Label
from mpviz.draw.canvas.theme import MAX_WIDTH, SMALL, fill


def labels(panel):
    return [item for item in panel.items if isinstance(item, Label)]


@pytest.mark.parametrize("count", [1, 4, 30])
def test_a_legend_is_as_wide_as_a_page_at_most(count):
    panel = legend(([swatch(fill(n))], f"what colour {n} stands for") for n in range(count))
    boxes = [box_of(label) for label in labels(panel)]
    assert max(right for _, _, right, _ in boxes) == pytest.approx(panel.width)
    assert panel.width <= MAX_WIDTH
    assert (len({label.y for label in labels(panel)}) > 1) == (count == 30)
    for box, label in zip(
        (item for item in panel.items if isinstance(item, Box)), labels(panel), strict=True
    ):
        assert box.x + box.width < label.x and box.y < label.y < box.y + box.height


@pytest.mark.parametrize(("height", "columns"), [(12 * ROW, 1), (0, 3)])
def test_a_list_that_is_too_high_has_as_many_columns_as_fit(height, columns):
    entries = [Panel([Label(0, 7, str(n), SMALL)], MAX_WIDTH / 3, ROW) for n in range(11)]
    panel = in_columns(entries, height)
    places = [(label.x, label.y) for label in labels(panel)]
    assert places == sorted(places) and len(set(places)) == 11
    assert len({x for x, _ in places}) == columns
    assert panel.height == len({y for _, y in places}) * ROW


@pytest.mark.parametrize(("count", "most"), [(3, 4), (4, 4), (5, 4), (1000, 8)])
def test_what_is_left_out_is_in_the_middle_and_marked(count, most):
    kept = elided(count, most)
    assert len(kept) == min(count, most) and (None in kept) == (count > most)
    assert kept[0] == 0 and kept[-1] == count - 1
    words = elided_words([str(n) for n in range(count)], most)
    assert words == ["…" if n is None else str(n) for n in kept]
