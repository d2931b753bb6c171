"""A GPT: whole in one process, and cut over tensor- and pipeline-parallel ranks.

`GPT` is plain PyTorch. `gpt_stage` keeps the layers of one pipeline stage of it and cuts their
matrices over a tensor-parallel group. The names of options are those of Megatron-LM,
``megatron/core/models/gpt/gpt_model.py``.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .._checks import listed, whole_number
from .agreement import check_group
from .gpt_config import GPTConfig
from .gpt_layers import GPTEmbedding, GPTOutput, TransformerLayer
from .tensor import ColumnParallelLinear, RowParallelLinear
from .vocab import VocabParallelEmbedding


class GPT(nn.Module):
    """A GPT, or the layers of one of its stages, whole: not cut by tensor parallelism.

    Every layer draws its weights from a seed of its own, so a stage draws what it holds, and all
    stages together are the same model however many there are.

    Parameters
    ----------
    config : GPTConfig
        What it is made of.
    stage, of : int
        The stage, and how many there are. The first begins with the embedding, the last ends with
        the output layer.
    tp : int
        For which size of a tensor-parallel group the vocabulary is padded.
    device : torch.device or str, optional
        Where it lives in the end; weights are drawn on the CPU, the same for any device. Tried on
        the CPU and on "meta", which has shapes alone; not on a GPU yet.

    Attributes
    ----------
    embedding : GPTEmbedding or None
    layers : ModuleDict of TransformerLayer
        By number in the whole model, from ``"0"``: a parameter's name is the same in any layout.
    output : GPTOutput or None

    Examples
    --------
    >>> model = GPT(GPTConfig(num_layers=2, hidden_size=8, num_heads=2, vocab_size=5))
    >>> model(torch.zeros(4, 3, dtype=torch.int64)).shape
    torch.Size([4, 3, 5])
    >>> list(GPT(model.config, stage=1, of=2).layers)
    ['1']
    """

    def __init__(
        self,
        config: GPTConfig,
        *,
        stage: int = 0,
        of: int = 1,
        tp: int = 1,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(config, GPTConfig):
            raise ValueError(f"a GPT is made of a GPTConfig, got {config!r:.80}")
        self.config, self.stage, self.of, self.tp = config, stage, of, whole_number("tp", tp)
        self.words = config.padded_vocab_size(tp)
        _check_device(config, device)
        self.sequence_parallel = False
        numbers, first, last = config.layers_of(stage, of), stage == 0, stage == of - 1
        # The layers draw weights that are drawn anew below: not from the caller's random numbers.
        # (On the device "meta" none would be, but it imports sympy, in each rank.)
        with torch.random.fork_rng(devices=[]):
            self.embedding = GPTEmbedding(config, self.words) if first else None
            self.layers = nn.ModuleDict({f"{n}": TransformerLayer(config, n) for n in numbers})
            self.output = GPTOutput(config, self.words) if last else None
        self.to(config.dtype)
        for part in self.parts:
            part.draw(config)
        self.to(device)
        self.tie()

    @property
    def parts(self) -> list[Any]:
        """The embedding, the layers and the output, those that are here, in order."""
        parts = [self.embedding, *self.layers.values(), self.output]
        return [part for part in parts if part is not None]

    def forward(self, x: Tensor) -> Tensor:
        """Take tokens (s, b), of a later stage (s, b, h); return (s, b, h), of the last (s, b, V).

        Cut, V is V/t, and under sequence parallelism s is s/t between stages.
        """
        for part in self.parts:
            x = part(x)
        return x

    def tie(self) -> None:
        """Let the output layer have the word embedding's parameter, where both are here."""
        if self.config.tied and self.embedding is not None and self.output is not None:
            self.output.output_layer.weight = self.embedding.word_embeddings.weight

    @property
    def tied_copy(self) -> nn.Parameter | None:
        """The word embedding, or its copy in the output layer, if the other is in another stage."""
        if not self.config.tied or (self.embedding is None) == (self.output is None):
            return None
        holder: Any = self.embedding.word_embeddings if self.embedding else None
        if self.output is not None:
            holder = self.output.output_layer
        weight: nn.Parameter = holder.weight
        return weight

    def extra_repr(self) -> str:
        """Return how many words there are, and what pads them."""
        more = self.words - self.config.vocab_size
        return f"{self.config.vocab_size} words" + (f" and {more} of padding" if more else "")


