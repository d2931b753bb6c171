"""Sliders over the pictures.

- `layout`: nodes, tp, pp, cp, ep, order: who is where, and what leaves its node;
- `compare`: two orders side by side.
"""

from .compare import compare
from .explorer import Explorer
from .layout import layout

__all__ = ["Explorer", "compare", "layout"]
