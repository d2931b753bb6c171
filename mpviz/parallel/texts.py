"""Texts for a GPT to learn from, generated: nothing to download."""

import torch
from torch import Tensor

from .._checks import whole_number
from .vocab import MASKED


def repeated_words(
    batch: int, *, sequence: int = 32, vocab_size: int = 32, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Return texts that say three random words again and again, and the word after each.

    From the fourth word on a model can know what comes: the loss falls towards 0. The first three
    are anybody's guess, and masked.

    Returns
    -------
    tokens, targets : Tensor of int64, each (s, batch)

    Examples
    --------
    >>> tokens, targets = repeated_words(1, sequence=6, vocab_size=10)
    >>> tokens.flatten().tolist(), targets.flatten().tolist()
    ([4, 9, 3, 4, 9, 3], [-1, -1, 4, 9, 3, 4])
    """
    whole_number("sequence", sequence, least=3)  # else nothing can be known
    generator = _generator(batch=batch, vocab_size=vocab_size, seed=seed)
    three = torch.randint(vocab_size, (3, batch), generator=generator)
    return _next_words(three.repeat(sequence // 3 + 1, 1)[: sequence + 1], known=3)


def sorted_words(
    batch: int, *, words: int = 15, vocab_size: int = 10, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Return random words followed by the same ones sorted, and the word after each.

    The loss is of the second half alone. ``words`` words make a sequence of 2 × words − 1.

    Examples
    --------
    >>> tokens, targets = sorted_words(1, words=3)
    >>> tokens.flatten().tolist(), targets.flatten().tolist()
    ([4, 9, 3, 3, 4], [-1, -1, 3, 4, 9])
    """
    whole_number("words", words)
    generator = _generator(batch=batch, vocab_size=vocab_size, seed=seed)
    given = torch.randint(vocab_size, (words, batch), generator=generator)
    return _next_words(torch.cat([given, given.sort(dim=0).values]), known=words)


def _generator(*, batch: int, vocab_size: int, seed: int) -> torch.Generator:
    whole_number("batch", batch)
    whole_number("vocab_size", vocab_size)
    return torch.Generator().manual_seed(whole_number("seed", seed, least=0))


def _next_words(text: Tensor, known: int) -> tuple[Tensor, Tensor]:
    """Return a text without its last word, and without its first; mask what cannot be known."""
    targets = text[1:].clone()
    targets[: known - 1] = MASKED
    return text[:-1], targets
