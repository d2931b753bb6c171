"""What all exercises have in common; and their solutions pass."""

from pathlib import Path

import nbformat
import pytest

import mpviz
from mpviz import exercises

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
SOLUTIONS = sorted((NOTEBOOKS / "solutions").glob("[0-9]*.py"))
CHECKS = sorted(name for name, check in vars(exercises).items() if hasattr(check, "__wrapped__"))


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)
def test_solution_passes_its_own_check(path):
    said = []
    namespace = {name: getattr(mpviz, name) for name in mpviz.__all__}
    check = path.stem[3:]

    class Listening:
        def __getattr__(self, name):
            assert name == check
            return lambda answer: said.append(getattr(exercises, name)(answer))

    exec(path.read_text(encoding="utf-8"), namespace | {"exercises": Listening()})
    assert [verdict.correct for verdict in said] == [True], said


def test_every_exercise_has_a_solution_and_is_asked_in_its_lesson():
    assert sorted(path.stem[3:] for path in SOLUTIONS) == CHECKS
    for path in SOLUTIONS:
        (lesson,) = NOTEBOOKS.glob(f"{path.stem[:2]}_*.ipynb")
        source = "\n".join(cell.source for cell in nbformat.read(lesson, as_version=4).cells)
        assert f"# %load solutions/{path.name}\nexercises.{path.stem[3:]}(answer)" in source


@pytest.mark.parametrize("name", CHECKS)
@pytest.mark.parametrize("answer", [..., None])
def test_unanswered_is_one_line_and_neither_right_nor_wrong(name, answer):
    verdict = getattr(exercises, name)(answer)
    assert verdict.correct is None
    assert repr(verdict).startswith("… not answered yet") and "\n" not in repr(verdict)


@pytest.mark.parametrize("name", CHECKS)
@pytest.mark.parametrize("answer", ["x", 1.5, object(), [], {}, -1, 10**9, [None], float("nan")])
def test_any_other_answer_is_wrong_and_answered_kindly(name, answer):
    verdict = getattr(exercises, name)(answer)
    assert verdict.correct is False
    assert repr(verdict).startswith("✗ ") and "\n" not in repr(verdict)


FUNCTIONS = ["pipeline_group", "leaves_node", "time_in_pieces", "largest_tp", "warm_up"]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_that_does_not_run_is_told_where(name):
    def stops(*_):
        raise KeyError("left")

    def spoils(first, *_):
        if isinstance(first, list):
            first.clear()
        return ()

    check = getattr(exercises, name)
    assert "stops with KeyError: 'left'." in check(stops).message
    assert "Is there a `return`?" in check(lambda *_: None).message
    assert "stops with TypeError" in check(lambda: 1).message
    assert check(spoils).correct is False and "[]" not in check(spoils).message
    assert "is not a function" in check([1, 2]).message
