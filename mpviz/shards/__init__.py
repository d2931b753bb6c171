"""What each rank holds: the slide's symbol, the layers of its stage, its part of a matrix.

- `symbols`: pieces and copies of the model, and their marks;
- `layers`: which layers a pipeline rank holds, and all that one rank holds;
- `cuts`: how a matrix lies on the ranks: whole, cut, or as partial sums;
- `operators`, `blocks`: a layer cut over tp ranks: its products, with f and g between them;
- `buckets`: parameters in buffers, and the shard of each that a rank owns;
- `rectangles`: where what a rank holds lies in the whole tensor.
"""

from .blocks import Block, attention, column_parallel, mlp, row_parallel
from .buckets import Bucket, buckets_of
from .cuts import Cut, cut, times
from .layers import Shard, held_by, layers_of
from .operators import Collective, Local, Operator, Product, product
from .rectangles import Rectangle, rectangles
from .symbols import SYMBOLS, copy_of, label, letters, piece_of, subscript, symbol

__all__ = [
    "SYMBOLS",
    "Block",
    "Bucket",
    "Collective",
    "Cut",
    "Local",
    "Operator",
    "Product",
    "Rectangle",
    "Shard",
    "attention",
    "buckets_of",
    "column_parallel",
    "copy_of",
    "cut",
    "held_by",
    "label",
    "layers_of",
    "letters",
    "mlp",
    "piece_of",
    "product",
    "rectangles",
    "row_parallel",
    "subscript",
    "symbol",
    "times",
]
