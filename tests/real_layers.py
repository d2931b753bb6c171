"""Real modules to hold `mpviz.cost` against: ours and Megatron's, in one process, on no GPU.

torch's fake process group has as many ranks as one likes, and moves nothing: shapes are right, and
numbers mean nothing.
"""

import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop
from torch.utils.flop_counter import FlopCounterMode

from mpviz.parallel import (
    GPT,
    ColumnParallelLinear,
    GPTConfig,
    RowParallelLinear,
    gpt_stage,
)


def fake_groups(sizes=(1, 2, 4, 8)):
    """Yield a group of each size, in which this process is rank 0."""
    dist.init_process_group("fake", rank=0, world_size=max(sizes), store=FakeStore())
    yield {size: dist.new_group(list(range(size))) for size in sizes}
    dist.destroy_process_group()


def config_of(model, **options):
    """The same sizes for our GPT."""
    return GPTConfig(
        num_layers=model.layers,
        hidden_size=model.hidden,
        num_heads=model.heads,
        num_kv_heads=model.kv_heads,
        ffn_hidden_size=model.ffn,
        vocab_size=model.vocabulary,
        sequence=model.sequence,
        norm=model.norm,
        positions=model.positions,
        activation=model.activation,
        bias=model.bias,
        tied=model.tied,
        **options,
    )


def built(model, stage, of, group, **options):
    """A stage of our GPT."""
    return gpt_stage(config_of(model, **options), stage, of, {"tp": group})


def parameters_of(model, stage, of, group):
    return sum(p.numel() for p in built(model, stage, of, group).parameters())


# ---- what autograd keeps


def kept_bytes(layer, x):
    """Bytes that forward keeps for backward, each storage once, without parameters."""
    kept, held = {}, {p.untyped_storage().data_ptr() for p in layer.parameters()}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in held:
            kept[storage.data_ptr()] = storage.nbytes(), tensor  # so that it is not freed
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        layer(x.to(torch.bfloat16).requires_grad_())
    return sum(nbytes for nbytes, _ in kept.values())


class TrainingLayer(nn.Module):
    """A layer of Megatron's GPT of 2022 in bf16, from our own parallel linear layers.

    Scores are kept, in bf16, and dropout keeps a byte for each of its numbers (`F.dropout` keeps
    two on a CPU).
    """

    def __init__(self, model, group, sequence_parallel, selective):
        super().__init__()
        h, options = model.hidden, {"dtype": torch.bfloat16, "check": False}
        options["sequence_parallel"] = sequence_parallel
        self.heads, self.selective = model.heads // group.size(), selective
        self.norms = nn.ModuleList(nn.LayerNorm(h, dtype=torch.bfloat16) for _ in range(2))
        self.qkv = ColumnParallelLinear(h, 3 * h, group, stacked=3, **options)
        self.proj = RowParallelLinear(h, h, group, **options)
        self.fc1 = ColumnParallelLinear(h, model.ffn, group, **options)
        self.fc2 = RowParallelLinear(model.ffn, h, group, **options)

    def forward(self, x):
        q, k, v = self.qkv(self.norms[0](x)).chunk(3, -1)
        if self.selective:
            found = checkpoint(self.attend, q, k, v, use_reentrant=False)
        else:
            found = self.attend(q, k, v)
        x = x + dropped(self.proj(found))
        y = nn.functional.gelu(self.fc1(self.norms[1](x)))
        return x + dropped(self.fc2(y))

    def attend(self, q, k, v):
        s, b, _ = q.shape
        q, k, v = (part.reshape(s, b * self.heads, -1).transpose(0, 1) for part in (q, k, v))
        scores = dropped(torch.softmax(q @ k.transpose(1, 2), -1))
        return (scores @ v).transpose(0, 1).reshape(s, b, -1)


def training_layer(model, group, sequence_parallel, selective):
    return TrainingLayer(model, group, sequence_parallel, selective)


def dropped(x):
    return torch.native_dropout(x, 0.1, True)[0]


# ---- what torch counts


def counted_flops(model, *, full):
    """FLOPs of forward and backward of our GPT on the device meta."""
    normal = nn.init.normal_
    with torch.device("meta"):
        nn.init.normal_ = lambda tensor, *_, **__: tensor  # a generator is of a CPU
        try:
            gpt = GPT(config_of(model))
        finally:
            nn.init.normal_ = normal
        tokens = torch.zeros(model.sequence, model.batch, dtype=torch.int64)
        if full:
            for layer in gpt.layers.values():
                layer.forward = recomputed(layer.forward)
        early = set_checkpoint_early_stop(False) if full else nullcontext()
        with FlopCounterMode(display=False) as counter, early:
            gpt(tokens).sum().backward()
    return counter.get_total_flops()


def recomputed(forward):
    return lambda x: checkpoint(forward, x, use_reentrant=False, preserve_rng_state=False)


# ---- Megatron's own


def megatron_parameters(model, *, tp, pp, ep):
    """Parameters of stages 0, 1 and 3 of megatron-core's GPTModel, in a process of its own."""
    shape = {
        "num_layers": model.layers,
        "hidden_size": model.hidden,
        "num_attention_heads": model.heads,
        "num_query_groups": model.kv_heads,
        "ffn_hidden_size": model.ffn,
    }
    options = {"experts": model.experts or None, "words": model.vocabulary, "top_k": model.top_k}
    script = Path(__file__).parent / "oracles" / "core_parameters.py"
    said = subprocess.run(
        [sys.executable, script, repr({**shape, **options, "tp": tp, "pp": pp, "ep": ep})],
        check=True, capture_output=True, text=True, timeout=110,
    ).stdout  # fmt: skip
    return eval(said.splitlines()[-1])
