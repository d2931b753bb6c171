"""torchrun on two nodes: `parallel.init`, its groups, and the GPT, unchanged."""

import json
import os
import sys
import time
from pathlib import Path

import nbformat
import pytest

from mpviz import ParallelLayout
from mpviz.names import GROUP_KINDS

ROOT = Path(__file__).parents[2]
RANKS = Path(__file__).with_name("torchrun_ranks.py")
# Dense and expert, in Megatron's order and others; the first is that of lesson 08.
LAYOUTS = [
    {"tp": 2, "pp": 4},
    {"tp": 8, "pp": 2},
    {"tp": 1, "pp": 16},
    {"tp": 16, "pp": 1},
    {"tp": 2, "pp": 2, "cp": 2},
    {"tp": 2, "pp": 4, "order": "pp-tp-cp-ep-dp"},
    {"tp": 4, "pp": 2, "order": "dp-tp-cp-ep-pp"},
    {"tp": 1, "pp": 4, "ep": 2},
    {"tp": 2, "pp": 2, "ep": 4},
    {"tp": 2, "pp": 2, "ep": 4, "expert_tp": 1},
    {"tp": 1, "pp": 2, "cp": 2, "ep": 8},
    {"tp": 4, "pp": 1, "ep": 2, "expert_tp": 2},
]


def torchrun(nodes, script, *arguments, each=8, **environment):
    """Start torchrun on both nodes, as `mpviz.parallel.init` describes it."""
    for number, node in enumerate((nodes[0], nodes[1])):
        how = {
            "nnodes": 2,
            "nproc-per-node": each,
            "rdzv-backend": "c10d",
            "rdzv-endpoint": f"{nodes[0].address}:29500",
            "rdzv-conf": f"is_host={int(number == 0)}",
            "local-addr": node.address,
        }
        words = [f"--{name}={value}" for name, value in how.items()]
        own = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "eth0"}
        yield node.popen(
            [sys.executable, "-m", "torch.distributed.run", *words, str(script), *arguments],
            env=os.environ | own | environment,
        )


def stored_losses():
    """What lesson 08 shows of three other layouts, as it lies in the repository."""
    lesson = nbformat.read(ROOT / "notebooks" / "08_train_a_gpt_on_16_ranks.ipynb", 4)
    texts = [out.text for cell in lesson.cells for out in cell.get("outputs", []) if "text" in out]
    (lines,) = [text.splitlines() for text in texts if "tp=4 pp=2 dp=2:" in text]
    return [[float(word) for word in line.split(": ")[1].split()] for line in lines]


def expected(layout, rank):
    told = {}
    for kind in GROUP_KINDS:
        try:
            told[kind] = list(layout.groups(kind).of(rank))
        except ValueError:
            continue  # a middle stage has no embeddings; a dense order may have no expert grid
    return told


@pytest.mark.timeout(240)
def test_groups_are_those_of_the_layout_and_losses_those_of_the_notebook(nodes, tmp_path):
    sizes = [{"nodes": 2, "gpus_per_node": 8} | sizes for sizes in LAYOUTS]
    (tmp_path / "layouts.json").write_text(json.dumps(sizes))
    deadline = time.monotonic() + 200
    started = list(torchrun(nodes, RANKS, str(tmp_path)))
    assert [one.wait(deadline - time.monotonic()) for one in started] == [0, 0]
    for rank in range(16):
        told = json.loads((tmp_path / f"rank-{rank}.json").read_text())
        for layout, seen in zip(sizes, told["groups"], strict=True):
            assert seen == expected(ParallelLayout(**layout), rank), (layout, rank)
        shown = [round(loss, 4) for loss in told["losses"]]
        assert [shown] * 3 == stored_losses()
