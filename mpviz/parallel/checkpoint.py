"""Checkpoints: what all ranks hold, in files that any other layout can load.

A checkpoint is a folder: ``checkpoint.json`` names the step, what the model is made of, and the
folder beside it where the numbers are. There ``torch.distributed.checkpoint`` writes one file a
rank, and ``.metadata``: which rectangle of which tensor stands where. Tensors have the names and
the shapes of the whole `GPT`, so nothing in it depends on who saved it.

A save writes a new folder, and then replaces ``checkpoint.json`` in one step of the file system:
at any time it names a checkpoint that is complete.

Sources: PyTorch, "Distributed Checkpoint"; Megatron-LM ``megatron/core/dist_checkpointing``, whose
``latest_checkpointed_iteration.txt`` is such a file.
"""

import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner, DefaultSavePlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
)
from torch.distributed.checkpoint.planner import (
    LoadPlan,
    SavePlan,
    TensorWriteData,
    WriteItem,
    WriteItemType,
)
from torch.distributed.checkpoint.planner_helpers import create_read_items_for_chunk_list
from torch.distributed.checkpoint.state_dict_loader import load as load_by_torch
from torch.distributed.checkpoint.state_dict_saver import save as save_by_torch

from .._checks import listed, whole_number
from ..waits import Awaited, waiting
from .agreement import LONGEST, disagreement, exchanged
from .gpt import GPT
from .gpt_config import GPTConfig
from .held import Held, HeldParameter, held_parameters, held_streams, model_of
from .zero import DistributedOptimizer

NAME = "checkpoint.json"
_MAY_DIFFER = ("seed", "init_std", "hidden_dropout", "attention_dropout", "vocab_multiple")


@dataclass(frozen=True)
class Saved:
    """What ``checkpoint.json`` says.

    Attributes
    ----------
    folder : Path
        Where the numbers are.
    step : int
        As it was given to `save`.
    config : GPTConfig
        Of the model.
    has_optimizer : bool
        Whether the state of an optimizer was saved too.
    """

    folder: Path
    step: int
    config: GPTConfig
    has_optimizer: bool


def save(
    folder: str | os.PathLike[str],
    stages: Mapping[int, nn.Module] | nn.Module,
    optimizer: Any = None,
    *,
    step: int = 0,
) -> Path:
    """Save a model and its optimizer; every rank calls it.

    What several ranks hold is written once: dp copies, what tp does not cut, a tied embedding. The
    last checkpoint in the folder is removed when the new one is complete, and not before.

    Parameters
    ----------
    folder : path
        One that all ranks reach, the same on each.
    stages : mapping of int to Module, or Module
        This rank's stages, as `gpt_stage` makes them: plain, in a `DistributedDataParallel`, or
        fully sharded. In a process without ranks a `GPT`.
    optimizer : Adam, DistributedOptimizer, or one of torch.optim
        Whose state is saved too.
    step : int
        How many steps have been done.

    Returns
    -------
    Path
        The folder with the numbers.

    Raises
    ------
    ValueError
        On every rank, whichever found it, and the last checkpoint is as it was: when a weight is
        not finite, ranks name different folders, steps or models, a stage is on no rank, or a file
        cannot be written.

    Notes
    -----
    With dropout its streams are saved as well (see `load`). Learning rate and data are the loop's.

    Examples
    --------
    >>> import tempfile
    >>> model = GPT(GPTConfig(num_layers=2, hidden_size=8, num_heads=2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     at = save(folder, model, step=7)
    ...     print(at.name, *sorted(file.name for file in at.iterdir()))
    ...     load(folder, model)
    step-7 .metadata __0_0.distcp
    7
    """
    with _together("checkpoint.save") as same:
        folder, stages = Path(folder).resolve(), _stages(stages)
        config = _config(stages)
        here = _beside(folder, f"step-{whole_number('step', step, least=0)}")
        same += [f"save {here}{' with an optimizer' * (optimizer is not None)}", _brief(config)]
        held = _to_save(stages, optimizer)
        if _is_first():
            _remove_others(folder, keep=_named(folder))
            here.mkdir(parents=True, exist_ok=True)
    try:
        metadata = _by_torch(
            "written",
            lambda: save_by_torch(
                held,
                storage_writer=FileSystemWriter(here),
                planner=_SavePlanner(),
                no_dist=not dist.is_initialized(),
            ),
        )
        with _together("checkpoint.save"):
            _check_complete(metadata, config)
            if _is_first():
                _name(folder, Saved(here, step, config, optimizer is not None))
    except BaseException:
        if _is_first():
            _remove_others(folder, keep=_named(folder))
        raise
    with _together("checkpoint.save"):
        if _is_first():
            _remove_others(folder, keep=here.name)
    return here


