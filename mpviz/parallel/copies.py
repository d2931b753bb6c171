"""Copies of a module on several ranks: begun equal, and compared."""

from collections.abc import Iterable, Iterator, Mapping
from zlib import crc32

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .._checks import listed
from ..waits import Awaited, waiting
from .agreement import agreed, check_group, described

_MOST_NAMED = 4


def start_equal(module: nn.Module, group: dist.ProcessGroup) -> None:
    """Give every rank the parameters and buffers of the group's first rank.

    Raises
    ------
    ValueError
        On every rank, when their names, shapes or dtypes differ, or which are frozen.
    """
    tensors = {name: t for name, t in _named_tensors(module) if not hasattr(t, "unit")}
    _check_same(tensors, group)
    if group.size() > 1:
        source = dist.get_process_group_ranks(group)[0]
        for tensor in filter(Tensor.numel, tensors.values()):
            data = tensor.detach().contiguous()
            dist.broadcast(data.view(-1).view(torch.uint8), source, group=group)
            if data.data_ptr() != tensor.data_ptr():
                tensor.detach().copy_(data)


def copies_agree(module: nn.Module, group: dist.ProcessGroup) -> bool:
    """Return True if all ranks hold the same parameters and buffers, bit for bit.

    Each rank sends eight bytes a tensor, a checksum.

    Parameters
    ----------
    module : Module
        A copy on each rank.
    group : ProcessGroup
        Everybody who holds a copy: ``groups["dp-cp"]``.

    Raises
    ------
    ValueError
        On every rank, when the copies differ: in which tensors, and which ranks hold the same. Or
        when the module is fully sharded, so that nobody holds a copy.

    Examples
    --------
    >>> from mpviz import ParallelLayout, World
    >>> def compared(rank, groups):
    ...     import torch
    ...     from mpviz.parallel import copies_agree
    ...     layer = torch.nn.Linear(1, 1)
    ...     for parameter in layer.parameters():
    ...         parameter.data.fill_(rank % 2)
    ...     try:
    ...         copies_agree(layer, groups["dp"])
    ...     except ValueError as error:
    ...         return str(error)
    >>> with World(ParallelLayout(nodes=1, gpus_per_node=4)) as world:
    ...     print(world.run(compared)[0])
    2 of 2 tensors differ: weight (ranks 0 and 2; 1 and 3), bias (ranks 0 and 2; 1 and 3)
    """
    check_group(group)
    tensors = dict(_named_tensors(module))
    if any(hasattr(tensor, "unit") for tensor in tensors.values()):
        raise ValueError("the module is fully sharded: each rank holds its shards, nobody a copy")
    _check_same(tensors, group)
    held = _from_everybody(map(_checksum, tensors.values()), group, device_of(module))
    ranks = dist.get_process_group_ranks(group)
    differing = []
    for name, marks in zip(tensors, zip(*held, strict=True), strict=True):
        if len(set(marks)) > 1:
            alike = [
                [rank for rank, mark in zip(ranks, marks, strict=True) if mark == one]
                for one in dict.fromkeys(marks)
            ]
            differing.append(f"{name} (ranks {'; '.join(listed(a, ' and ') for a in alike)})")
    if differing:
        more = [f"{len(differing) - _MOST_NAMED} more"] if len(differing) > _MOST_NAMED else []
        raise ValueError(
            f"{len(differing)} of {len(tensors)} tensors differ: "
            f"{', '.join(differing[:_MOST_NAMED] + more)}"
        )
    return True


def _named_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def _checksum(tensor: Tensor) -> int:
    data = tensor.detach().contiguous().cpu().view(-1).view(torch.uint8)
    return crc32(data.numpy().data)


def device_of(module: nn.Module) -> torch.device:
    """Return where the ranks compare: where the module is."""
    return next((tensor.device for _, tensor in _named_tensors(module)), torch.device("cpu"))


def _check_same(tensors: Mapping[str, Tensor], group: dist.ProcessGroup) -> None:
    """Raise on every rank unless all have the same names and shapes; show the first that differ."""
    lines = [f"{name} {described(tensor)}" for name, tensor in tensors.items()]
    first = next(iter(tensors.values()), torch.empty(0))
    name = next(iter(tensors), "none")
    with agreed(group, first, purpose=f", {name}, first of {len(lines)} parameters and buffers"):
        pass
    marks = _from_everybody([crc32(line.encode()) for line in lines], group, first.device)
    for n, of_ranks in enumerate(zip(*marks, strict=True)):
        if len(set(of_ranks)) > 1:
            with agreed(group, first):
                raise ValueError(f"number {n + 1} is {lines[n]}")


def _from_everybody(
    numbers: Iterable[int], group: dist.ProcessGroup, device: torch.device
) -> list[list[int]]:
    """Return what each rank has to tell, in as many numbers on all."""
    mine = torch.tensor(list(numbers), dtype=torch.int64, device=device)
    told = [torch.empty_like(mine) for _ in range(group.size())]
    if group.size() == 1 or not len(mine):
        return [mine.tolist()] * group.size()
    waiting(Awaited("agree", group), lambda: group.allgather([told], [mine]).wait())
    return [one.tolist() for one in told]
