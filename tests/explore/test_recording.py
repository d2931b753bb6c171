"""Answers kept ahead: what a page without a kernel is given."""

import base64
import gzip
import json
import os
import re
import stat
import threading
from itertools import count, product

import numpy as np
import pytest

from mpviz import explore, schedule
from mpviz.draw.canvas.scene_json import from_json, to_json
from mpviz.explore import recording

MAKERS = [explore.layout, explore.compare, explore.schedule]


def unpacked(explorer):
    *answers, head = gzip.decompress(base64.b64decode(explorer.store)).decode().splitlines()
    return json.loads(head), list(map(json.loads, answers))


@pytest.mark.parametrize("make", MAKERS)
def test_each_combination_has_the_answer_of_an_explorer_that_stands_there(make):
    explorer = make().record()
    head, answers = unpacked(explorer)
    kept = head["kept"]
    combinations = list(product(*kept.values()))
    assert len(answers) == len(combinations) > 100
    fitting = 0
    for combination, answer in list(zip(combinations, answers, strict=True))[::17]:
        other = make()
        other.set(**dict(zip(kept, combination, strict=True)))
        assert answer.get("problem") == other.problem
        if "words" in answer:
            fitting += 1
            assert answer["words"]["code"] == repr(other)
            assert answer["words"]["alt"] == other.picture.text
            assert from_json(answer["scene"]).items == from_json(to_json(other.picture.scene)).items
            assert answer["words"]["settings"] == other.settings
    assert fitting > 5


def test_ways_out_of_a_misfit_lead_to_what_is_kept():
    _, answers = unpacked(explore.layout().record(tp=(1, 2, 3, 4), pp=(4,)))
    (misfit,) = [answer for answer in answers if "problem" in answer]
    assert [fix["changes"] for fix in misfit["fixes"]] == [{"tp": 4}, {"tp": 2}]


def test_controls_are_those_that_move_with_the_values_that_are_kept():
    head, answers = unpacked(explore.schedule().record(kind=("gpipe",), time=(None, 50)))
    kind, time = answers[0]["controls"]
    assert [option["value"] for option in kind["options"]] == ["gpipe", "1f1b"]
    assert time["values"] == [None, 50] and time["plays"]
    assert head["start"] == {"kind": "1f1b", "time": None}


def test_outlines_of_all_characters_are_kept():
    head, answers = unpacked(explore.layout().record())
    for answer in answers:
        for row in answer.get("scene", {"labels": []})["labels"]:
            assert all(each + "*" * row[6] in head["glyphs"] for each in row[2])


def test_an_explorer_with_a_problem_is_recorded_where_it_was_good():
    explorer = explore.layout()
    explorer.tp = 3
    head, _ = unpacked(explorer.record(tp=(1, 2)))
    assert head["start"] == {"tp": 2} and explorer.problem


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        ({"dp": (1, 2)}, "no control named dp; there are preset"),
        ({"tp": 2}, "tp is recorded for several values, such as [2]"),
        ({"view": "grid"}, "view is recorded for several values"),
        ({"expert_tp": (None, 1)}, "no control named expert_tp; there are preset"),
        ({"tp": ([1], 2)}, "tp must be a number, a text or None, got [1]"),
        ({"focus": count()}, "focus alone has more values than the 5,000 settings"),
        ({"tp": (1, "two")}, "tp must be a whole number ≥ 1, got 'two'"),
        (
            {"tp": range(1, 73), "pp": range(1, 129)},
            "72 of tp × 128 of pp are 9,216 settings; a record holds up to 5,000, so 39 of tp or "
            "69 of pp would fit",
        ),
    ],
)
def test_a_record_that_cannot_be_is_refused_with_what_would_fit(kept, said):
    explorer = explore.layout()
    with pytest.raises(ValueError, match=re.escape(said)):
        explorer.record(**kept)
    assert explorer.store == ""


def test_a_record_that_takes_too_much_is_refused_with_its_size_and_what_would_fit(monkeypatch):
    monkeypatch.setattr(recording, "MOST_BYTES", 20_000)
    with pytest.raises(ValueError) as refusal:
        explore.layout().record(tp=(1, 2, 4, 8), pp=(1, 2, 4, 8), nodes=(1, 2, 4, 8, 16))
    found = re.fullmatch(
        r"the first (\d+) of 80 settings take 0.0 MB; a record takes up to 0.02 MB, so about "
        r"(\d) of tp or (\d) of pp or (\d) of nodes would fit".replace(" of tp or ", " of tp, "),
        str(refusal.value),
    )
    assert found, refusal.value
    explore.layout().record(tp=(2,), pp=(1, 4), nodes=(1, 2))


