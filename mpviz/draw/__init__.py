"""The pictures. Each takes the pure value first and returns a `Picture`.

- `pieces`: one model as a rectangle, and where tp and pp cut it;
- `grid`: the slide: model copies as blocks, tp down, pp across;
- `cluster`: the machines: nodes as rows of GPUs;
- `groups`: the process groups of one kind, on either;
- `compare`: two layouts side by side;
- `values`: a word for each rank, where it sits;
- `outcomes`: what became of each rank of a run, the cause in front;
- `traffic`: who sent how much to whom;
- `collective`: a collective step by step: who holds which chunk, who sends what to whom;
- `timeline`, `timelines`: who did what when; of a pipeline, its chart;
- `step`: a recorded step of training, a colour for each kind of group;
- `curves`: a value of each step of a training;
- `memory`, `owned`, `backward`: what a rank holds, what it owns, what hides what;
- `product`, `block`: matrices cut over tensor-parallel ranks, and the layer they are in.
"""

from .canvas.picture import Picture
from .charts.bars import memory
from .charts.curves import curves
from .charts.overlap import backward
from .charts.ownership import owned
from .gantt.lanes import step
from .gantt.timelines import timeline, timelines
from .grids.chunks import collective
from .grids.cut_model import pieces
from .grids.grid import cluster, grid
from .grids.messages import traffic
from .grids.process_groups import compare, groups
from .grids.values import outcomes, values
from .tensor.block import block
from .tensor.product import product

__all__ = [
    "Picture",
    "backward",
    "block",
    "cluster",
    "collective",
    "compare",
    "curves",
    "grid",
    "groups",
    "memory",
    "outcomes",
    "owned",
    "pieces",
    "product",
    "step",
    "timeline",
    "timelines",
    "traffic",
    "values",
]
