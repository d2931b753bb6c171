"""Check of lesson 08b."""

from collections.abc import Callable, Mapping
from importlib import import_module
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ..layout import ParallelLayout
from .ranks import lend, tried
from .verdict import Verdict, exercise

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed import ProcessGroup

_FOUR = ParallelLayout(nodes=1, gpus_per_node=4, tp=4)
_SECONDS = 60.0  # a save and a load: on one busy core that takes longer than a usual try
_ROWS = {"Q": 16, "K": 8, "V": 8}  # 8 heads, 4 KV heads, each of size 2


@exercise
def stored_apart(answer: object) -> Verdict:
    """Name parts of a stacked QKV so that a Shard(0) of each is right; tried on four real ranks.

    >>> stored_apart("q, k, v")
    ✗ 'q, k, v' is not a function; write def answer(weight, tp): and return parts of weight by name.
    """
    asked = "def answer(weight, tp): and return parts of weight by name"
    with TemporaryDirectory() as folder:
        got = tried(_saved_and_loaded(folder), answer, _FOUR, asked, seconds=_SECONDS)
    if isinstance(got, Verdict):
        return got
    return Verdict(
        True,
        "Saved at tp=2, loaded at tp=4, and each rank has its rows of Q, K and V. Megatron's "
        "linear_qkv goes another way: it lies group by group, so one Shard(0) is right.",
    )


def _saved_and_loaded(folder: str) -> Callable[..., str | None]:
    """Return what each rank does: save its part at tp=2, load it at tp=4, say what is wrong."""
    import_module("mpviz.parallel.checkpoint")  # what is imported here, ranks have from the start

    def attempt(
        groups: "dict[str, ProcessGroup]", answer: "Callable[[Tensor, int], Any]"
    ) -> str | None:
        import torch
        from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
        from torch.distributed.checkpoint.state_dict_loader import load
        from torch.distributed.checkpoint.state_dict_saver import save

        from .. import parallel

        lend(answer)
        pairs = parallel.init(ParallelLayout(nodes=1, gpus_per_node=4, tp=2)).groups["tp"]
        before = torch.tensor([_number(row) for row in held_rows(2, pairs.rank())])
        after = torch.full((8,), -1)
        shards = []
        for weight, group in ((before, pairs), (after, groups["tp"])):
            parts = answer(weight.unsqueeze(1), group.size())
            if said := _no_parts(parts, len(weight)):
                return said
            shards.append(_sharded(parts, group))
        save(shards[0], storage_writer=FileSystemWriter(folder))
        load(shards[1], storage_reader=FileSystemReader(folder))
        return _wrong_rows(groups["tp"].rank(), [_row(int(number)) for number in after])

    return attempt


def _sharded(parts: "Mapping[str, Tensor]", group: "ProcessGroup") -> dict[str, Any]:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor, Shard

    mesh = DeviceMesh.from_group(group, "cpu")
    return {name: DTensor.from_local(part, mesh, [Shard(0)]) for name, part in parts.items()}


def held_rows(tp: int, rank: int) -> list[str]:
    """Return the rows of a stacked QKV that a rank holds.

    >>> " ".join(held_rows(4, 1))
    'Q4 Q5 Q6 Q7 K2 K3 V2 V3'
    """
    return [
        f"{name}{row}"
        for name, rows in _ROWS.items()
        for row in range(rank * rows // tp, (rank + 1) * rows // tp)
    ]


def _number(row: str) -> int:
    return 100 * "QKV".index(row[0]) + int(row[1:])


def _row(number: int) -> str:
    return f"{'QKV'[number // 100]}{number % 100}" if number >= 0 else ""


def _no_parts(parts: object, rows: int) -> str:
    """Say what is wrong with what the answer returned, if anything is."""
    import torch

    if not isinstance(parts, dict) or not all(isinstance(p, torch.Tensor) for p in parts.values()):
        return f"It returned {str(parts)[:60]!r}; return a dictionary of tensors, by name."
    held = sum(part.numel() for part in parts.values())
    if held != rows:
        return f"The parts have {held} rows together, and weight has {rows}."
    sizes = [part.numel() for part in parts.values()]
    if len(sizes) == 3 and sorted(sizes) != sorted([rows // 2, rows // 4, rows // 4]):
        return (
            f"Parts of {sizes[0]}, {sizes[1]} and {sizes[2]} rows? There are 8 heads of Q, and 4 "
            f"of K and of V."
        )
    return ""


def _wrong_rows(rank: int, loaded: list[str]) -> str | None:
    """Say what a rank of tp=4 has in place of its own rows, if it has."""
    wanted = held_rows(4, rank)
    if loaded == wanted:
        return None
    if not any(loaded):
        return (
            "Nothing was loaded into weight: it is read into the parts that you return, so these "
            "must be views of it, as slices and split are, not copies."
        )
    row = next(n for n, (a, b) in enumerate(zip(loaded, wanted, strict=True)) if a != b)
    return (
        f"Saved at tp=2 and loaded at tp=4, rank {rank} has {loaded[row] or 'nothing'} where "
        f"{wanted[row]} belongs. One under the other, are the parts of one name, rank after rank, "
        f"a matrix that does not depend on tp?"
    )
