"""What ``import mpviz`` costs beyond numpy, in fresh interpreters.

python tests/benchmarks/bench_import.py
"""

import subprocess
import sys
from statistics import median

RUNS = 15
AIM_SECONDS = 0.1
HEAVY = (
    "torch",
    "matplotlib",
    "anywidget",
    "ipywidgets",
    "IPython",
    "cloudpickle",
    "pandas",
    "scipy",
)
STATEMENTS = ("import mpviz", "from mpviz import ParallelLayout")

PROGRAM = """
import sys, time
import numpy
start = time.perf_counter()
{statement}
print(time.perf_counter() - start, *(m for m in {heavy} if m in sys.modules))
"""


def measure(statement: str) -> tuple[float, list[str]]:
    """Return one interpreter's seconds, and the heavy modules it then holds."""
    program = PROGRAM.format(statement=statement, heavy=HEAVY)
    finished = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    seconds, *heavy = finished.stdout.split()
    return float(seconds), heavy


def main() -> None:
    met = True
    for statement in STATEMENTS:
        # The first run may still be compiling to bytecode.
        measure(statement)
        runs = [measure(statement) for _ in range(RUNS)]
        seconds = [run[0] for run in runs]
        heavy = sorted({module for run in runs for module in run[1]})
        good = median(seconds) < AIM_SECONDS and not heavy
        met &= good
        print(
            f"{statement:<34} median {median(seconds):.4f} s, slowest {max(seconds):.4f} s "
            f"of {RUNS}; aim < {AIM_SECONDS} s; heavy modules: {', '.join(heavy) or 'none'}"
        )
    sys.exit(not met)


if __name__ == "__main__":
    main()
