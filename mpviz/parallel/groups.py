"""Every process group of a layout, made on real ranks: in a notebook, and under torchrun."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

import torch.distributed as dist

from .._checks import seconds
from ..layout import ParallelLayout
from ..names import GROUP_KINDS

TIMEOUT = 600.0
"""Seconds that a rank waits for others; NCCL's own default. Gloo's own would be 1,800."""


class RankGroups(dict[str, dist.ProcessGroup]):
    """The process groups that a rank is in, by kind: ``groups["tp"]``."""

    def __init__(self, rank: int, groups: Mapping[str, dist.ProcessGroup]) -> None:
        super().__init__(groups)
        self._rank = rank

    def __missing__(self, kind: str) -> dist.ProcessGroup:
        raise ValueError(f"rank {self._rank} is in no {kind!r} group; it is in {', '.join(self)}")

    def __repr__(self) -> str:
        ranks = {kind: dist.get_process_group_ranks(group) for kind, group in self.items()}
        return "\n".join(f"{kind:19} {' '.join(map(str, who))}" for kind, who in ranks.items())


@dataclass(frozen=True)
class ParallelState:
    """What a rank knows of itself.

    Attributes
    ----------
    layout : ParallelLayout
        Who is who.
    rank, world_size : int
        Among all ranks.
    tp_rank, cp_rank, dp_rank, pp_rank : int
        Along each axis.
    groups : RankGroups
        Its process group of each kind that it is a member of.
    """

    layout: ParallelLayout
    rank: int
    world_size: int
    tp_rank: int
    cp_rank: int
    dp_rank: int
    pp_rank: int
    groups: RankGroups


def init(
    layout: ParallelLayout, *, backend: str = "gloo", timeout: float = TIMEOUT
) -> ParallelState:
    """Connect the ranks of a layout and make every process group of it.

    Every rank calls it once. Where torch.distributed is not initialised yet, that is done first,
    from the variables that torchrun sets (``RANK``, ``WORLD_SIZE``, ``LOCAL_WORLD_SIZE``,
    ``MASTER_ADDR``, ``MASTER_PORT``). See the notes for several machines.

    Parameters
    ----------
    layout : ParallelLayout
        The same on every rank.
    backend : str
        As in ``init_process_group``: ``"gloo"``, on the CPU; ``"nccl"``, on GPUs; or
        ``"cpu:gloo,cuda:nccl"``, which `pipeline.execute` needs for stages on GPUs. Only gloo has
        been run. With NCCL a script calls ``torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))``
        first.
    timeout : float
        Seconds that a rank waits for the others, here and in each operation of the groups.

    Raises
    ------
    ValueError
        If the processes that were started are not those of the layout, before any waits.

    Notes
    -----
    On several machines torchrun runs once on each, the number of GPUs of a machine as
    ``--nproc-per-node``. With two, of which the first has the address 10.0.0.1, in one line::

        export GLOO_SOCKET_IFNAME=eth0
        torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d
                 --rdzv-endpoint 10.0.0.1:29500 --rdzv-conf is_host=1
                 --local-addr 10.0.0.1 train.py

    and on the second ``is_host=0`` and its own ``--local-addr``.

    - ``GLOO_SOCKET_IFNAME`` is the interface that reaches the other machines. Without it gloo takes
      the address that the machine's own name resolves to, often one that nobody else can reach.
      NCCL reads ``NCCL_SOCKET_IFNAME``.
    - ``is_host=1`` says where ranks meet. Without it torchrun compares the endpoint with the names
      of the machine, and where none is the same nobody opens the port.
    - ``--local-addr`` is what the others are told of a machine; without it, its name.

    Nodes are numbered in the order of these addresses, compared as text; ``--master-addr``,
    ``--master-port`` and ``--node-rank`` in place of ``--rdzv-…`` and ``--local-addr`` number them
    as you say. A script ends with a ``dist.barrier()`` and ``dist.destroy_process_group()``: else a
    rank that ends first may abort those that still talk to it.

    Examples
    --------
    A script, started by ``torchrun --nproc-per-node 4 train.py``::

        state = parallel.init(ParallelLayout(nodes=1, gpus_per_node=4, tp=2, pp=2))
        dist.all_reduce(x, group=state.groups["dp"])

    >>> init(ParallelLayout(nodes=1, gpus_per_node=4, tp=2))
    Traceback (most recent call last):
        ...
    ValueError: RANK, WORLD_SIZE, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT are not set: \
