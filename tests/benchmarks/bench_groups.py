"""All groups of a large world: mpviz beside Megatron's RankGenerator, in the same run.

    python tests/benchmarks/bench_groups.py

Takes minutes, nearly all of them Megatron's.
"""

import os
import sys
import warnings
from collections import deque
from collections.abc import Callable
from statistics import median
from time import perf_counter

RANKS = 131_072
SIZES = (
    {"tp": 8, "cp": 1, "pp": 16, "ep": 8},
    {"tp": 8, "cp": 2, "pp": 16, "ep": 8},
)
EXPERT_TOKENS = {"ep": "ep", "etp": "tp", "edp": "dp", "etp-ep": "tp-ep", "etp-ep-pp": "tp-ep-pp"}
MPVIZ_RUNS, MEGATRON_RUNS = 9, 1
AIM = 500


def seconds(action: Callable[[], object], runs: int) -> float:
    """Median duration of several runs."""
    durations = []
    for _ in range(runs):
        start = perf_counter()
        action()
        durations.append(perf_counter() - start)
    return median(durations)


def megatron_groups(kind: str, tp: int, cp: int, pp: int, ep: int) -> list[list[int]]:
    """Enumerate one kind as initialize_model_parallel does, generator and all."""
    from megatron.core import parallel_state as ps

    order = "tp-cp-ep-dp-pp"
    if kind in EXPERT_TOKENS:
        sizes = {"tp": tp, "ep": ep, "dp": RANKS // (tp * ep * pp), "pp": pp, "cp": 1}
        return ps.RankGenerator(**sizes, order=order).get_ranks(EXPERT_TOKENS[kind])
    sizes = {"tp": tp, "ep": 1, "dp": RANKS // (tp * cp * pp), "pp": pp, "cp": cp}
    dense = ps.RankGenerator(**sizes, order=order)
    if kind == "embedding":
        return [ps.default_embedding_ranks(ranks) for ranks in dense.get_ranks("pp")]
    if kind == "position_embedding":
        return [ps.default_position_embedding_ranks(ranks) for ranks in dense.get_ranks("pp")]
    return dense.get_ranks(kind)


def compare(sizes: dict[str, int]) -> None:
    """Print a table: each kind at these sizes, then all of them."""
    from mpviz import GROUP_KINDS, ParallelLayout

    def layout() -> ParallelLayout:
        # Anew for every run: what a layout remembers must not help.
        return ParallelLayout(nodes=RANKS // 8, gpus_per_node=8, **sizes)

    def row(name: str, ours: float, theirs: float) -> None:
        print(f"{name:<22}{ours * 1e3:>10.2f}{theirs * 1e3:>14.1f}{theirs / ours:>9.0f}×")

    print(f"{layout()}\n{'':<22}{'mpviz ms':>10}{'Megatron ms':>14}{'ratio':>10}")
    kinds, theirs_all = list(GROUP_KINDS), 0.0
    for kind in kinds:
        if layout().groups(kind).tolist() != megatron_groups(kind, **sizes):
            sys.exit(f"the {kind} groups differ")
        ours = seconds(lambda kind=kind: layout().groups(kind), MPVIZ_RUNS)
        theirs = seconds(lambda kind=kind: megatron_groups(kind, **sizes), MEGATRON_RUNS)
        theirs_all += theirs
        row(kind, ours, theirs)
    # Each kind is dropped before the next, as above on both sides.
    together = seconds(lambda: deque(map(layout().groups, kinds), maxlen=0), MPVIZ_RUNS)
    # mpviz answers with arrays, Megatron with nested lists; the last row turns ours into these.
    as_lists = seconds(lambda: [layout().groups(kind).tolist() for kind in kinds], MPVIZ_RUNS)
    row(f"all (aim ≥ {AIM}×)", together, theirs_all)
    row("all, as nested lists", as_lists, theirs_all)
    print(f"aim of {AIM}× for all {'met' if theirs_all / together >= AIM else 'NOT met'}\n")


def main() -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    warnings.simplefilter("ignore")
    for sizes in SIZES:
        compare(sizes)


if __name__ == "__main__":
    main()
