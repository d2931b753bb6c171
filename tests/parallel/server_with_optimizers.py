"""A server of ranks that imports what torch's optimizers need, which takes each rank a second."""

import runpy
from pathlib import Path

SERVER = Path(__file__).parents[2] / "mpviz" / "world" / "server.py"

if __name__ == "__main__":
    import torch._dynamo
    import torch.distributed.optim  # noqa: F401

    runpy.run_path(str(SERVER), run_name="__main__")