start the script with torchrun --nnodes 1 --nproc-per-node 4
    """
    if not isinstance(layout, ParallelLayout):
        raise ValueError(f"init takes a ParallelLayout, got {layout!r}")
    deadline = timedelta(seconds=seconds(timeout))
    if not dist.is_initialized():
        _check_environment(layout)
        # On one machine the ranks meet on loopback, whatever the machine's name resolves to.
        if layout.nodes == 1:
            loopback = "lo0" if sys.platform == "darwin" else "lo"
            os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
        dist.init_process_group(backend, timeout=deadline)
    if dist.get_world_size() != layout.world_size:
        raise ValueError(_wrong("torch.distributed has", dist.get_world_size(), layout))
    rank = dist.get_rank()
    at = layout.coordinates(rank)
    groups = RankGroups(rank, _groups_of(rank, layout, deadline))
    coordinates = {f"{axis}_rank": at[axis] for axis in ("tp", "cp", "dp", "pp")}
    return ParallelState(layout, rank, layout.world_size, groups=groups, **coordinates)


_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def _check_environment(layout: ParallelLayout) -> None:
    """Raise unless torchrun started as many processes, on as many nodes, as the layout has."""
    missing = [name for name in _VARIABLES if name not in os.environ]
    if missing:
        are = "is" if len(missing) == 1 else "are"
        raise ValueError(f"{', '.join(missing)} {are} not set: {_command(layout)}")
    started, local = _number("WORLD_SIZE"), _number("LOCAL_WORLD_SIZE")
    if started != layout.world_size:
        raise ValueError(_wrong("WORLD_SIZE is", started, layout))
    if local != layout.gpus_per_node:
        raise ValueError(
            f"LOCAL_WORLD_SIZE is {local}, and each node of the layout has {layout.gpus_per_node} "
            f"GPUs: {_command(layout)}"
        )


def _number(variable: str) -> int:
    text = os.environ[variable]
    if not text.isdecimal():
        raise ValueError(f"{variable} must be a whole number, got {text!r}")
    return int(text)


def _wrong(what: str, size: int, layout: ParallelLayout) -> str:
    return (
        f"{what} {size} ranks, and the layout has {layout.nodes} × {layout.gpus_per_node} = "
        f"{layout.world_size}: {_command(layout)}"
    )


def _command(layout: ParallelLayout) -> str:
    return (
        f"start the script with torchrun --nnodes {layout.nodes} "
        f"--nproc-per-node {layout.gpus_per_node}"
    )


def _groups_of(
    rank: int, layout: ParallelLayout, timeout: timedelta
) -> dict[str, dist.ProcessGroup]:
    """Return this rank's group of every kind; kinds with the same members share one.

    Every rank makes every group, in one order, member or not: torch names a group by how many the
    process has made before, and members that count differently wait for different names. Those
    that are no members do not wait, so a world of many groups still starts at once.
    """
    made: dict[tuple[int, ...], dist.ProcessGroup] = {}
    mine = {}
    for kind in GROUP_KINDS:
        try:
            groups = layout.groups(kind)
        except ValueError:
            continue  # a dense order may have no expert grid
        for members in map(tuple, groups.tolist()):
            if members not in made:
                made[members] = dist.new_group(list(members), timeout=timeout, group_desc=kind)
            if rank in members:
                mine[kind] = made[members]
    return mine
