"""How many ranks a picture can show."""

from ...layout import ParallelLayout

MOST_RANKS = 2**20
"""Of one picture, which has not many more pixels: at most about 1 s and 0.2 GB."""

MOST_ROWS = 2**12
"""Where each rank has a row or a part of its own: more cannot even be told apart."""


def check_drawable(layout: ParallelLayout) -> None:
    """Raise ``ValueError`` before a layout takes the memory of a picture that shows nothing."""
    if layout.world_size > MOST_RANKS:
        raise ValueError(
            f"a picture shows at most {MOST_RANKS:,} ranks, it has not many more pixels; this "
            f"layout has {layout.world_size:,}"
        )


def check_rows(ranks: int) -> None:
    """Raise ``ValueError`` for more ranks than a picture with a row for each is made of."""
    if ranks > MOST_ROWS:
        raise ValueError(
            f"a picture with a row for each rank takes at most {MOST_ROWS:,} ranks, and this one "
            f"would have {ranks:,}"
        )
