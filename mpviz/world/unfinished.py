"""What a run left open, in words: who called an operation that others never did."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import zip_longest

from ..layout import ParallelLayout
from ..names import GROUP_KINDS
from .excerpt import named_group, named_ranks
from .matching import MOST_KEPT, mismatch
from .protocol import SENDS, Operation, Place
from .report import where

_MOST_LINES = 6

Operations = Mapping[int, Sequence[Operation]]


def unfinished(layout: ParallelLayout, operations: Operations) -> list[str]:
    """Return a line for each operation that not all called whom it takes, or not alike.

    Of each group, and of each pair of ranks, the first; the same on several groups once.

    Parameters
    ----------
    layout : ParallelLayout
        Who is who.
    operations : mapping of int to sequence of Operation
        What each rank called, in order.
    """
    cut = [rank for rank, mine in operations.items() if len(mine) >= MOST_KEPT]
    if cut:
        many = f"{MOST_KEPT:,} operations or more on {named_ranks(cut)}"
        return [f"open: one of {many}, too many to name it"]
    groups: dict[str, list[str]] = defaultdict(list)
    for what, who in (*_collectives(layout, operations), *_messages(operations)):
        groups[what].append(who)
    lines = []
    for what, those in groups.items():
        lines.append(what)
        lines += [f"  {who}" for who in those[:_MOST_LINES]]
        if len(those) > _MOST_LINES:
            lines.append(f"  … and {len(those) - _MOST_LINES} more such")
    return lines


def _collectives(layout: ParallelLayout, operations: Operations) -> Iterator[tuple[str, str]]:
    called: dict[tuple[str, tuple[int, ...]], dict[int, list[Operation]]] = {}
    for rank, mine in operations.items():
        for operation in mine:
            if not operation.is_message:
                group = operation.group_name, operation.group
                called.setdefault(group, {}).setdefault(rank, []).append(operation)
    for (_, members), by_rank in called.items():
        named = named_group(members, layout.world_size, _kind(layout, members))
        lists = [by_rank.get(rank, []) for rank in members]
        for nth in zip_longest(*lists):
            there = {rank: op for rank, op in zip(members, nth, strict=True) if op is not None}
            absent = [rank for rank, op in zip(members, nth, strict=True) if op is None]
            rank, first = next(iter(there.items()))
            if absent:
                ranks = [rank for rank, op in there.items() if _line(op) == _line(first)]
                yield (
                    f"open: {first.name}, {_line(first)}",
                    f"{named}: {named_ranks(ranks)} called it, {named_ranks(absent)} never did",
                )
                break
            others = {other: op for other, op in there.items() if _differ(op, first)}
            if others:
                what = mismatch(first, others).replace("this rank calls", f"rank {rank} called")
                yield f"not alike: {_line(first)}", f"{named}: {what}"
                break


def _messages(operations: Operations) -> Iterator[tuple[str, str]]:
    sent: dict[tuple[str, int, int, int], list[Operation]] = defaultdict(list)
    received: dict[tuple[str, int, int, int], list[Operation]] = defaultdict(list)
    anybodys: dict[int, list[Operation]] = defaultdict(list)
    for rank, mine in operations.items():
        for op in mine:
            if op.is_message and op.peer is None:
                anybodys[rank].append(op)
            elif op.is_message:
                to_peer = op.name in SENDS
                pair = (rank, op.peer) if to_peer else (op.peer, rank)
                (sent if to_peer else received)[op.group_name, *pair, op.tag].append(op)
    from_any = set(anybodys)
    for channel in dict.fromkeys((*sent, *received)):
        _, sender, receiver, _ = channel
        for out, taken in zip_longest(sent[channel], received[channel]):
            if taken is None and anybodys[receiver]:
                anybodys[receiver].pop()
            elif taken is None:
                never = f"rank {sender} called it, rank {receiver} never received"
                yield f"open: {out.name} to another rank, {_line(out)}", never
                break
            elif out is None:
                never = f"rank {receiver} called it, rank {sender} never sent"
                yield f"open: {taken.name} from another rank, {_line(taken)}", never
                break
            elif receiver in from_any:
                continue  # which of them it took is not known
            elif (out.elements, out.dtype) != (taken.elements, taken.dtype):
                what = mismatch(out, {receiver: taken}).replace("this rank", f"rank {sender}")
                yield f"not alike: {_line(out)}", what
                break
    for rank, left in anybodys.items():
        for op in left[:1]:
            yield (
                f"open: {op.name} from any rank, {_line(op)}",
                f"rank {rank} called it, and nobody sent",
            )


def _differ(one: Operation, other: Operation) -> bool:
    return _said(one) != _said(other)


def _said(op: Operation) -> tuple[object, ...]:
    return op.name, op.elements, op.dtype, op.reduction, op.peer


def _line(op: Operation) -> str:
    return where(Place(op.file, op.line))


def _kind(layout: ParallelLayout, members: tuple[int, ...]) -> str:
    """Return of which kind a group of the layout is; nothing of any other."""
    for kind in GROUP_KINDS:
        with suppress(ValueError):  # a dense order has no expert grid
            if layout.groups(kind).of(members[0]) == members:
                return kind
    return ""
