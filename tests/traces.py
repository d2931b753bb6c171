"""What a world leaves in the system: processes and temporary folders."""

import time
from multiprocessing.forkserver import _forkserver

import psutil


def rank_pids():
    """Every rank of every world of this process."""
    server = _forkserver._forkserver_pid
    if server is None:
        return set()
    return {process.pid for process in psutil.Process(server).children() if alive(process)}


def alive(process):
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def left(processes, folder, seconds):
    """What is left of processes, and in a temporary folder, when a time is over."""
    end = time.monotonic() + seconds
    while True:
        there = [process for process in processes if alive(process)]
        there += [path.name for kind in ("mpviz-*", "pymp-*") for path in folder.glob(kind)]
        if not there or time.monotonic() > end:
            return there
        time.sleep(0.05)
