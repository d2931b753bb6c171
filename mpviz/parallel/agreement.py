"""The ranks of a group compare what they are about to do, before a collective relies on it.

What gloo does when tensors of different sizes meet depends on which rank comes first: it ends a
process, waits for ever, or returns numbers that mean nothing. So each rank first makes a note of
what it brings. While all is well, comparing notes costs one all-reduce of two numbers. It goes
through the group object itself: it belongs to no layer's formula, and a recorder of
``torch.distributed`` does not see it.
"""

from zlib import crc32

import torch
import torch.distributed as dist

from .._checks import listed
from ..shards import times
from ..waits import Awaited, waiting

_LENGTH = 256
"""Bytes of a note that other ranks get to read."""


def check_group(group: object) -> dist.ProcessGroup:
    """Return ``group`` if this rank is in it.

    Raises
    ------
    ValueError
        For what ``new_group`` gives to the others (``GroupMember.NON_GROUP_MEMBER``), and for
        None, which ``torch.distributed`` takes for all ranks.

    Examples
    --------
    >>> check_group(None)
    Traceback (most recent call last):
        ...
    ValueError: this rank is in no such group: expected the ProcessGroup it is a member of, got None
    """
    if isinstance(group, dist.ProcessGroup):
        return group
    got = "NON_GROUP_MEMBER" if group is dist.GroupMember.NON_GROUP_MEMBER else repr(group)
    raise ValueError(
        f"this rank is in no such group: expected the ProcessGroup it is a member of, got {got}"
    )


def agree(
    group: dist.ProcessGroup,
    x: torch.Tensor,
    *,
    problem: str = "",
    purpose: str = "",
    check: bool = True,
) -> None:
    """Raise on every rank of the group, unless all come with the same and none has a problem.

    Every rank of the group must call it. One that finds something wrong on its own must not raise
    at once, or the others would wait for it: it says so in ``problem``.

    Parameters
    ----------
    group : ProcessGroup
        Whose ranks compare, over the CPU if the group reaches it, as gloo does. With NCCL alone
        they compare on the device of ``x``, and the CPU waits for it.
    x : Tensor
        Compared by shape, dtype, and whether it needs a gradient.
    problem : str
        Why this rank cannot go on; empty if it can.
    purpose : str
        What else must be the same on every rank, in words.
    check : bool
        False: compare nothing, and let a rank with a problem raise alone.

    Raises
    ------
    ValueError
        With what each rank said.
    """
    if check and group.size() > 1:
        note = problem or f"{described(x)}{purpose}"
        device = _meeting_place(group, x)
        here = Awaited("agree", group)
        mark = crc32(note.encode())
        if not waiting(here, lambda: _same_everywhere(group, mark, device)):
            raise ValueError(waiting(here, lambda: _disagreement(group, note, device)))
    if problem:
        raise ValueError(problem)


def described(x: torch.Tensor) -> str:
    """Return shape, dtype and need of a gradient.

    >>> described(torch.ones(4, 6))
    '4×6 float32'
    """
    gradient = " with gradient" if x.requires_grad and torch.is_grad_enabled() else ""
    return f"{times(x.shape)} {str(x.dtype).removeprefix('torch.')}{gradient}"


def _meeting_place(group: dist.ProcessGroup, x: torch.Tensor) -> torch.device:
    """Return where notes are compared: every rank of the group must find the same."""
    reached: list[torch.device] = group._device_types
    return next((device for device in reached if device.type == "cpu"), x.device)


def _same_everywhere(group: dist.ProcessGroup, mark: int, device: torch.device) -> bool:
    extremes = torch.tensor([mark, -mark], device=device)
    options = dist.AllreduceOptions()
    options.reduceOp = dist.ReduceOp(dist.ReduceOp.MAX)
    group.allreduce([extremes], options).wait()
    highest, lowest_negated = extremes.tolist()
    return bool(highest == -lowest_negated)


def _disagreement(group: dist.ProcessGroup, note: str, device: torch.device) -> str:
    """Return what each rank said; all ask, because all have seen that marks differ."""
    letters = note.encode()[:_LENGTH].ljust(_LENGTH)
    mine = torch.frombuffer(bytearray(letters), dtype=torch.uint8).to(device)
    notes = [torch.empty_like(mine) for _ in range(group.size())]
    group.allgather([notes], [mine]).wait()
    ranks: dict[str, list[int]] = {}
    for rank, theirs in zip(dist.get_process_group_ranks(group), notes, strict=True):
        text = bytes(theirs.tolist()).decode(errors="ignore").strip()
        ranks.setdefault(text, []).append(rank)
    said = (
        f"rank{'s' if len(who) > 1 else ''} {listed(who, ' and ')}: {text}"
        for text, who in ranks.items()
    )
    return f"the ranks of one group must agree, but {'; '.join(said)}"
