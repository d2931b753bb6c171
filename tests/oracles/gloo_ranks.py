"""Run initialize_model_parallel in real processes: ``gloo_ranks.py FOLDER WORLD TP PP``.

Every rank writes FOLDER/RANK.json: the groups that Megatron reports there, and whom it heard
in them. Megatron is imported once, then the ranks are forked: a second each instead of eight.
"""

import json
import os
import sys
import traceback
from datetime import timedelta
from pathlib import Path

from forked import run_ranks  # a script finds its neighbours

RENDEZVOUS_DEADLINE = timedelta(seconds=60)
RANKS_DEADLINE = 120.0


def observe(folder: Path, rank: int, world: int, tp: int, pp: int) -> dict[str, object]:
    """Join the world as one rank; return the groups Megatron gives it, and their members' hails."""
    import torch
    import torch.distributed as dist
    from megatron.core import parallel_state
    from oracles.megatron_groups import getters, reported

    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/rendezvous",
        rank=rank,
        world_size=world,
        timeout=RENDEZVOUS_DEADLINE,
    )
    parallel_state.initialize_model_parallel(
        tp, pp, create_gloo_process_groups=False, distributed_timeout_minutes=1
    )
    groups = reported()
    heard = {}
    for kind, ranks in groups.items():
        if ranks is not None:
            hails = [torch.empty(1, dtype=torch.int64) for _ in ranks]
            dist.all_gather(hails, torch.tensor([rank]), group=getters()[kind]())
            heard[kind] = torch.cat(hails).tolist()
    # A rank that left early would cut off those still talking.
    dist.barrier()
    dist.destroy_process_group()
    return {"groups": groups, "heard": heard}


def report(folder: Path, rank: int, *sizes: int) -> None:
    """Write what one rank observed, or its traceback."""
    try:
        written = observe(folder, rank, *sizes)
    except BaseException:
        written = {"failure": traceback.format_exc()}
    (folder / f"{rank}.json").write_text(json.dumps(written))


def main(folder: Path, world: int, tp: int, pp: int) -> None:
    import megatron.core.parallel_state  # noqa: F401  so that the forks find it imported

    arguments = [(folder, rank, world, tp, pp) for rank in range(world)]
    run_ranks(report, arguments, seconds=RANKS_DEADLINE)


if __name__ == "__main__":
    os.environ |= {
        "OMP_NUM_THREADS": "1",
        # Whatever the hostname resolves to, ranks of one machine meet on loopback.
        "GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo",
    }
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
