"""The check of lesson 00, which shows what a check is."""

from ..presets import SLIDE
from ..shards import label, symbol
from .verdict import Verdict, exercise, judged_number

_SLIDE = SLIDE.layout


@exercise
def gpus_with_star(answer: object) -> Verdict:
    """How many GPUs of the slide hold the piece ★?

    >>> gpus_with_star(1)
    ✗ 1 is not it. Look at the second block too: the same symbol means the same piece.
    >>> gpus_with_star(2)
    ✓ GPUs 0 and 2 hold ★: one in each copy of the model.
    """
    star = symbol(_SLIDE, 0)
    holders = [r for r in range(_SLIDE.world_size) if label(_SLIDE, r).startswith(star)]
    return judged_number(
        answer,
        len(holders),
        f"GPUs {' and '.join(map(str, holders))} hold {star}: one in each copy of the model.",
        {
            1: "Look at the second block too: the same symbol means the same piece.",
            _SLIDE.tp * _SLIDE.pp: "That is how many pieces there are; one of them is ★.",
            _SLIDE.world_size: "That is all GPUs. Count those that show ★.",
            4: "Only the cells with a ★ count; a row holds four different pieces.",
        },
    )
