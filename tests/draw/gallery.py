"""Save every drawing of every corner case as PNG, to look at: ``make pictures``."""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from draw.test_legible import CORNER_CASES, DRAWINGS

FOLDER = Path(__file__).parents[2] / ".screenshots" / "pictures"


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for layout in CORNER_CASES:
        for name, make in DRAWINGS.items():
            sizes = f"{layout.world_size}_tp{layout.tp}_cp{layout.cp}_dp{layout.dp}_pp{layout.pp}"
            file = FOLDER / f"{sizes}_{re.sub(r'[^a-z0-9]+', '_', name)}.png"
            file.write_bytes(make(layout).png())
    print(f"{len(list(FOLDER.glob('*.png')))} pictures in {FOLDER}")


if __name__ == "__main__":
    main()
