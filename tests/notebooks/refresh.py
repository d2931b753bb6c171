"""Execute notebooks on a fresh kernel and store their outputs, so that only real changes show.

Usage: ``python tests/notebooks/refresh.py notebooks/*.ipynb`` (or ``make notebooks``).
A notebook with a failing cell is left as it was, and the exit status says so.
"""

import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
LANGUAGE = {
    "codemirror_mode": {"name": "ipython", "version": 3},
    "file_extension": ".py",
    "mimetype": "text/x-python",
    "name": "python",
}
WIDGET = "application/vnd.jupyter.widget-view+json"


def executed(path):
    """Return the notebook at `path` after a run from top to bottom, normalised."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        coalesce_streams=True,  # however the prints happen to arrive
        kernel_name=KERNEL["name"],
        record_timing=False,
        resources={"metadata": {"path": str(path.parent)}},
        store_widget_state=False,
        timeout=300,
    )
    client.execute(env=os.environ | {"MPVIZ_PROGRESS": "0"})  # no line of a slow machine's
    return normalised(notebook)


def normalised(notebook):
    """Leave out what differs between machines or runs; cell ids and counts stay."""
    notebook.metadata = {"kernelspec": KERNEL, "language_info": LANGUAGE}
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            # A widget lives in its kernel, under a random id; its text and picture stay.
            output.get("data", {}).pop(WIDGET, None)
    return notebook


def store(notebook, path):
    """Write beside `path`, then swap: a reader sees the old file or the new one."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
        file.write(nbformat.writes(notebook).rstrip("\n") + "\n")
    os.chmod(file.name, path.stat().st_mode)
    os.replace(file.name, path)


def main(paths):
    """Refresh every notebook named, and return how many could not be."""
    failed = 0
    for path in map(Path, paths):
        try:
            store(executed(path), path)
        except CellExecutionError as error:
            failed += 1
            print(f"{path}: not refreshed\n{error}", file=sys.stderr)
        else:
            print(f"{path}: refreshed")
    return failed


if __name__ == "__main__":
    sys.exit(1 if main(sys.argv[1:]) else 0)
