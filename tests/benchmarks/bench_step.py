"""The time of a training step beside published ones: the error of every row, and layouts' speed.

    python tests/benchmarks/bench_step.py

Only how long `cost.layouts` takes is measured here; the rows are others'
(`tests/published_steps.py`), and `tests/cost/test_step.py` holds the bounds.
"""

import sys
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

from published_steps import A100, EVERY, H100

from mpviz import cost, presets
from mpviz.cost import MODELS, Cluster, Training, layouts


def rows():
    print("row                       published     model    error  where a second goes")
    for row in EVERY:
        took, way = row.modelled
        parts = ", ".join(
            f"{part} {share / took.seconds:.0%}" for part, share in took.parts.items() if share
        )
        print(
            f"{row.name:26} {row.seconds:7.2f} s {took.seconds:7.2f} s {row.error:+7.1f} %  {parts}"
            f"; b={way.microbatch} v={way.chunks}{'; ' + row.why if row.why else ''}"
        )
    for name, some in (("A100", A100), ("H100", H100)):
        errors = [abs(row.error) for row in some]
        print(
            f"{name}: {len(some)} rows, median {median(errors):.1f} %, at most {max(errors):.1f} %"
        )


def speed():
    print("\nlayouts: considered, that fit, ties, best of 5")
    for name, gpus, gpu in (
        ("Llama 3 70B", 1024, "H100"),
        ("Llama 3 405B", 16_384, "H100"),
        ("Mixtral 8x7B", 1024, "H100"),
        ("DeepSeek-V3", 2048, "H800"),
        ("DeepSeek-V3", 16_384, "H100"),
    ):
        times = []
        for _ in range(5):
            start = time.perf_counter()
            found = layouts(MODELS[name], Cluster(gpus, gpu))
            times.append(time.perf_counter() - start)
        print(
            f"{name:13} on {gpus:6,} {gpu}: {found.considered:6,} {len(found):6,} {found.ties:4,} "
            f"{1e3 * min(times):6.1f} ms"
        )


def authors():
    print("\nthe authors' (tp, pp): place among those that fit, and how far behind the first")
    way = Training(fused=False, scatter_gather=True)
    for size, preset in presets.MEGATRON_TABLE_1.items():
        cluster = Cluster(preset.layout.world_size, "A100")
        found = layouts(preset.model, cluster, way)
        # In 2021 there was no context parallelism, and recomputation was of whole layers.
        sizes = {"tp": preset.layout.tp, "pp": preset.layout.pp}
        shown(size, found, sizes, cp=1, recompute=2)
    way = Training(sequence_parallel=True, zero=2, overlap=True)
    for name, preset in presets.LLAMA3_405B.items():
        # Theirs took what the reserve would leave free.
        found = layouts(preset.model, Cluster(preset.layout.world_size), way, reserve=0)
        sizes = {axis: getattr(preset.layout, axis) for axis in ("tp", "cp", "pp")}
        shown(f"Llama 3 405B, {name}", found, sizes)


def shown(name, found, sizes, **among):
    found = found.among(**among) if among else found
    said = " ".join(f"{axis} {size}" for axis, size in sizes.items())
    if not found.where(**sizes).size:
        print(f"{name:28} {said}: does not fit here")
        return
    place, of, slower = found.place(**sizes)
    print(f"{name:28} {said}: {place} of {of}, {slower:.1%} behind; first: {found.row(0)}")


if __name__ == "__main__":
    assert cost.MACHINES
    rows()
    speed()
    authors()
