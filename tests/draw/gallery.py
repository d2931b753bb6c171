"""Save every drawing of every corner case as PNG, to look at: ``make pictures``."""

import re
import sys
from itertools import product
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from draw.pipelines import PIPELINES
from draw.test_charts import STAGES, overlapped
from draw.test_legible import CHARTS, CORNER_CASES, DRAWINGS, PIECES, SHARDS, TENSOR_PARALLEL

from mpviz import ParallelLayout, draw
from mpviz.draw import Picture
from mpviz.shards import buckets_of

FOLDER = Path(__file__).parents[2] / ".screenshots" / "pictures"


def save(name: str, picture: Picture) -> None:
    (FOLDER / f"{re.sub(r'[^a-z0-9]+', '_', name.lower())}.png").write_bytes(picture.png())


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for layout in CORNER_CASES:
        for name, make in DRAWINGS.items():
            sizes = f"{layout.world_size}_tp{layout.tp}_cp{layout.cp}_dp{layout.dp}_pp{layout.pp}"
            save(f"{sizes} {name}", make(layout))
    for (tp, pp), (name, make) in product([(1, 1), (2, 1), (2, 4), (8, 8)], PIECES.items()):
        layout = ParallelLayout(nodes=tp * pp, gpus_per_node=1, tp=tp, pp=pp)
        save(f"{name} tp{tp} pp{pp}", make(layout))
    for tp, sequence_parallel in product(TENSOR_PARALLEL, (False, True)):
        for name, make_shards in SHARDS.items():
            sp = " sequence-parallel" * sequence_parallel
            save(f"{name} tp{tp}{sp}", make_shards(tp, sequence_parallel))
    for (pipeline, timeline), (chart, make_chart) in product(PIPELINES.items(), CHARTS.items()):
        save(f"{pipeline} {chart}", make_chart(timeline()))
    save("memory of the stages of zero", draw.memory(STAGES, capacity=80e9))
    shapes = {"0.weight": (16, 12), "0.bias": (16,), "2.weight": (10, 16), "2.bias": (10,)}
    for dp in (1, 2, 4, 64):
        save(f"owned dp{dp}", draw.owned(buckets_of(shapes, dp, full=170)))
        save(f"backward dp{dp}", draw.backward(overlapped(dp)))
    print(f"{len(list(FOLDER.glob('*.png')))} pictures in {FOLDER}")


if __name__ == "__main__":
    main()
