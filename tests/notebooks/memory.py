"""Measures what a lesson holds while nbval runs it: ``pytest --nbval -p tests.notebooks.memory``.

A lesson that starts ranks says in its first cell how much memory it needs. One more test after its
last cell compares that with the most that its kernel and all processes below it have held.
"""

import re
import threading
from contextlib import suppress

import nbformat
import psutil
import pytest
from nbval.plugin import IPyNbCell

STATED = re.compile(r"You need:.* (\d) GB of memory")
EVERY = 0.25  # seconds


def stated(path):
    """Return the bytes that a lesson says it needs; None if it does not say."""
    found = STATED.search(nbformat.read(path, as_version=4).cells[0].source)
    return 10**9 * int(found[1]) if found else None


def held_by(process):
    """Return the bytes of a process and all below it; what several share is counted once."""
    total = 0
    for one in [process, *process.children(recursive=True)]:
        try:
            total += one.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue  # it ended meanwhile
    return total


class Watch(threading.Thread):
    """Asks again and again how much a process and all below it hold; keeps the most."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.most = 0
        self._process = psutil.Process(pid)
        self._over = threading.Event()

    def run(self):
        with suppress(psutil.Error):  # the kernel has died: its cells say so
            while True:
                self.most = max(self.most, held_by(self._process))
                if self._over.wait(EVERY):
                    return

    def stop(self):
        self._over.set()
        self.join()
        return self.most


class Memory(pytest.Item):
    """The test after the last cell of a lesson."""

    def runtest(self):
        most, limit = self.parent.watch.stop(), stated(self.path)
        print(f"at most {most / 1e6:.0f} MB")
        assert most < limit, f"held {most / 1e6:.0f} MB, and says that it needs {limit / 1e6:.0f}"
        assert most > 100_000_000, "no kernel with ranks holds so little"

    def repr_failure(self, excinfo, style=None):
        return str(excinfo.value)

    def reportinfo(self):
        return self.path, 0, f"{self.parent.name}: memory"


def pytest_collection_modifyitems(items):
    """Put the test after the last cell of each lesson that says what it needs."""
    if not hasattr(psutil.Process().memory_full_info(), "pss"):
        return  # only Linux shares memory fairly
    last = {item.parent: at for at, item in enumerate(items) if isinstance(item, IPyNbCell)}
    for lesson, at in reversed(last.items()):
        if stated(lesson.path) is not None:
            items.insert(at + 1, Memory.from_parent(lesson, name="memory"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item):
    """Begin with the first cell, when the kernel has just started."""
    if isinstance(item, IPyNbCell) and not hasattr(item.parent, "watch"):
        item.parent.watch = Watch(item.parent.kernel.km.provisioner.pid)
        item.parent.watch.start()
