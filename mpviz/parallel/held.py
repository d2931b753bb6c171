"""What a rank holds of a GPT and of its optimizer, and where that lies in the whole of each tensor.

The names are those of the whole `GPT`, whatever holds a part of it: its stage, tp rank or shard.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..shards import Rectangle, rectangles
from .cutlinear import CutLinear
from .data import DistributedDataParallel
from .gpt import GPT
from .vocab import VocabParallelEmbedding
from .zero import DistributedOptimizer

WORDS, OUTPUT = "embedding.word_embeddings.weight", "output.output_layer.weight"


@dataclass(frozen=True, eq=False)
class Held:
    """What a rank holds of one tensor.

    Attributes
    ----------
    name : str
        Of the whole tensor.
    tensor : Tensor
        The rank's part of it, of any shape.
    shape : tuple of int
        Of the whole.
    places : list of Rectangle
        Where the part lies.
    is_copy : bool
        Whether it is a tied embedding of which the first stage holds the original.
    """

    name: str
    tensor: Tensor
    shape: tuple[int, ...]
    places: list[Rectangle]
    is_copy: bool = False

    def at(self, offsets: tuple[int, ...]) -> Tensor:
        """Return the part that begins there in the whole, to be read or written."""
        (place,) = (place for place in self.places if place.offsets == tuple(offsets))
        return self.tensor.detach().view(-1)[place.held].view(place.sizes)


@dataclass(frozen=True, eq=False)
class HeldParameter:
    """A parameter of a stage: who updates it, and where weight and state lie.

    Attributes
    ----------
    weight : Held
        As ``model.<name>``.
    updated : Parameter or None
        What this rank's optimizer has state of: it, or a shard of it, if any.
    places : list of Rectangle
        Where that state lies.
    """

    weight: Held
    updated: nn.Parameter | None
    places: list[Rectangle]

    def state(self, key: str, tensor: Tensor) -> Held:
        """Return a tensor of the state: as large as what is updated, or a number."""
        name = f"optimizer.{self.weight.name.removeprefix('model.')}.{key}"
        if not tensor.ndim:
            return Held(name, tensor, (), rectangles(()), self.weight.is_copy)
        return Held(name, tensor, self.weight.shape, self.places, self.weight.is_copy)


def model_of(stage: Any) -> Any:
    """Return what a `DistributedDataParallel` wraps, or the stage itself."""
    return stage.module if isinstance(stage, DistributedDataParallel) else stage


def held_parameters(
    stages: Mapping[int, nn.Module], optimizer: Any = None
) -> Iterator[HeldParameter]:
    """Yield each parameter of a rank's stages once.

    Parameters
    ----------
    stages : mapping of int to Module
        Each a `GPT` or what `gpt_stage` returns: plain, fully sharded, or in a
        `DistributedDataParallel`.
    optimizer : object, optional
        A `DistributedOptimizer`, or any that has all of a parameter, or of its shard.
    """
    for stage in stages.values():
        model = model_of(stage)
        assert isinstance(model, GPT)
        shards = _shards(stage, optimizer)
        for prefix, module in model.named_modules():
            for name, parameter in module.named_parameters(prefix, recurse=False):
                if name != OUTPUT or parameter is not _words(model):
                    yield _held(model, module, name, parameter, shards)


def _words(model: GPT) -> object:
    return model.embedding.word_embeddings.weight if model.embedding is not None else None


def _shards(stage: nn.Module, optimizer: Any) -> dict[str, tuple[nn.Parameter, slice]] | None:
    """Return what a DistributedOptimizer has of a stage, by name; None if it has all."""
    if not isinstance(optimizer, DistributedOptimizer) or not optimizer.stage:
        return None
    if optimizer.model is not stage:
        raise ValueError("the DistributedOptimizer is of another model than this stage's")
    rank = optimizer.model.group.rank()
    owned = [bucket.plan.owned(rank) for bucket in optimizer.model.buckets]
    return {name: (optimizer.shards[name], at) for one in owned for name, at in one.items()}


def _held(
    model: GPT,
    module: nn.Module,
    name: str,
    parameter: nn.Parameter,
    shards: dict[str, tuple[nn.Parameter, slice]] | None,
) -> HeldParameter:
    shape, only = _unsharded(parameter)
    cut = _cut(module, name)
    cut["rows"] = model.config.vocab_size if name in (WORDS, OUTPUT) else None
    is_copy = name == OUTPUT and model.config.tied
    whole = list(shape)
    if cut["dim"] is not None:
        whole[cut["dim"]] *= cut["parts"]
    if cut["rows"] is not None:
        whole[0] = cut["rows"]
    places = rectangles(shape, **cut, only=only)
    stored = f"model.{WORDS if is_copy else name}"
    weight = Held(stored, parameter, tuple(whole), places, is_copy)
    if shards is None:
        return HeldParameter(weight, parameter, places)
    if name not in shards:
        return HeldParameter(weight, None, [])
    shard, span = shards[name]
    return HeldParameter(weight, shard, rectangles(shape, **cut, only=span))


def _unsharded(parameter: Any) -> tuple[tuple[int, ...], slice | None]:
    """Return the shape of a parameter before `fully_shard`, and what this rank has of it."""
    unit = getattr(parameter, "unit", None)
    if unit is None:
        return tuple(parameter.shape), None
    (number,) = (n for n, shard in enumerate(unit.shards) if shard is parameter)
    name = list(unit.plan.shapes)[number]
    return unit.plan.shapes[name], unit.plan.owned(unit.group.rank()).get(name, slice(0, 0))


def _cut(module: nn.Module, name: str) -> dict[str, Any]:
    """Return how a parameter of a module is cut over tp."""
    whole = {"dim": None, "rank": 0, "parts": 1, "stacked": 1}
    if not isinstance(module, CutLinear | VocabParallelEmbedding):
        return whole
    group = {"rank": module.group.rank(), "parts": module.group.size()}
    if isinstance(module, VocabParallelEmbedding):
        return whole | group | {"dim": 0}
    cut = module.vector if name.endswith("bias") else module.matrix
    if cut is None or cut.dim is None:
        return whole
    dim = 0 if cut is module.vector else 1 - cut.dim  # a weight is stored transposed
    return whole | group | {"dim": dim, "stacked": module.stacked}


def held_streams(stages: Mapping[int, nn.Module]) -> Iterator[Held]:
    """Yield where the streams of dropout have got to; each tp rank has a row of those of the cut.

    See `RNGStatesTracker`. A model without dropout has none.
    """
    for stage in stages.values():
        model = model_of(stage)
        if not model.config.hidden_dropout and not model.config.attention_dropout:
            continue
        trackers = {f"layers.{n}": layer.rng for n, layer in model.layers.items()}
        if model.embedding is not None:
            trackers["embedding"] = model.embedding.dropout.rng
        rank, tp = _tp(model)
        for name, rng in trackers.items():
            for stream, state in rng.states.items():
                row, parts = (rank, tp) if stream == "cut" else (0, 1)
                places = rectangles((1, len(state)), row, parts, dim=0)
                yield Held(f"rng.{name}.{stream}", state, (parts, len(state)), places)


def _tp(model: nn.Module) -> tuple[int, int]:
    """Return this rank's place in the tensor-parallel group of a model, and its size."""
    for module in model.modules():
        if isinstance(module, CutLinear | VocabParallelEmbedding):
            return module.group.rank(), module.group.size()
    return 0, 1
