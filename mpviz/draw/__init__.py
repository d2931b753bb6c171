"""The pictures. Each takes the pure value first and returns a `Picture`.

- `grid`: the slide: model copies as blocks, tp down, pp across;
- `cluster`: the machines: nodes as rows of GPUs;
- `groups`: the process groups of one kind, on either;
- `compare`: two layouts side by side;
- `values`: what each rank has to say, where it sits;
- `traffic`, `timeline`: who sent how much to whom, and who did what when.
"""

from .grid import cluster, grid
from .groups import compare, groups
from .picture import Picture
from .traffic import timeline, traffic
from .values import values

__all__ = ["Picture", "cluster", "compare", "grid", "groups", "timeline", "traffic", "values"]
