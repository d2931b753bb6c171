"""What the tests of collectives run on every rank; read there, never imported here."""

import torch
import torch.distributed as dist

from mpviz import schedule  # noqa: F401  for what is run after this

first = {n: dist.new_group(list(range(n))) for n in range(1, dist.get_world_size() + 1)}
"""Of each size the group of the first ranks."""


def by_hand(plan, tensor):
    """Take a plan's steps by sends and receives; return the result, and all held after each."""
    mine = plan.inputs(rank)  # noqa: F821  the ranks' own name
    part = torch.empty_like(tensor.chunk(len(mine))[0] if mine else tensor.chunk(plan.chunks)[0])
    memory = dict(zip(mine, tensor.chunk(len(mine)) if mine else (), strict=True))
    steps = [dict(memory)]
    for sends, receives in plan.of(rank):  # noqa: F821
        going = [
            dist.isend(torch.cat([memory[c] for c in send.chunks]), send.receiver) for send in sends
        ]
        for send in receives:
            arrived = torch.cat([part] * len(send.chunks))
            dist.recv(arrived, send.sender)
            for c, piece in zip(send.chunks, arrived.chunk(len(send.chunks)), strict=True):
                memory[c] = memory[c] + piece if send.reduces else piece
        for each in going:
            each.wait()
        steps.append(dict(memory))
    return torch.cat([memory[c] for c in plan.outputs(rank)]), steps  # noqa: F821


def by_torch(name, tensor, n):
    """The same by the collective itself."""
    group, x = first[n], tensor.clone()
    if name == "broadcast":
        dist.broadcast(x, 0, group=group)
        return x
    if name == "all_reduce":
        dist.all_reduce(x, group=group)
        return x
    size = len(x) // n
    if name == "all_gather":
        parts = [torch.empty_like(x) for _ in range(n)]
        dist.all_gather(parts, x, group=group)
        return torch.cat(parts)
    if name == "reduce_scatter":
        mine = x.new_empty(size)
        dist.reduce_scatter(mine, list(x.chunk(n)), group=group)
        return mine
    parts = [x.new_empty(size) for _ in range(n)]
    dist.all_to_all(parts, list(x.chunk(n)), group=group)
    return torch.cat(parts)


def tensor_of(rank, n):
    """Whole numbers, of which floats are exact: three in each of n chunks."""
    return torch.arange(3.0 * n) * (rank + 1) + 1000 * rank


def results(plans):
    """What each plan leaves on this rank, by hand and by torch, and what it holds after each step.

    None where it takes no part.
    """
    found = []
    for plan in plans:
        if rank >= plan.ranks:  # noqa: F821
            found.append(None)
            continue
        mine = tensor_of(rank, plan.ranks)  # noqa: F821
        result, steps = by_hand(plan, mine)
        lists = [{chunk: piece.tolist() for chunk, piece in held.items()} for held in steps]
        found.append((result.tolist(), by_torch(plan.name, mine, plan.ranks).tolist(), lists))
    return found


# ---- the ring of the lesson, watched


class Watching:
    """torch.distributed, as far as the ring needs it; keeps what is sent."""

    def __init__(self, real):
        self.real, self.recv, self.sent = real, real.recv, []

    def isend(self, tensor, to):
        self.sent.append((to, tensor.nonzero().tolist()))
        return self.real.isend(tensor, to)