def load(
    folder: str | os.PathLike[str],
    stages: Mapping[int, nn.Module] | nn.Module,
    optimizer: Any = None,
) -> int:
    """Load what any layout has saved; every rank calls it.

    Parameters
    ----------
    folder : path
        The same on every rank.
    stages : mapping of int to Module, or Module
        As for `save`, of this layout; parameters are changed in place.
    optimizer : Adam, DistributedOptimizer, or one of torch.optim
        Of these stages; its state is replaced.

    Returns
    -------
    int
        The step.

    Raises
    ------
    ValueError
        On every rank, before a parameter changes, when the folder holds no checkpoint, one of
        another model, or one whose files are missing or cut off; or when ranks name different ones.

    Notes
    -----
    A stream of dropout that is another on each tp rank (see `RNGStatesTracker`) goes on where tp is
    what it was; for another tp it begins anew. ``.metadata`` is a pickle, which can run code: load
    what you trust.
    """
    with _together("checkpoint.load") as same:
        folder, stages = Path(folder).resolve(), _stages(stages)
        saved = read(folder)
        same.append(f"load {saved.folder}{' with an optimizer' * (optimizer is not None)}")
        _check_same(saved.config, _config(stages))
        if optimizer is not None and not saved.has_optimizer:
            raise ValueError(f"{saved.folder} holds no state of an optimizer")
        metadata = _checked_files(saved.folder)
        parameters = list(held_parameters(stages, optimizer))
        state = _new_state(parameters, metadata) if optimizer is not None else {}
        held = [one.weight for one in parameters]
        held += [one for parts in state.values() for one in parts.values()]
        held += [one for one in held_streams(stages) if _size(metadata, one.name) == one.shape]
        _check_stored(held, metadata)
    _by_torch(
        "read",
        lambda: load_by_torch(
            dict(enumerate(held)),
            storage_reader=FileSystemReader(saved.folder),
            planner=_LoadPlanner(),
            no_dist=not dist.is_initialized(),
        ),
    )
    if optimizer is not None:
        _take(optimizer, parameters, state)
    return saved.step


def read(folder: str | os.PathLike[str]) -> Saved:
    """Return what the checkpoint in a folder is of, without its numbers.

    Raises
    ------
    ValueError
        When there is none.
    """
    path = Path(folder).resolve() / NAME
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        config = said["config"] | {"dtype": getattr(torch, said["config"]["dtype"])}
        here = path.with_name(said["folder"])
        return Saved(here, said["step"], GPTConfig(**config), said["has_optimizer"])
    except FileNotFoundError:
        raise ValueError(f"{path.parent} holds no checkpoint: there is no {NAME} in it") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not what save writes: {error!r:.80}") from None


# ---- the folder


def _named(folder: Path) -> str:
    """Return the folder that the checkpoint names, or nothing."""
    try:
        return read(folder).folder.name
    except ValueError:
        return ""


def _beside(folder: Path, name: str) -> Path:
    """Return where to write: not where the last good checkpoint is."""
    return folder / (f"{name}-again" if _named(folder) == name else name)


def _name(folder: Path, saved: Saved) -> None:
    """Make a folder with numbers the checkpoint: from now on, or if this is killed, not at all."""
    config = asdict(saved.config)
    config["dtype"] = str(config["dtype"]).removeprefix("torch.")
    said = {"folder": saved.folder.name, "step": saved.step, "config": config}
    said["has_optimizer"] = saved.has_optimizer
    new = folder / f"{NAME}.new"
    with open(new, "w", encoding="utf-8") as file:
        json.dump(said, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, folder / NAME)


def _remove_others(folder: Path, keep: str) -> None:
    """Remove what earlier saves have left, complete or not."""
    for other in folder.glob("step-*"):
        if other.name != keep:
            shutil.rmtree(other, ignore_errors=True)


def _checked_files(folder: Path) -> Metadata:
    """Return which rectangles stand where, if all files are as long as that says."""
    try:
        metadata = FileSystemReader(folder).read_metadata()
    except Exception as error:
        raise ValueError(f"{folder / '.metadata'} cannot be read: {error!r:.80}") from None
    needed: dict[str, int] = {}
    for info in metadata.storage_data.values():
        end = info.offset + info.length
        needed[info.relative_path] = max(end, needed.get(info.relative_path, 0))
    for name, size in sorted(needed.items()):
        if not (path := folder / name).exists():
            raise ValueError(f"{path} is missing, one of {len(needed)} files")
        if (found := path.stat().st_size) < size:
            raise ValueError(f"{path} is cut off: it has {found:,} of {size:,} bytes")
    return metadata


