"""What the tests of data parallelism run on every rank; read there, never imported here."""

import torch
from torch import nn

from mpviz import parallel

STEPS, SAMPLES, WIDE, TALL, OUT = 5, 4, 5, 7, 3
SMALL_BUCKETS = 20  # bytes: less than a weight, more than the last bias

OPTIMIZERS = {
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
    "AdamW": lambda parameters: torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.1),
    "Adam": lambda parameters: parallel.Adam(parameters, lr=0.01, weight_decay=0.1),
}


def make(dtype="float32", seed=1):
    torch.manual_seed(seed)
    layers = nn.Linear(WIDE, TALL), nn.Tanh(), nn.Linear(TALL, OUT)
    return nn.Sequential(*layers).to(getattr(torch, dtype))


def data(parts, dtype="float32"):
    """Inputs of each step and part."""
    torch.manual_seed(2)
    x = torch.randn(STEPS, parts, SAMPLES, WIDE, dtype=torch.float64)
    return x.to(getattr(torch, dtype))


def loss_of(y):
    return y.square().mean()


def one_process(parts, kind, dtype):
    """What one process comes to that accumulates the parts."""
    model = make(dtype)
    optimizer = OPTIMIZERS["SGD" if kind == "SGD" else "AdamW"](model.parameters())
    for x in data(parts, dtype):
        optimizer.zero_grad()
        for part in x:
            (loss_of(model(part)) / parts).backward()
        optimizer.step()
    return model.state_dict()


# ---- ways to train the same: each takes a model, a group and how an optimizer is made, and returns
# the model to call, the optimizer, and how to get the whole weights


def ddp(model, group, make_optimizer):
    wrapped = parallel.DistributedDataParallel(model, group, bucket_bytes=SMALL_BUCKETS)
    return wrapped, make_optimizer(wrapped.parameters()), model.state_dict


def ddp_without_overlap(model, group, make_optimizer):
    wrapped = parallel.DistributedDataParallel(
        model, group, bucket_bytes=SMALL_BUCKETS, overlap=False
    )
    return wrapped, make_optimizer(wrapped.parameters()), model.state_dict


def staged(stage):
    def way(model, group, make_optimizer):
        wrapped = parallel.DistributedDataParallel(model, group, bucket_bytes=SMALL_BUCKETS)
        optimizer = parallel.DistributedOptimizer(wrapped, make_optimizer, stage=stage)
        return wrapped, optimizer, model.state_dict

    return way


def fully_sharded(model, group, make_optimizer):
    for layer in model:
        parallel.fully_shard(layer, group)
    parallel.fully_shard(model, group)
    return model, make_optimizer(model.parameters()), lambda: parallel.full_state_dict(model)


def torchs_ddp(model, group, make_optimizer):
    wrapped = nn.parallel.DistributedDataParallel(model, process_group=group)
    return wrapped, make_optimizer(wrapped.parameters()), model.state_dict


def torchs_zero(model, group, make_optimizer):
    from torch.distributed.optim import ZeroRedundancyOptimizer

    wrapped = nn.parallel.DistributedDataParallel(model, process_group=group)
    probe = make_optimizer([nn.Parameter(torch.ones(1))])
    options = {k: v for k, v in probe.defaults.items() if k in ("lr", "momentum", "weight_decay")}
    optimizer = ZeroRedundancyOptimizer(
        wrapped.parameters(), type(probe), process_group=group, **options
    )
    return wrapped, optimizer, model.state_dict


def torchs_fully_shard(model, group, make_optimizer):
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.fsdp import fully_shard

    mesh = DeviceMesh.from_group(group, "cpu")
    for layer in model:
        if isinstance(layer, nn.Linear):
            fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)

    def whole():
        return {name: tensor.full_tensor() for name, tensor in model.state_dict().items()}

    return model, make_optimizer(model.parameters()), whole


OURS = {
    "DDP": ddp,
    "DDP without overlap": ddp_without_overlap,
    "stage 0": staged(0),
    "stage 1": staged(1),
    "stage 2": staged(2),
    "fully_shard": fully_sharded,
}
TORCHS = {
    "torch's DDP": torchs_ddp,
    "torch's ZeroRedundancyOptimizer": torchs_zero,
    "torch's fully_shard": torchs_fully_shard,
}


def trained(way, kind, dtype, group):
    """What this rank's part of five steps comes to: the whole weights."""
    model, optimizer, whole = {**OURS, **TORCHS}[way](make(dtype), group, OPTIMIZERS[kind])
    for x in data(group.size(), dtype):
        optimizer.zero_grad()
        loss_of(model(x[group.rank()])).backward()
        optimizer.step()
    return {name: tensor.detach().clone() for name, tensor in whole().items()}


def difference(found, expected):
    """The largest difference, against the largest value; 0.0 only if bit for bit the same."""
    assert list(found) == list(expected)
    for name, tensor in found.items():
        assert tensor.shape == expected[name].shape and tensor.dtype == expected[name].dtype
    worst = [
        ((tensor - expected[name]).abs().max() / expected[name].abs().max()).item()
        for name, tensor in found.items()
    ]
    return max(worst)


def differences(ways, kind, dtype, group):
    expected = one_process(group.size(), kind, dtype)
    return {way: difference(trained(way, kind, dtype, group), expected) for way in ways}


# ---- a step to be recorded and measured


class Step:
    """One training step of a model in bfloat16 or float32, ready to be taken."""

    def __init__(self, way, dtype, group):
        self.model, self.optimizer, _ = OURS[way](make(dtype), group, OPTIMIZERS["Adam"])
        # As of a layer in the middle: a first layer needs no gradient of its input, so its backward
        # needs no weight.
        self.x = data(group.size(), dtype)[0, group.rank()].requires_grad_()

    def forward_and_backward(self):
        self.optimizer.zero_grad()
        loss_of(self.model(self.x)).backward()

    def __call__(self):
        self.forward_and_backward()
        self.optimizer.step()

    def held(self):
        return parallel.held_bytes(self.model, self.optimizer)


def gradients_of(model):
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def said(do):
    try:
        do()
    except Exception as error:
        return str(error)
    return "nothing"