# ---- pages


@pytest.mark.parametrize("make", MAKERS)
def test_a_page_holds_picture_text_store_and_asks_nobody(make, tmp_path):
    explorer = make()
    path = explorer.save(tmp_path / "explore.html")
    text = path.read_text(encoding="utf-8")
    assert explorer.store in text
    assert base64.b64encode(explorer.picture.png()).decode() in text
    assert explorer.picture.text.splitlines()[-1] in text
    assert set(re.findall(r"(?:src|href)=\"(?!data:)[^\"]*", text)) == set()
    assert "http" not in text.replace(explorer.store, "")
    assert [entry.name for entry in tmp_path.iterdir()] == ["explore.html"]


def test_a_page_starts_where_the_explorer_stands_now(tmp_path):
    explorer = explore.layout().record(tp=(1, 2, 4))
    explorer.tp = 4
    explorer.save(tmp_path / "explore.html")
    assert unpacked(explorer)[0]["start"] == {"tp": 4}


def test_a_page_that_cannot_be_written_is_refused_before_anything_is_drawn(tmp_path, monkeypatch):
    explorer = explore.layout()
    monkeypatch.setattr(explorer, "_answers", None)
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "device.html").symlink_to("/dev/full")
    for name, said in (
        ("explore.pdf", "a name may end in .html or .htm"),
        ("folder.html", "that is no file"),
        ("device.html", "that is no file"),
        ("null\0.html", "null"),
        (f"{'long' * 100}.html", "File name too long"),
        ("missing/explore.html", "missing, which is no folder"),
    ):
        with pytest.raises(ValueError, match=said):
            explorer.save(tmp_path / name)
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    with pytest.raises(ValueError, match="no right to write"):
        explorer.save(tmp_path / "explore.html")


def test_a_disk_that_fails_leaves_the_page_before(tmp_path, monkeypatch):
    path = tmp_path / "explore.html"
    path.write_text("before")

    def fails(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(ValueError, match="No space left on device"):
        explore.layout().save(path, tp=(2,))
    assert path.read_text() == "before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["explore.html"]


def test_numbers_of_numpy_are_recorded_as_pythons():
    head, _ = unpacked(explore.layout().record(tp=np.array([1, 2, 4])))
    assert head["kept"] == {"tp": [1, 2, 4]}


def test_a_link_is_followed_and_what_was_there_keeps_its_mode_and_its_neighbours(tmp_path):
    page, link, other = (tmp_path / name for name in ("page.html", "link.html", "page.html.part"))
    page.touch()
    page.chmod(0o640)
    link.symlink_to(page)
    other.write_text("mine")
    assert explore.layout().save(link, tp=(2,)) == link
    assert link.is_symlink() and "<h1>" in page.read_text(encoding="utf-8")
    assert stat.S_IMODE(page.stat().st_mode) == 0o640
    assert other.read_text() == "mine" and len(list(tmp_path.iterdir())) == 3


def test_several_may_save_the_same_page_at_once(tmp_path):
    path, together, failed = tmp_path / "page.html", threading.Barrier(4), []

    def write(letter):
        together.wait(10)
        try:
            for _ in range(50):
                recording.write(path, letter * 10_000)
        except ValueError as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failed == [] and path.read_text() in {letter * 10_000 for letter in "abcd"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["page.html"]


def test_on_a_page_steps_end_with_the_last_and_follow_the_ranks_as_with_a_kernel():
    head, answers = unpacked(explore.collective().record())
    kept = head["kept"]
    for combination, answer in zip(product(*kept.values()), answers, strict=True):
        asked = dict(zip(kept, combination, strict=True))
        settings = answer["words"]["settings"]
        plan = schedule.collective(settings["name"], settings["ranks"], settings["algorithm"])
        last = len(plan.steps)
        step = {control["name"]: control for control in answer["controls"]}["step"]
        assert step["values"] == list(range(last + 1))
        assert settings["step"] == min(asked["step"], last)


def test_what_would_follow_but_is_not_kept_is_explained():
    _, answers = unpacked(explore.layout().record(nodes=(1, 2), pp=(2,), focus=(None, 15)))
    by_order = dict(zip(product((1, 2), (2, 4), (None, 15)), answers, strict=True))
    assert by_order[1, 2, 15]["problem"] == "rank 15 is out of range: 0 … 7"
    assert by_order[2, 2, 15]["words"]["settings"]["focus"] == 15
