"""A vocabulary cut over a tensor-parallel group: the embedding, and the loss on cut logits.

Source: Megatron-LM ``megatron/core/tensor_parallel/layers.py`` (``VocabParallelEmbedding``) and
``cross_entropy.py``, whose names and meanings these are.
"""

from typing import Any, Self

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .._checks import whole_number
from ..shards import Cut, times
from .agreement import agreed, check_group, described
from .collectives import (
    TypedFunction,
    check_differentiable,
    check_even,
    reduce_from_tensor_model_parallel_region,
    reduce_scatter_to_sequence_parallel_region,
)

MASKED = -1
"""A target that does not count."""


class VocabParallelEmbedding(nn.Module):
    """An embedding cut by row: each rank holds the vectors of some words.

    A rank looks up the words it holds and has zeros for the others; the sum over the group is
    the embedding. It is the product of one-hot X and A, cut by row.

    Parameters
    ----------
    num_embeddings, embedding_dim : int
        Words and size of a vector; tp divides the words (pad the vocabulary where it does not).
    group : ProcessGroup
        The tensor-parallel group.
    padding_idx : int, optional
        A word whose vector starts at zero and gets no gradient, as in ``nn.Embedding``.
    reduce_scatter_embeddings : bool
        Whether each rank gets the vectors of its part of the sequence (dimension 0) alone, as
        sequence parallelism wants them.
    generator, dtype, device, check
        As for `ColumnParallelLinear`; vectors are drawn from a normal distribution, as those of
        ``nn.Embedding`` are.

    Raises
    ------
    ValueError
        When tp does not divide the words, or ``padding_idx`` is none of them. In ``forward``, on
        every rank, when an index is none of a word.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        group: dist.ProcessGroup,
        *,
        padding_idx: int | None = None,
        reduce_scatter_embeddings: bool = False,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        check: bool = True,
    ) -> None:
        super().__init__()
        tp = check_group(group).size()
        self.matrix = Cut("A", (num_embeddings, embedding_dim), tp, dim=0)
        self.group, self.check = group, check
        self.reduce_scatter_embeddings = reduce_scatter_embeddings
        self.padding_idx = _padding(padding_idx, num_embeddings)
        whole = torch.empty(num_embeddings, embedding_dim, dtype=dtype)
        whole.normal_(generator=generator)
        if self.padding_idx is not None:
            whole[self.padding_idx] = 0.0
        self.weight = nn.Parameter(self.matrix.part(whole, group.rank()).clone().to(device))

    @classmethod
    def from_reference(
        cls, embedding: nn.Embedding, group: dist.ProcessGroup, **options: Any
    ) -> Self:
        """Cut a plain embedding, the same on every rank; options as for the class.

        Raises
        ------
        ValueError
            When it has ``max_norm``, ``scale_grad_by_freq`` or ``sparse``, which no part has.
        """
        for name in ("max_norm", "scale_grad_by_freq", "sparse"):
            if getattr(embedding, name) not in (None, False):
                raise ValueError(
                    f"{embedding} cannot be cut: VocabParallelEmbedding has no {name}; of its "
                    f"options only padding_idx is kept"
                )
        weight = embedding.weight
        like = {
            "dtype": weight.dtype,
            "device": weight.device,
            "padding_idx": embedding.padding_idx,
        }
        options = {**like, "generator": torch.Generator(), **options}
        cut = cls(embedding.num_embeddings, embedding.embedding_dim, group, **options)
        with torch.no_grad():
            cut.weight.copy_(cut.matrix.part(weight, group.rank()))
        return cut

    def forward(self, words: Tensor) -> Tensor:
        """Look up.

        Parameters
        ----------
        words : Tensor of int64, any shape, the same on every rank
            With ``reduce_scatter_embeddings`` sequence first, and whole.

        Returns
        -------
        Tensor of shape (…, embedding_dim)
        """
        with agreed(self.group, words, check=self.check):
            if self.check:
                check_words(words, self.matrix.shape[0])
            if self.reduce_scatter_embeddings:
                check_even(words, 0, self.group.size())
        if self.group.size() == 1:
            return F.embedding(words, self.weight, self.padding_idx)
        word, elsewhere = _held(words, self.weight.shape[0], self.group)
        vectors = F.embedding(word, self.weight, self._held_padding())  # (s, …) → (s, …, h)
        addend = vectors.masked_fill(elsewhere.unsqueeze(-1), 0.0)
        if self.reduce_scatter_embeddings:  # (s, …, h) → (s/t, …, h)
            return reduce_scatter_to_sequence_parallel_region(addend, self.group, check=False)
        return reduce_from_tensor_model_parallel_region(
            addend, self.group, check=False, inplace=True
        )

    def _held_padding(self) -> int | None:
        """Return the padding as an index here, or None where another rank holds it."""
        held = self.weight.shape[0]
        if self.padding_idx is None or self.padding_idx // held != self.group.rank():
            return None
        return self.padding_idx % held

    def extra_repr(self) -> str:
        """Return what is cut, and how."""
        return repr(self.matrix)


def vocab_parallel_cross_entropy(
    vocab_parallel_logits: Tensor, target: Tensor, group: dist.ProcessGroup, *, check: bool = True
) -> Tensor:
    """Return the loss of each token from logits that are cut by vocabulary.

    The whole logits, the largest tensor of a language model, are on no rank: two all-reduces of
    one and of two numbers per token give each rank all it needs. Backward communicates nothing.

    Parameters
    ----------
    vocab_parallel_logits : Tensor of shape (…, vocabulary / tp)
        This rank's columns, as a `ColumnParallelLinear` leaves them.
    target : Tensor of int64, shape (…)
        The right words, whole, the same on every rank.
    group, check
        As for `copy_to_tensor_model_parallel_region`.

    Returns
    -------
    Tensor of shape (…)
        log Σ exp(logits) − logit of the target, on every rank.

    Raises
    ------
    ValueError
        On every rank, when shapes do not fit, ranks disagree, or a target is none of a word.
    """
    tp = check_group(group).size()
    with agreed(group, vocab_parallel_logits, check=check):
        check_differentiable(vocab_parallel_logits)
        shape = vocab_parallel_logits.shape
        if shape[:-1] != target.shape:
            raise ValueError(
                f"logits {times(shape)} need a target of {times(shape[:-1])}, "
                f"got {times(target.shape)}"
            )
        if check:
            check_words(target, tp * shape[-1])
    return _VocabParallelCrossEntropy.on(vocab_parallel_logits, target, group)


def masked_cross_entropy(
    logits: Tensor, targets: Tensor, group: dist.ProcessGroup | None = None
) -> Tensor:
    """Return the mean loss of the tokens whose target is not `MASKED`.

    Parameters
    ----------
    logits : Tensor of shape (s, b, V), cut (s, b, V/t)
        Of the last stage.
    targets : Tensor of int64, shape (s, b)
        The next words.
    group : ProcessGroup, optional
        The tensor-parallel group, if the logits are cut.

    Raises
    ------
    ValueError
        When all targets are masked, so that there is no mean, or one is none of a word; when shapes
        do not fit. On this rank alone: every rank of the group has the same targets.

    Examples
    --------
    >>> masked_cross_entropy(torch.zeros(3, 1, 4), torch.tensor([[MASKED], [2], [3]]))
    tensor(1.3863)
    """
    counts = _counts(logits, targets, 1 if group is None else check_group(group).size())  # (s, b)
    if not counts.any():
        raise ValueError(
            f"all {targets.numel()} targets are masked: there is no loss to learn from"
        )
    words = targets.masked_fill(~counts, 0)  # (s, b)
    if group is None:
        losses = F.cross_entropy(logits.flatten(0, 1), words.flatten(), reduction="none")
        losses = losses.view_as(words)
    else:
        losses = vocab_parallel_cross_entropy(logits, words, group, check=False)  # (s, b)
    return losses[counts].mean()


class _VocabParallelCrossEntropy(TypedFunction):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, group: dist.ProcessGroup) -> Tensor:
        highest = logits.amax(-1)  # (…, v/t) → (…)
        _all_reduce(group, highest, dist.ReduceOp.MAX)
        shifted = logits - highest.unsqueeze(-1)  # so that no exponential overflows
        word, elsewhere = _held(target, logits.shape[-1], group)
        chosen = shifted.gather(-1, word.unsqueeze(-1)).squeeze(-1)  # (…, v/t) → (…)
        exponentials = shifted.exp_()
        sums = torch.stack([chosen.masked_fill_(elsewhere, 0.0), exponentials.sum(-1)])  # (2, …)
        _all_reduce(group, sums, dist.ReduceOp.SUM)
        chosen, total = sums
        ctx.save_for_backward(exponentials.div_(total.unsqueeze(-1)), word, elsewhere)
        loss: Tensor = total.log() - chosen
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dloss: Tensor) -> Any:
        softmax, word, elsewhere = ctx.saved_tensors
        dlogits = softmax * dloss.unsqueeze(-1)  # (…) → (…, v/t)
        at_target = dloss.masked_fill(elsewhere, 0.0).neg()
        return dlogits.scatter_add_(-1, word.unsqueeze(-1), at_target.unsqueeze(-1)), None, None


def _counts(logits: Tensor, targets: Tensor, tp: int) -> Tensor:
    """Return which targets count, if all are words or masked."""
    if not isinstance(logits, Tensor) or not isinstance(targets, Tensor):
        kinds = f"{type(logits).__name__} and {type(targets).__name__}"
        raise ValueError(f"logits and targets are tensors, got {kinds}")
    check_differentiable(logits)
    if not logits.ndim or logits.shape[:-1] != targets.shape:
        raise ValueError(
            f"logits (s, b, V) go with targets (s, b), got {times(logits.shape)} and "
            f"{times(targets.shape)}"
        )
    counts = targets != MASKED
    check_targets(targets[counts], tp * logits.shape[-1])
    return counts


def check_targets(words: Tensor, count: int) -> None:
    """Raise unless all are indices into a vocabulary; say what a mask is.

    >>> check_targets(torch.tensor([3, -100]), 8)
    Traceback (most recent call last):
        ...
    ValueError: index -100 is none of the 8 words 0 … 7; a target that does not count is MASKED, -1
    """
    try:
        check_words(words, count)
    except ValueError as error:
        raise ValueError(f"{error}; a target that does not count is MASKED, {MASKED}") from None


def _all_reduce(group: dist.ProcessGroup, x: Tensor, op: Any) -> None:
    if group.size() > 1:
        dist.all_reduce(x, op, group=group)


def _padding(word: int | None, count: int) -> int | None:
    if word is not None and whole_number("padding_idx", word, least=0) >= count:
        raise ValueError(f"padding_idx={word} is none of the {count} words 0 … {count - 1}")
    return word


def _held(words: Tensor, held: int, group: dist.ProcessGroup) -> tuple[Tensor, Tensor]:
    """Return each word as an index here, 0 where another rank holds it; and where that is."""
    local = words - group.rank() * held
    elsewhere = (local < 0) | (local >= held)
    return local.masked_fill_(elsewhere, 0), elsewhere


def check_words(words: Tensor, count: int) -> None:
    """Raise unless all are indices into a vocabulary of so many words.

    >>> check_words(torch.tensor([3, 8]), 8)
    Traceback (most recent call last):
        ...
    ValueError: index 8 is none of the 8 words 0 … 7
    """
    if words.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"words are whole numbers (int64), got {described(words)}")
    if words.numel() and not words.is_meta:
        for extreme in torch.stack(words.aminmax()).tolist():
            if not 0 <= extreme < count:
                raise ValueError(f"index {extreme} is none of the {count} words 0 … {count - 1}")