# ---- what is saved and loaded


def _stages(stages: Any) -> Mapping[int, nn.Module]:
    given = stages if isinstance(stages, Mapping) else {0: stages}
    models = [model_of(stage) for stage in given.values()]
    if not given or not all(isinstance(model, GPT) for model in models):
        kinds = [type(model).__name__ for model in models]
        raise ValueError(f"a checkpoint is of stages of a GPT; got {listed(kinds) or 'none'}")
    return given


def _config(stages: Mapping[int, nn.Module]) -> GPTConfig:
    config: GPTConfig = model_of(next(iter(stages.values()))).config
    return config


def _brief(config: GPTConfig) -> str:
    """Return what is not as by default, so that it fits in a note."""
    usual = vars(GPTConfig())
    special = [f"{name}={value}" for name, value in vars(config).items() if value != usual[name]]
    return f"of a GPT with {listed(special) or 'the usual sizes'}"


def _to_save(stages: Mapping[int, nn.Module], optimizer: Any) -> dict[str, Held]:
    """Return what this rank has to offer, by name."""
    held = list(held_streams(stages))
    for one in held_parameters(stages, optimizer):
        if not one.weight.tensor.isfinite().all():
            raise ValueError(f"{one.weight.name} is not finite; nothing was saved")
        held.append(one.weight)
        if optimizer is not None and one.updated is not None:
            held += [one.state(*entry) for entry in _state(optimizer, one.updated).items()]
    return {one.name: one for one in held if not one.is_copy}


def _inner(optimizer: Any) -> Any:
    return optimizer.optimizer if isinstance(optimizer, DistributedOptimizer) else optimizer


def _state(optimizer: Any, parameter: nn.Parameter) -> dict[str, Tensor]:
    """Return the state of a parameter, and how many steps it has done, as torch.optim has it."""
    inner = _inner(optimizer)
    state = dict(inner.state.get(parameter, {}))
    if state and hasattr(inner, "steps"):
        state["step"] = torch.tensor(float(inner.steps[parameter]))
    return state


def _new_state(
    parameters: list[HeldParameter], metadata: Metadata
) -> dict[nn.Parameter, dict[str, Held]]:
    """Return room for the state that is stored."""
    keys: dict[str, list[str]] = {}
    for name in metadata.state_dict_metadata:
        owner, _, key = name.rpartition(".")
        keys.setdefault(owner, []).append(key)
    state: dict[nn.Parameter, dict[str, Held]] = {}
    for one in parameters:
        if one.updated is not None:
            owner = one.weight.name.replace("model.", "optimizer.", 1)
            state[one.updated] = {
                key: one.state(key, _room(one.updated, metadata, f"{owner}.{key}"))
                for key in keys.get(owner, [])
            }
    return state


def _room(like: Tensor, metadata: Metadata, name: str) -> Tensor:
    stored: Any = metadata.state_dict_metadata[name]
    return torch.zeros(like.shape if stored.size else (), dtype=stored.properties.dtype)


def _take(
    optimizer: Any,
    parameters: list[HeldParameter],
    state: dict[nn.Parameter, dict[str, Held]],
) -> None:
    """Give an optimizer what was loaded."""
    inner = _inner(optimizer)
    for parameter in (one.updated for one in parameters if one.updated is not None):
        loaded = {key: held.tensor for key, held in state[parameter].items()}
        inner.state.pop(parameter, None)
        if hasattr(inner, "steps"):
            inner.steps.pop(parameter, None)
            if loaded:
                inner.steps[parameter] = int(loaded.pop("step"))
        if loaded:
            inner.state[parameter] = loaded


# ---- how torch is told


class _SavePlanner(DefaultSavePlanner):
    """Writes rectangles; torch leaves out those that another rank has too."""

    def __init__(self) -> None:
        super().__init__(flatten_state_dict=False, flatten_sharded_tensors=False)

    def create_local_plan(self) -> SavePlan:
        items = [
            WriteItem(
                MetadataIndex(held.name, chunk.offsets),
                WriteItemType.SHARD,
                tensor_data=TensorWriteData(
                    chunk, TensorProperties(held.tensor.dtype), torch.Size(held.shape)
                ),
            )
            for held in self.state_dict.values()
            for chunk in _chunks(held)
        ]
        self.plan = SavePlan(items)
        return self.plan

    def lookup_object(self, index: MetadataIndex) -> Tensor:
        assert index.offset is not None
        held: Held = self.state_dict[index.fqn]
        return held.at(tuple(index.offset))


