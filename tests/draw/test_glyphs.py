"""Text of any script is drawn, on any machine, and its twin keeps it."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpviz import ParallelLayout, draw
from mpviz.draw.canvas import glyphs
from mpviz.draw.canvas.scene import Label

TWO = ParallelLayout(nodes=1, gpus_per_node=2, tp=2)
STRANGE = [
    "漢字",
    "한국어",
    "𓀀 hieroglyph",
    "👩‍🔬",
    "\x07bell",
    "a\x00b",
    "\udcff",
    "\u202eright to left",
    "\U0010ffff",
]


@pytest.fixture
def no_other_font(monkeypatch):
    """A machine that has DejaVu Sans alone."""
    monkeypatch.setattr(glyphs, "_other_fonts", lambda: ())
    glyphs._glyph.cache_clear()
    yield
    glyphs._glyph.cache_clear()


def shown(word):
    glyphs._glyph.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture = draw.values(TWO, {0: word}, title=f"title {word}")
        assert picture.png().startswith(b"\x89PNG")
    return picture


@pytest.mark.parametrize("word", STRANGE, ids=ascii)
@pytest.mark.parametrize("fonts", ["of this machine", "DejaVu Sans alone"])
def test_what_no_font_has_is_drawn_without_a_warning(word, fonts, request):
    if fonts == "DejaVu Sans alone":
        request.getfixturevalue("no_other_font")
    picture = shown(word)
    assert f"title {word}" in picture.text and f"0: {word}" in picture.text


def drawn(text):
    return glyphs.outline([Label(0, 0, text)]).vertices.tolist()


def test_without_another_font_the_escape_is_drawn(no_other_font):
    assert np.allclose(drawn("漢"), drawn("\\u6f22"))
    assert glyphs.width_of("漢", 9) == pytest.approx(glyphs.width_of("\\u6f22", 9))
    assert np.allclose(drawn("\x07"), drawn("\\x07"))


def test_another_font_of_the_machine_is_used(monkeypatch):
    # A letter that only the bold file "lacks": a stand-in for a font with other scripts.
    plain = glyphs._font(False)

    class Lacking:
        def __getattr__(self, name):
            return getattr(plain, name)

        def get_char_index(self, code):
            return 0 if chr(code) == "é" else plain.get_char_index(code)

    wanted = glyphs._outline_of(plain, "é")
    monkeypatch.setattr(glyphs, "_font", lambda bold: Lacking())
    monkeypatch.setattr(
        glyphs, "_other_fonts", lambda: ("/no/such/font.ttf", __file__, plain.fname)
    )
    glyphs._glyph.cache_clear()
    assert glyphs._glyph("é", False)[0].tolist() == wanted[0].tolist()
    glyphs._glyph.cache_clear()


@given(st.text())
def test_any_text_can_be_measured_and_drawn(text):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert glyphs.width_of(text, 9) >= 0
        drawn(text)
