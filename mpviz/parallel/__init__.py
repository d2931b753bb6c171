"""Megatron's model parallelism on real ranks, small enough to read.

Everything takes the process group as an argument, so the same code runs under `mpviz.World` in a
notebook and under ``torchrun`` on many machines.

- `collectives`: the operators f, g and their kin: pairs that are each other's backward;
- `tensor`: `ColumnParallelLinear`, `RowParallelLinear`;
- `transformer`: `ParallelMLP`, `ParallelAttention`;
- `reference`: `MLP`, `SelfAttention`: the same on one process;
- `vocab`: `VocabParallelEmbedding`, `masked_cross_entropy`;
- `data`: `DistributedDataParallel`; `copies`: `copies_agree`;
- `zero`: `DistributedOptimizer`: ZeRO 1 and 2; `fully_sharded`: `fully_shard`, ZeRO 3;
- `optim`: `Adam`, and clipping by the norm of all gradients;
- `gpt`: `GPT`, `gpt_stage`, of the `gpt_layers` that a `gpt_config` says; `random`: the seeds of
  its dropout; `texts`: what it learns from;
- `training`: `train_step`, and each of its lines;
- `checkpoint`: save at one layout, load at another (imported by itself: it is torch's, and large);
- `agreement`: ranks compare what they were given before they rely on it.

Examples
--------
>>> from mpviz import ParallelLayout, World
>>> def total(rank, groups):
...     import torch
...     from mpviz.parallel import reduce_from_tensor_model_parallel_region
...     return reduce_from_tensor_model_parallel_region(torch.tensor(rank + 1.0), groups["tp"])
>>> with World(ParallelLayout(nodes=1, gpus_per_node=2, tp=2)) as world:
...     world.run(total)[1]
tensor(3.)
"""

from .collectives import (
    copy_to_tensor_model_parallel_region,
    gather_from_sequence_parallel_region,
    gather_from_tensor_model_parallel_region,
    reduce_from_tensor_model_parallel_region,
    reduce_scatter_to_sequence_parallel_region,
    scatter_to_sequence_parallel_region,
    scatter_to_tensor_model_parallel_region,
)
from .copies import copies_agree
from .data import DistributedDataParallel
from .fully_sharded import full_state_dict, fully_shard
from .gpt import GPT, gpt_stage
from .gpt_config import GPTConfig
from .groups import ParallelState, RankGroups, init
from .optim import Adam, clip_grad_norm
from .random import RNGStatesTracker
from .reference import MLP, SelfAttention
from .tensor import (
    ColumnParallelLinear,
    RowParallelLinear,
    reduce_sequence_parallel_gradients,
)
from .texts import repeated_words, sorted_words
from .training import (
    Step,
    average_gradients,
    microbatches,
    reduce_embedding_gradients,
    train_step,
)
from .transformer import ParallelAttention, ParallelMLP
from .vocab import (
    MASKED,
    VocabParallelEmbedding,
    masked_cross_entropy,
    vocab_parallel_cross_entropy,
)
from .zero import DistributedOptimizer, held_bytes

__all__ = [
    "GPT",
    "MASKED",
    "MLP",
    "Adam",
    "ColumnParallelLinear",
    "DistributedDataParallel",
    "DistributedOptimizer",
    "GPTConfig",
    "ParallelAttention",
    "ParallelMLP",
    "ParallelState",
    "RNGStatesTracker",
    "RankGroups",
    "RowParallelLinear",
    "SelfAttention",
    "Step",
    "VocabParallelEmbedding",
    "average_gradients",
    "clip_grad_norm",
    "copies_agree",
    "copy_to_tensor_model_parallel_region",
    "full_state_dict",
    "fully_shard",
    "gather_from_sequence_parallel_region",
    "gather_from_tensor_model_parallel_region",
    "gpt_stage",
    "held_bytes",
    "init",
    "masked_cross_entropy",
    "microbatches",
    "reduce_embedding_gradients",
    "reduce_from_tensor_model_parallel_region",
    "reduce_scatter_to_sequence_parallel_region",
    "reduce_sequence_parallel_gradients",
    "repeated_words",
    "scatter_to_sequence_parallel_region",
    "scatter_to_tensor_model_parallel_region",
    "sorted_words",
    "train_step",
    "vocab_parallel_cross_entropy",
]