class _LoadPlanner(DefaultLoadPlanner):
    """Reads what of the stored rectangles lies in those that this rank has."""

    def set_up_planner(
        self, state_dict: Any, metadata: Metadata | None = None, is_coordinator: bool = False
    ) -> None:
        self.state_dict, self.metadata, self.is_coordinator = state_dict, metadata, is_coordinator

    def create_local_plan(self) -> LoadPlan:
        assert self.metadata is not None
        items = []
        for number, held in self.state_dict.items():  # a name may be there twice: tied in a V
            stored: Any = self.metadata.state_dict_metadata[held.name]
            for item in create_read_items_for_chunk_list(held.name, stored, _chunks(held)):
                here = replace(item.dest_index, fqn=number)
                items.append(replace(item, dest_index=here))
        return LoadPlan(items)

    def lookup_tensor(self, index: MetadataIndex) -> Tensor:
        assert index.offset is not None
        held: Held = self.state_dict[index.fqn]
        return held.at(tuple(index.offset))


def _chunks(held: Held) -> list[ChunkStorageMetadata]:
    return [
        ChunkStorageMetadata(torch.Size(one.offsets), torch.Size(one.sizes)) for one in held.places
    ]


def _by_torch(what: str, work: Callable[[], Any]) -> Any:
    """Return what torch's function does; raise as one error what it found on any rank."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")
            return work()
    except CheckpointException as error:
        rank, (cause, _) = next(iter(error.failures.items()))
        if isinstance(cause, KeyboardInterrupt):
            raise cause from None
        raise ValueError(
            f"the checkpoint could not be {what} on rank {rank}: {type(cause).__name__}: {cause}"
        ) from None


# ---- what may go wrong


@contextmanager
def _together(call: str) -> Iterator[list[str]]:
    """Run a block on every rank; raise on all what is raised on any.

    Also when what the block appends to the list is not the same on all.
    """
    same: list[str] = []
    problem = ""
    try:
        yield same
    except Exception as error:  # whatever it is: the others wait
        known = isinstance(error, ValueError)
        problem = f"{error}" if known else f"{type(error).__name__}: {error}"
    notes: list[Any] = [[problem, same]]
    if dist.is_initialized():
        world: Any = dist.group.WORLD
        note = [problem[:LONGEST], [text[-LONGEST:] for text in same]]
        notes = waiting(Awaited(call, world), lambda: exchanged(world, note))
    problems = [problem for problem, _ in notes]
    if len(set(problems)) > 1:
        rank, problem = next((n, text) for n, text in enumerate(problems) if text)
        problem = f"rank {rank}: {problem}"
    if problem:
        raise ValueError(problem)
    texts = [" ".join(brought) for _, brought in notes]
    if len(set(texts)) > 1:
        raise ValueError(disagreement(list(range(len(texts))), texts))


def _is_first() -> bool:
    return not dist.is_initialized() or dist.get_rank() == 0


def _check_complete(metadata: Metadata, config: GPTConfig) -> None:
    """Raise unless each layer, the embedding and the output were on some rank."""
    parts = ["embedding", *(f"layers.{n}" for n in range(config.num_layers)), "output"]
    names = list(metadata.state_dict_metadata)
    missing = [p for p in parts if not any(name.startswith(f"model.{p}.") for name in names)]
    if missing:
        raise ValueError(f"no rank has saved {listed(missing, ' and ')}: save all stages at once")


def _check_same(stored: GPTConfig, wanted: GPTConfig) -> None:
    """Raise if a checkpoint is of another model; name each difference."""
    both = [
        asdict(one) | {"num_kv_heads": one.kv_heads, "ffn_hidden_size": one.ffn}
        for one in (stored, wanted)
    ]
    differences = [
        f"{name}={both[0][name]} in the checkpoint, {both[1][name]} in this model"
        for name in both[0]
        if name not in _MAY_DIFFER and both[0][name] != both[1][name]
    ]
    if differences:
        raise ValueError(f"the checkpoint is of another model: {'; '.join(differences)}")


def _size(metadata: Metadata, name: str) -> tuple[int, ...] | None:
    stored: Any = metadata.state_dict_metadata.get(name)
    return None if stored is None else tuple(stored.size)


def _check_stored(held: list[Held], metadata: Metadata) -> None:
    for one in held:
        if (size := _size(metadata, one.name)) != one.shape:
            raise ValueError(f"{one.name} is stored as {size}, and {one.shape} is wanted")
