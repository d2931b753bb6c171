"""Sliders over the pictures.

- `layout`: nodes, tp, pp, cp, ep, order: who is where, and what leaves its node;
- `compare`: two orders side by side;
- `schedule`: a pipeline's ranks, microbatches and schedule: bubble and memory;
- `collective`: who sends which chunk to whom, step by step;
- `step`: a recorded step of training: in which kind of group each rank is at a moment;
- `curve`: no slider: a value of each step, drawn while the ranks work;
- `zero`: a model, its copies and the stage of ZeRO: what a rank holds and sends.
"""

from .collective import collective
from .compare import compare
from .explorer import Explorer
from .layout import layout
from .live import curve
from .moments import step
from .schedule import schedule
from .stages import zero

__all__ = ["Explorer", "collective", "compare", "curve", "layout", "schedule", "step", "zero"]
