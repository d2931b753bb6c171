"""Adam beside torch's, and the norm of all gradients beside that of one process."""

from pathlib import Path

import pytest
import torch
from torch import nn

from mpviz import ParallelLayout
from mpviz.parallel import Adam, clip_grad_norm
from mpviz.world import World


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_adam_is_torchs_bit_for_bit(dtype, weight_decay):
    torch.manual_seed(0)
    start = torch.randn(3, 4, dtype=dtype)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    options = {"lr": 0.02, "betas": (0.8, 0.99), "eps": 1e-6, "weight_decay": weight_decay}
    adam, adamw = Adam([ours], **options), torch.optim.AdamW([theirs], **options, foreach=False)
    for step in range(7):
        gradient = torch.randn(3, 4, dtype=dtype)
        ours.grad, theirs.grad = (None, None) if step == 3 else (gradient, gradient.clone())
        adam.step()
        adamw.step()
        assert torch.equal(ours, theirs)


def test_half_precision_learns_by_less_than_its_own_digits():
    weight = nn.Parameter(torch.ones(1, dtype=torch.bfloat16))
    adam = Adam([weight], lr=1e-3)
    for _ in range(8):  # each step is less than a quarter of the distance to the next number
        weight.grad = torch.ones_like(weight)
        adam.step()
    assert weight.item() == pytest.approx(0.992, abs=0.002)
    assert adam.state[weight]["master"].item() == pytest.approx(0.992, abs=1e-6)


def test_a_norm_that_is_small_enough_changes_nothing():
    layer = nn.Linear(2, 1, bias=False)
    layer.weight.grad = torch.tensor([[0.3, 0.4]])
    assert clip_grad_norm([layer], 1.0) == pytest.approx(0.5)
    assert torch.equal(layer.weight.grad, torch.tensor([[0.3, 0.4]]))


PROGRAM = (
    (Path(__file__).parent / "data_ranks.py").read_text()
    + """
HIDDEN, FFN, TOKENS = 8, 16, 6
group, tp, pp = groups["dp-cp"], groups["tp"], groups["pp"]

class Uncut(nn.Module):
    def __init__(self, stage):
        super().__init__()
        torch.manual_seed(stage)
        self.norm, self.mlp = nn.LayerNorm(HIDDEN), parallel.MLP(HIDDEN, FFN)
        torch.manual_seed(99)
        self.tied = nn.Parameter(torch.randn(HIDDEN))  # the same in both stages

    def forward(self, x):
        return self.mlp(self.norm(x)) * self.tied

def cut(stage):
    module = Uncut(stage)
    module.mlp = parallel.ParallelMLP.from_reference(module.mlp, tp)
    module.tied.shared = pp.rank() > 0
    return module

def losses(modules, copy):
    torch.manual_seed(copy)
    x = torch.randn(2, TOKENS, HIDDEN)
    return [loss_of(module(x[stage])) for stage, module in modules.items()]

def expected(max_norm):
    whole = {stage: Uncut(stage) for stage in range(2)}
    whole[1].tied = whole[0].tied
    for copy in range(group.size()):
        for loss in losses(whole, copy):
            (loss / group.size()).backward()
    # What ranks add up over the embedding group; here each has the sum already.
    parameters = nn.ModuleList(whole.values()).parameters()
    return whole, float(nn.utils.clip_grad_norm_(parameters, max_norm))

def clipped(way, max_norm):
    whole, norm = expected(max_norm)
    mine = cut(pp.rank())
    model, optimizer, _ = OURS[way](mine, group, OPTIMIZERS["Adam"])
    optimizer.zero_grad()
    torch.manual_seed(group.rank())
    x = torch.randn(2, TOKENS, HIDDEN)[pp.rank()]
    loss_of(model(x)).backward()
    if mine.tied.grad is not None and way == "DDP":
        torch.distributed.all_reduce(mine.tied.grad, group=pp)
    found = parallel.clip_grad_norm(model, max_norm, tp=tp, pp=pp)
    scale = None
    if way == "DDP":
        theirs = whole[pp.rank()].norm.weight.grad
        scale = (mine.norm.weight.grad - theirs).abs().max().item() / theirs.abs().max().item()
    return found, norm, scale
"""
)


@pytest.fixture(scope="module")
def world():
    with World(ParallelLayout(gpus_per_node=8, tp=2, pp=2), timeout=60) as world:
        world.cell(PROGRAM)
        yield world


def test_the_norm_is_that_of_the_whole_model(world):
    for max_norm in (0.01, 1e6):
        for found, norm, off in world.cell(f"clipped('DDP', {max_norm})"):
            assert found == pytest.approx(norm, rel=1e-5)
            assert off < 1e-4


def test_the_norm_is_the_same_at_each_stage_of_zero(world):
    # Without the sum over the tied copies, which the lines above show.
    plain = None
    for way in ("DDP", "stage 1", "stage 2", "fully_shard"):
        world.cell(f"""
mine = cut(pp.rank())
def way(module, *others):
    if {way!r} != "fully_shard":
        return OURS[{way!r}](module, *others)
    parallel.fully_shard(module.mlp, group)
    parallel.fully_shard(module, group)
    return module, OPTIMIZERS["Adam"](module.parameters()), None
model, optimizer, _ = way(mine, group, OPTIMIZERS["Adam"])
torch.manual_seed(group.rank())
loss_of(model(torch.randn(2, TOKENS, HIDDEN)[pp.rank()])).backward()
""")
        norms = list(world.cell("parallel.clip_grad_norm(model, 0.01, tp=tp, pp=pp)"))
        assert len(set(norms)) == 1
        plain = plain or norms[0]
        assert norms[0] == pytest.approx(plain, rel=1e-6)
        # Afterwards it is the largest that is allowed.
        again = world.cell("parallel.clip_grad_norm(model, 0.01, tp=tp, pp=pp)")
        assert list(again) == pytest.approx([0.01] * 8, rel=1e-3)
