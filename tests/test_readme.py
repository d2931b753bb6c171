"""What the README says is so. ``python tests/test_readme.py`` draws its picture anew."""

import re
from pathlib import Path

import pytest

from mpviz import GROUP_KINDS, ParallelLayout, draw, presets
from mpviz.draw import Picture

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SAID = " ".join(README.split())  # wherever its lines break
PINS = (ROOT / "constraints.txt").read_text()
PICTURE = ROOT / "notebooks" / "images" / "two_orders.svg"


def drawn() -> Picture:
    other = ParallelLayout(nodes=2, gpus_per_node=8, tp=2, pp=4, order="tp-cp-ep-pp-dp")
    titles = ("Megatron's default", "one copy per node")
    return draw.compare(presets.SLIDE.layout, other, titles=titles)


def test_the_picture_is_what_the_code_draws_today(tmp_path):
    assert drawn().save(tmp_path / PICTURE.name).read_bytes() == PICTURE.read_bytes()


def test_the_picture_supports_what_is_said_of_it():
    default, other = presets.SLIDE.layout, ParallelLayout(nodes=2, tp=2, pp=4, order="tp-pp-dp")
    assert default.nodes_of("model") == [(0, 1), (0, 1)]
    assert other.nodes_of("model") == [(0,), (1,)]


def test_the_example_runs_and_its_comments_are_right(tmp_path, monkeypatch):
    example, with_ranks, with_sliders = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(example, names)
    assert (tmp_path / "slide.svg").exists()
    layout = names["layout"]
    assert isinstance(layout, ParallelLayout)
    (groups,) = re.findall(r'layout\.groups\("dp"\) +# (.*)', example)
    assert repr(layout.groups("dp")).splitlines()[1] == groups
    assert len(layout.crossings("pp")) == len(layout.groups("pp")) == 4
    exec(with_ranks.replace("world.observed", "assert world.observed"), names)
    exec(with_sliders + "assert explorer.value == layout", names)


def test_the_refusal_is_quoted_to_the_letter():
    (quoted,) = re.findall(r"```text\n(.*?)```", README, re.DOTALL)
    with pytest.raises(ValueError) as refusal:
        ParallelLayout(nodes=2, gpus_per_node=8, tp=3, pp=4)
    assert " ".join(quoted.split()) == str(refusal.value)


def pinned(package):
    (version,) = re.findall(rf"^{package}==(.*)$", PINS, re.MULTILINE)
    return version


def test_versions_it_names_are_those_that_were_run():
    assert f"jupyterlab-rise {pinned('jupyterlab_rise')}" in SAID
    assert f"(megatron-core {pinned('megatron-core')})" in SAID


def test_the_kinds_of_groups_are_counted():
    assert len(GROUP_KINDS) == 16 and "knows sixteen kinds of groups" in SAID


def test_the_lecture_is_credited():
    assert "Xianchao Wu's lecture *Model parallel in Megatron*" in SAID


def test_it_says_where_it_has_been_run():
    table = dict(
        re.findall(r"^\| (\w[^|]*) \| ([^|]*) \|$", README.partition("## Lessons")[0], re.M)
    )
    run = [where for where, what in table.items() if "not yet run" not in what]
    assert run == ["Linux, Python 3.11"]
    told = " ".join(table)
    assert all(place in told for place in ("macOS", "WSL", "conda", "Binder", "Python 3.12"))


def test_every_file_it_names_exists():
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    named = re.findall(r"`(tests/[^`]+)`", README)
    assert [name for name in [*links, *named] if not (ROOT / name).exists()] == []


def test_every_lesson_is_on_the_map():
    lessons = {f"notebooks/{path.name}" for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert lessons == set(re.findall(r"\((notebooks/[^)]+\.ipynb)\)", README))


if __name__ == "__main__":
    PICTURE.parent.mkdir(exist_ok=True)
    drawn().save(PICTURE)
