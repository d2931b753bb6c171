"""Refreshing a notebook twice gives the same bytes, and a failing one is not touched."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

pytestmark = pytest.mark.notebook
REFRESH = Path(__file__).with_name("refresh.py")


def refresh(*paths):
    command = [sys.executable, REFRESH, *paths]
    return subprocess.run(command, capture_output=True, text=True, timeout=100)


def save(path, *sources):
    cells = [new_markdown_cell("# Try"), *map(new_code_cell, sources)]
    nbformat.write(new_notebook(cells=cells, metadata={"authors": ["x"]}), path)


def test_a_refreshed_notebook_is_normal_and_stable(tmp_path):
    path = tmp_path / "try.ipynb"
    save(path, "print('a'); print('b')", "import ipywidgets; ipywidgets.IntSlider()", "1 + 1")
    ids = [cell.id for cell in nbformat.read(path, 4).cells]
    assert refresh(path).returncode == 0
    first = path.read_bytes()
    assert refresh(path).returncode == 0
    assert path.read_bytes() == first
    assert first.endswith(b"}\n")

    notebook = nbformat.read(path, 4)
    assert [cell.id for cell in notebook.cells] == ids
    assert notebook.metadata.kernelspec == {
        "display_name": "Python 3 (ipykernel)",
        "language": "python",
        "name": "python3",
    }
    assert notebook.metadata.keys() == {"kernelspec", "language_info"}
    assert "version" not in notebook.metadata.language_info
    printed, slider, summed = notebook.cells[1:]
    assert [cell.execution_count for cell in (printed, slider, summed)] == [1, 2, 3]
    assert all("execution" not in cell.metadata for cell in notebook.cells)
    assert [output.text for output in printed.outputs] == ["a\nb\n"]
    assert slider.outputs[0].data.keys() == {"text/plain"}
    assert summed.outputs[0].data == {"text/plain": "2"}


def test_a_failing_notebook_stays_as_it_was_and_the_others_go_on(tmp_path):
    bad, good = tmp_path / "bad.ipynb", tmp_path / "good.ipynb"
    save(bad, "1 + 1", "1 / 0")
    save(good, "1 + 1")
    before = bad.read_bytes()
    done = refresh(bad, good)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    assert bad.read_bytes() == before
    assert nbformat.read(good, 4).cells[1].execution_count == 1
    assert {path.name for path in tmp_path.iterdir()} == {"bad.ipynb", "good.ipynb"}