def gpt_stage(
    config: GPTConfig,
    stage: int,
    of: int,
    groups: Mapping[str, dist.ProcessGroup],
    *,
    sequence_parallel: bool = False,
    device: torch.device | str | None = None,
) -> GPT:
    """Return this rank's part of a stage of ``GPT(config)``.

    Parameters
    ----------
    config : GPTConfig
        The same on every rank.
    stage, of : int
        The stage, as in the plan, and how many there are.
    groups : mapping of str to ProcessGroup
        Of this rank; only ``groups["tp"]`` is used.
    sequence_parallel : bool
        Whether between the matrices each rank has its part of the sequence alone.
    device : torch.device or str, optional
        As for `GPT`.

    Returns
    -------
    GPT
        With the matrices cut: QKV and the first of the MLP by column, the second of each by row,
        the vocabulary by words. Parameters of which each rank holds a part are marked
        ``tensor_model_parallel``, whole ones that see a part of the tokens ``sequence_parallel``,
        and the copy of a tied embedding in another stage ``shared``.

    Raises
    ------
    ValueError
        When the layout does not divide heads, KV heads, the MLP or the layers, or has cp > 1. Or
        when an argument is of no use. The vocabulary is padded where need be, as the model prints.

    Examples
    --------
    >>> from mpviz import ParallelLayout, World
    >>> def held(rank, groups):
    ...     from mpviz.parallel import GPTConfig, gpt_stage
    ...     stage = gpt_stage(GPTConfig(num_layers=2, vocab_size=31), 0, 2, groups)
    ...     attention = stage.layers["0"].self_attention
    ...     return stage.extra_repr(), attention.linear_qkv.weight.shape
    >>> with World(ParallelLayout(nodes=1, gpus_per_node=2, tp=2)) as world:
    ...     world.run(held)[1]
    ('31 words and 1 of padding', torch.Size([96, 64]))
    """
    group = check_groups(groups, "tp")["tp"]
    if "cp" in groups and groups["cp"].size() > 1:
        raise ValueError(
            f"each rank attends to the whole sequence: cp must be 1, got {groups['cp'].size()}"
        )
    if not isinstance(sequence_parallel, bool):
        raise ValueError(f"sequence_parallel must be True or False, got {sequence_parallel!r}")
    model = GPT(config, stage=stage, of=of, tp=group.size())
    _check_device(config, device)
    config.check_tp(group.size())
    for part in model.parts:
        part.cut(group, sequence_parallel)
    model.sequence_parallel = sequence_parallel
    model.to(device)
    model.tie()
    for module in model.modules():
        _mark(module, sequence_parallel)
    if model.output is not None and model.tied_copy is not None:
        _set(model.tied_copy, shared=True)
    return model


def _check_device(config: GPTConfig, device: torch.device | str | None) -> None:
    """Raise where dropout would draw from random numbers that are no stream of ours."""
    kind = torch.device("cpu" if device is None else device).type
    if kind not in ("cpu", "meta") and (config.hidden_dropout or config.attention_dropout):
        raise ValueError(
            f"the streams of dropout are of the CPU's random numbers; on {kind} a GPT has "
            f"hidden_dropout=0 and attention_dropout=0"
        )


def check_groups(groups: object, *kinds: str) -> Mapping[str, dist.ProcessGroup]:
    """Return the groups of this rank, if those of some kinds are there.

    >>> check_groups({}, "tp", "pp")
    Traceback (most recent call last):
        ...
    ValueError: groups has no 'tp' and 'pp', only none; parallel.init(layout).groups has all
    """
    if not isinstance(groups, Mapping):
        raise ValueError(f"groups must be a dict of process groups, got {type(groups).__name__}")
    if missing := [kind for kind in kinds if kind not in groups]:
        raise ValueError(
            f"groups has no {listed(map(repr, missing), ' and ')}, only "
            f"{listed(groups) or 'none'}; parallel.init(layout).groups has all"
        )
    for kind in kinds:
        check_group(groups[kind])
    return groups


def _mark(module: nn.Module, sequence_parallel: bool) -> None:
    """Mark which parameters are parts, and which whole ones see a part of the tokens."""
    for name, parameter in module.named_parameters(recurse=False):
        if isinstance(module, VocabParallelEmbedding | ColumnParallelLinear):
            is_cut = True
        else:
            is_cut = isinstance(module, RowParallelLinear) and name == "weight"
        _set(parameter, tensor_model_parallel=is_cut)
        _set(parameter, sequence_parallel=sequence_parallel and not is_cut)


def _set(parameter: nn.Parameter, **marks: bool) -> None:
    vars(parameter).update(marks)
