"""The cost model beside measured collectives: the error of every row.

    python tests/benchmarks/bench_cost.py

Nothing is measured here: the rows are others' (`tests/measured_collectives.py`), and so is the
latency that is fitted to two of them. `tests/cost/test_cost.py` holds every error printed.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from measured_collectives import GIB, KIB, MIB, ROWS

from mpviz import cost


def amount(size):
    unit, name = next(
        unit for unit in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")) if size >= unit[0]
    )
    return f"{size // unit} {name}"


def time(seconds):
    return f"{1e6 * seconds:,.0f} µs"


def main():
    print("machine      what            size      measured        model   error")
    for row in ROWS:
        machine = f"{row.nodes} × 8 {row.gpu}"
        print(
            f"{machine:12} {row.what:14} {amount(row.size):>6} {time(row.measured):>13} "
            f"{time(row.modelled):>12} {row.error:+6.0f} %  {row.why or row.source}"
        )
    print("\nthe model alone, on H100s: nodes × 8, an all-reduce of 2 MB and of 1 GB")
    for nodes in (1, 2, 4):
        small, large = (cost.all_reduce_seconds(size, 8 * nodes, nodes) for size in (2e6, 1e9))
        print(f"{nodes} node{'s' * (nodes > 1):1}  {time(small):>9} {1e3 * large:9.2f} ms")


if __name__ == "__main__":
    main()
