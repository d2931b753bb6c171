"""What every lesson has in common, checked without running it."""

import re
from itertools import groupby
from pathlib import Path

import nbformat
import pytest

PATHS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
SLIDES = {"slide", "subslide", "fragment", "skip", "notes", "-"}
SOMEONES_FOLDER = re.compile(r"(?<![\w./])/(root|home|work|tmp|Users|private|opt)/")


@pytest.fixture(params=PATHS, ids=lambda path: path.stem)
def lesson(request):
    return nbformat.read(request.param, as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_there_are_lessons_and_each_has_a_number_of_its_own():
    numbers = [path.name.partition("_")[0] for path in PATHS]
    assert numbers[0] == "00" and len(set(numbers)) == len(numbers)


def test_file_is_valid_and_its_cell_ids_unique(lesson):
    nbformat.validate(lesson)
    ids = [cell.id for cell in lesson.cells]
    assert len(ids) == len(set(ids))


def test_kernel_is_the_plain_one_and_no_version_is_named(lesson):
    assert lesson.metadata.kernelspec == KERNEL
    assert lesson.metadata.language_info.name == "python"
    assert "version" not in lesson.metadata.language_info


def test_no_machine_shows_through(lesson):
    assert SOMEONES_FOLDER.findall(nbformat.writes(lesson)) == []


def test_ran_once_from_top_to_bottom_without_error(lesson):
    assert [cell.execution_count for cell in code(lesson)] == list(range(1, len(code(lesson)) + 1))
    kinds = {output.output_type for cell in code(lesson) for output in cell.outputs}
    assert "error" not in kinds


def test_starts_with_its_title(lesson):
    assert lesson.cells[0].cell_type == "markdown"
    assert lesson.cells[0].source.startswith("# ")


def test_every_cell_has_its_place_in_the_lecture(lesson):
    places = [cell.metadata.get("slideshow", {}).get("slide_type") for cell in lesson.cells]
    assert set(places) <= SLIDES


def test_code_is_short_and_prose_is_never_far(lesson):
    longest = max(len(cell.source.splitlines()) for cell in code(lesson))
    assert longest <= 15
    runs = groupby(lesson.cells, key=lambda cell: cell.cell_type)
    assert max(len(list(cells)) for kind, cells in runs if kind == "code") <= 3


def test_few_outputs_are_left_uncompared(lesson):
    loose = [c for c in code(lesson) if "nbval-ignore-output" in c.metadata.get("tags", [])]
    assert len(loose) < 0.15 * len(code(lesson))


def test_no_cell_escapes_the_comparison_otherwise(lesson):
    tags = {tag for cell in code(lesson) for tag in cell.metadata.get("tags", [])}
    assert tags.isdisjoint({"nbval-skip", "raises-exception", "nbval-raises-exception"})
    assert not any(re.search(r"^# *NBVAL_", cell.source, re.MULTILINE) for cell in code(lesson))
