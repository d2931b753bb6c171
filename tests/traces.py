"""What a world leaves in the system: processes and temporary folders."""

import os
import time

import psutil

from mpviz.world import launch


def rank_pids():
    """Every rank of every world of this process."""
    if os.getpid() not in launch._servers:
        return set()
    return {process.pid for process in psutil.Process(server_pid()).children() if alive(process)}


def server_pid():
    """The process that forks the ranks of this one."""
    return launch._servers[os.getpid()].pid


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
        there += [path.name for path in folder.glob("mpviz-*")]
        if not there or time.monotonic() > end:
            return there
        time.sleep(0.05)
