"""The ranks of a group compare what they are about to do, before a collective relies on it.

What gloo does when tensors of different sizes meet depends on which rank comes first: it ends a
process, waits for ever, or returns numbers that mean nothing. So each rank first writes a note of
what it brings, or of why it cannot go on. While all is well, comparing notes costs one all-reduce
of two numbers. It goes through the group object itself: it belongs to no layer's formula, and a
recorder of ``torch.distributed`` does not see it.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from zlib import crc32

import torch
import torch.distributed as dist

from .._checks import listed
from ..shards import times
from ..waits import Awaited, waiting

_ROOM = 2048
"""Bytes of a note."""
LONGEST = 256
"""Characters of an error in a note: JSON makes six bytes of some."""


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


@contextmanager
def agreed(
    group: dist.ProcessGroup, x: torch.Tensor, *, purpose: str = "", check: bool = True
) -> Iterator[None]:
    """Run a block of checks, and raise on every rank of the group if one of them fails anywhere.

    Every rank of the group must enter it. A rank that raised at once would leave the others to
    wait for it; here the block's ValueError is exchanged first. Other errors are not.

    Parameters
    ----------
    group : ProcessGroup
        Whose ranks compare: on the CPU if the group reaches it, as gloo does. With NCCL alone
        they compare on the device of ``x``, and the CPU waits for it.
    x : Tensor
        Compared by shape, dtype, and whether it needs a gradient.
    purpose : str
        What else must be the same on every rank, in words.
    check : bool
        False: compare nothing, and let a rank whose block raises be alone with it.

    Raises
    ------
    ValueError
        With what each rank said, if it is not the same on all; else what the block raised.

    Examples
    --------
    On every rank of ``group``::

        with agreed(group, x):
            check_even(x, dim=0, parts=group.size())
    """
    refusal = None
    try:
        yield
    except ValueError as error:
        refusal = error
    if check and group.size() > 1:
        note = f"{refusal or described(x) + purpose}"
        device = _device_of_notes(group, x)
        here = Awaited("agree", group)
        if not waiting(here, lambda: _same_everywhere(group, note, device)):
            notes = waiting(here, lambda: exchanged(group, note[:LONGEST], device))
            raise ValueError(disagreement(dist.get_process_group_ranks(group), notes))
    if refusal:
        raise refusal


def exchanged(
    group: dist.ProcessGroup,
    note: object,
    device: torch.device | None = None,
    wait: Callable[[Any], object] = dist.Work.wait,
) -> list[Any]:
    """Return the notes of all ranks of a group, in order of rank.

    Parameters
    ----------
    group : ProcessGroup
        All of its ranks must call it.
    note : object
        What JSON can write in 2,048 bytes.
    device : torch.device, optional
        Where the notes travel; the CPU by default.
    wait : callable
        Waits for the operation, such as one with a deadline.

    Raises
    ------
    ValueError
        On every rank, when the note of one is longer.
    """
    text = json.dumps(note, ensure_ascii=False).encode(errors="replace")
    if len(text) > _ROOM:  # cut JSON is none, which all ranks see
        text = b""
    mine = torch.frombuffer(bytearray(text.ljust(_ROOM)), dtype=torch.uint8).to(device or "cpu")
    notes = [torch.empty_like(mine) for _ in range(group.size())]
    wait(group.allgather([notes], [mine]))
    texts = [theirs.cpu().numpy().tobytes() for theirs in notes]
    if longer := [rank for rank, text in enumerate(texts) if not text.strip()]:
        raise ValueError(f"a note has {_ROOM} bytes; longer is that of {listed(longer, ' and ')}")
    return [json.loads(text) for text in texts]


def described(x: torch.Tensor) -> str:
    """Return shape, dtype and need of a gradient.

    >>> described(torch.ones(4, 6))
    '4×6 float32'
    """
    gradient = " with gradient" if x.requires_grad and torch.is_grad_enabled() else ""
    return f"{times(x.shape)} {str(x.dtype).removeprefix('torch.')}{gradient}"


def _device_of_notes(group: dist.ProcessGroup, x: torch.Tensor) -> torch.device:
    """Return where notes are compared: every rank of the group must find the same."""
    reached: list[torch.device] = group._device_types
    return next((device for device in reached if device.type == "cpu"), x.device)


def _same_everywhere(group: dist.ProcessGroup, note: str, device: torch.device) -> bool:
    """Whether the highest mark is the lowest: of m and −m, take the maximum over the ranks."""
    mark = crc32(note.encode(errors="replace"))
    extremes = torch.tensor([mark, -mark], device=device)
    options = dist.AllreduceOptions()
    options.reduceOp = dist.ReduceOp(dist.ReduceOp.MAX)
    group.allreduce([extremes], options).wait()
    highest, lowest_negated = extremes.tolist()
    return bool(highest == -lowest_negated)


def disagreement(ranks: list[int], notes: list[str]) -> str:
    """Say which ranks said what.

    >>> disagreement([0, 2, 4], ["4 float32", "6 float32", "4 float32"])
    'the ranks of one group must agree, but ranks 0 and 4: 4 float32; rank 2: 6 float32'
    """
    who: dict[str, list[int]] = {}
    for rank, note in zip(ranks, notes, strict=True):
        who.setdefault(note, []).append(rank)
    said = (
        f"rank{'s' if len(same) > 1 else ''} {listed(same, ' and ')}: {note}"
        for note, same in who.items()
    )
    return f"the ranks of one group must agree, but {'; '.join(said)}"
