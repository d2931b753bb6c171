"""What real ranks answer, that a script of this folder forks (`forked.py`)."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

SECONDS = 170.0


def answers_of(script: str, folder: Path, ranks: int, *arguments: object) -> list[Any]:
    """Run a script on a folder; return what each rank left there, or fail with its words."""
    program, log = Path(__file__).with_name(script), folder / "log"
    command = [sys.executable, "-W", "ignore", program, folder, *map(str, arguments)]
    with log.open("w") as output:
        # Its own session, so that it and its ranks can be ended together.
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            process.wait(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            pytest.fail(f"{ranks} ranks did not finish in {SECONDS:g} s\n{log.read_text()}")
        finally:
            # The error only says that nothing is left.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    paths = {rank: folder / f"{rank}.json" for rank in range(ranks)}
    found = {rank: json.loads(path.read_text()) for rank, path in paths.items() if path.exists()}
    failed = [rank for rank, answer in found.items() if "failure" in answer]
    silent = sorted(set(paths) - set(found))
    if failed or silent:
        # The first to fail is the cause: it takes the others with it.
        failed.sort(key=lambda rank: paths[rank].stat().st_mtime_ns)
        tracebacks = [f"rank {rank}:\n{found[rank]['failure']}" for rank in failed]
        silence = f"ranks that never answered: {silent}\n" if silent else ""
        pytest.fail("\n".join([silence, *tracebacks, log.read_text()]))
    return [found[rank] for rank in range(ranks)]
