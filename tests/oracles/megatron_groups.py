"""Which getter of Megatron reports which kind of group.

Megatron is imported by the functions, not the module: importing it takes seconds, which a run
of the other tests should not pay for.
"""

from collections.abc import Callable
from typing import Any


def getters() -> dict[str, Callable[[], Any]]:
    """Return, for each kind of group, what returns the group that this process is in."""
    from megatron.core import parallel_state as ps

    return {
        "tp": ps.get_tensor_model_parallel_group,
        "pp": ps.get_pipeline_model_parallel_group,
        "dp": ps.get_data_parallel_group,
        "cp": ps.get_context_parallel_group,
        "tp-pp": ps.get_model_parallel_group,
        "dp-cp": lambda: ps.get_data_parallel_group(with_context_parallel=True),
        "tp-dp": ps.get_tensor_and_data_parallel_group,
        "tp-cp": ps.get_tensor_and_context_parallel_group,
        "tp-dp-cp": lambda: ps.get_tensor_and_data_parallel_group(with_context_parallel=True),
        "embedding": lambda: ps.get_embedding_group(check_initialized=False),
        "position_embedding": lambda: ps.get_position_embedding_group(check_initialized=False),
        "ep": ps.get_expert_model_parallel_group,
        "etp": ps.get_expert_tensor_parallel_group,
        "edp": ps.get_expert_data_parallel_group,
        "etp-ep": ps.get_expert_tensor_and_model_parallel_group,
        "etp-ep-pp": ps.get_expert_tensor_model_pipeline_parallel_group,
    }


def reported() -> dict[str, list[int] | None]:
    """Return the ranks of every group that this process is in; None where it is in none."""
    from torch.distributed import get_process_group_ranks

    groups = {kind: getter() for kind, getter in getters().items()}
    return {
        kind: None if group is None else get_process_group_ranks(group)
        for kind, group in groups.items()
    }
