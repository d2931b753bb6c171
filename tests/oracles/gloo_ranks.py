"""Run initialize_model_parallel in real processes: ``gloo_ranks.py FOLDER TP PP``.

Each of 16 ranks answers with the groups that Megatron reports there, and whom it heard in them.
"""

import sys
from pathlib import Path

from forked import answer  # a script finds its neighbours


def observe(rank: int, tp: int, pp: int) -> dict[str, object]:
    """Return the groups that Megatron gives a rank, and their members' hails."""
    import torch
    import torch.distributed as dist
    from megatron.core import parallel_state
    from oracles.megatron_groups import getters, reported

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
    return {"groups": groups, "heard": heard}


if __name__ == "__main__":
    import megatron.core.parallel_state  # noqa: F401  so that the forks find it imported

    sys.path.insert(0, str(Path(__file__).parents[1]))
    answer(Path(sys.argv[1]), 16, observe, *map(int, sys.argv[2:]))
