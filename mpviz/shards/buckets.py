"""Parameters one behind the other in buffers, and the shard of each buffer that a rank owns.

Data parallelism sums gradients by the buffer (bucket), and ZeRO cuts each buffer into equal shards:
a shard may begin and end inside a parameter.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from math import prod

from .._checks import whole_number
from .cuts import Shape, times


@dataclass(frozen=True, repr=False)
class Bucket:
    """Parameters that lie in one buffer, padded so that it can be cut into equal shards.

    Parameters
    ----------
    shapes : mapping from str to tuple of int
        Of each parameter, in the order in which they lie.
    parts : int
        Ranks that share the buffer, usually dp × cp.

    Examples
    --------
    >>> bucket = Bucket({"weight": (3, 2), "bias": (3,)}, parts=2)
    >>> bucket
    weight 3×2, bias 3, padding 1: 2 shards of 5
    >>> bucket.owned(0), bucket.owned(1)
    ({'weight': slice(0, 5, None)}, {'weight': slice(5, 6, None), 'bias': slice(0, 3, None)})
    """

    shapes: Mapping[str, Shape]
    parts: int

    def __post_init__(self) -> None:
        sizes = {
            name: tuple(whole_number(f"a size of {name}", size, least=0) for size in shape)
            for name, shape in self.shapes.items()
        }
        object.__setattr__(self, "shapes", sizes)
        object.__setattr__(self, "parts", whole_number("parts", self.parts))

    @cached_property
    def spans(self) -> dict[str, slice]:
        """Where each parameter lies in the buffer, flattened."""
        sizes = [prod(shape) for shape in self.shapes.values()]
        ends = accumulate(sizes)
        return {
            name: slice(end - size, end)
            for name, size, end in zip(self.shapes, sizes, ends, strict=True)
        }

    @property
    def numel(self) -> int:
        """Elements of all parameters."""
        return sum(map(prod, self.shapes.values()))

    @property
    def shard_numel(self) -> int:
        """Elements of one shard, padding included."""
        return -(-self.numel // self.parts)

    @property
    def padded_numel(self) -> int:
        """Elements of the buffer: the parameters, and the padding behind them."""
        return self.parts * self.shard_numel

    def shard(self, rank: int) -> slice:
        """Return where the shard of a rank, 0 … parts - 1, lies in the buffer."""
        if not 0 <= rank < self.parts:
            raise ValueError(f"rank must be 0 … {self.parts - 1}, got {rank!r}")
        return slice(rank * self.shard_numel, (rank + 1) * self.shard_numel)

    def owned(self, rank: int) -> dict[str, slice]:
        """Return what a rank owns: of each parameter that its shard touches, flattened, a slice."""
        mine, owned = self.shard(rank), {}
        for name, span in self.spans.items():
            start, stop = max(span.start, mine.start), min(span.stop, mine.stop)
            if start < stop:
                owned[name] = slice(start - span.start, stop - span.start)
        return owned

    def in_shard(self, rank: int) -> dict[str, slice]:
        """Return where in a rank's shard its part of each parameter lies.

        Examples
        --------
        >>> Bucket({"weight": (3, 2), "bias": (3,)}, parts=2).in_shard(1)
        {'weight': slice(0, 1, None), 'bias': slice(1, 4, None)}
        """
        shard, places = self.shard(rank).start, {}
        for name, part in self.owned(rank).items():
            start = self.spans[name].start - shard
            places[name] = slice(start + part.start, start + part.stop)
        return places

    def __repr__(self) -> str:
        parts = [f"{name} {times(shape)}" for name, shape in self.shapes.items()]
        padding = self.padded_numel - self.numel
        parts += [f"padding {padding}"] if padding else []
        plural = "" if self.parts == 1 else "s"
        return f"{', '.join(parts)}: {self.parts} shard{plural} of {self.shard_numel}"


def buckets_of(shapes: Mapping[str, Shape], parts: int, *, full: int) -> tuple[Bucket, ...]:
    """Deal parameters to buckets, the last one first: backward reaches it first.

    Parameters
    ----------
    shapes : mapping from str to tuple of int
        Of each parameter, in the order of forward.
    parts : int
        Ranks that share each bucket, usually dp × cp.
    full : int
        Elements with which a bucket is full: the parameter that reaches it is the last in it.

    Examples
    --------
    >>> shapes = {"0.weight": (4, 4), "0.bias": (4,), "1.weight": (2, 4), "1.bias": (2,)}
    >>> for bucket in buckets_of(shapes, parts=4, full=8):
    ...     print(bucket)
    1.bias 2, 1.weight 2×4, padding 2: 4 shards of 3
    0.bias 4, 0.weight 4×4: 4 shards of 5
    """
    full = whole_number("full", full)
    dealt: list[dict[str, Shape]] = []
    held = full
    for name, shape in reversed(list(shapes.items())):
        if held >= full:
            dealt.append({})
            held = 0
        dealt[-1][name] = shape
        held += prod(shape)
    return tuple(Bucket(one, parts) for one in dealt)
