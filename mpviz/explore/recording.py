"""Answers kept ahead, and the page that moves with them where no kernel is."""

import html
import json
import os
import shutil
import uuid
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from .._checks import listed

MOST_ANSWERS = 5_000
"""The most that a record holds."""
MOST_BYTES = 4_000_000
"""The most that a record takes, packed."""

Kept = Mapping[str, Sequence[Any]]

_BOOT = (Path(__file__).parent / "saved.js").read_text(encoding="utf-8")
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{title}: {summary}</title>
<style>
{style}
</style>
</head>
<body class="mpviz-page">
<main class="mpviz-saved">
<h1>{title}</h1>
<p class="mpviz-notice" role="status">
The sliders need JavaScript; without it, picture and text stay.</p>
<div class="mpviz-still">
<figure><img src="data:image/png;base64,{png}" width="{width}" height="{height}" alt="{summary}">
</figure>
<pre tabindex="0" aria-label="the same in text">{text}</pre>
</div>
<script type="module">
{script}
{boot}
</script>
<script type="text/plain" class="mpviz-store">{store}</script>
</main>
</body>
</html>
"""


def checked(kept: Mapping[str, Iterable[Any]], here: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return the settings to keep, each with its values and the one where it stands.

    >>> checked({"tp": (4, 1), "focus": [None]}, {"tp": 2, "pp": 4, "focus": 3})
    {'tp': [1, 2, 4], 'focus': [None, 3]}
    """
    unknown = sorted(kept.keys() - here.keys())
    if unknown:
        raise ValueError(f"no control named {', '.join(unknown)}; there are {', '.join(here)}")
    values: dict[str, list[Any]] = {}
    for name, given in kept.items():
        if isinstance(given, str) or not isinstance(given, Iterable):
            raise ValueError(f"{name} is recorded for several values, such as [{here[name]!r}]")
        values[name] = _several(name, given, here[name])
        if all(isinstance(value, int | float | None) for value in values[name]):
            values[name].sort(key=lambda value: (value is not None, value or 0))
    count = prod(map(len, values.values()))
    if count > MOST_ANSWERS:
        name = max(values, key=lambda name: len(values[name]))
        raise ValueError(
            f"{_product(values)} are {count:,} settings; a record holds up to {MOST_ANSWERS:,}, "
            f"so {_fewer(values, MOST_ANSWERS / count)} would fit"
        )
    return values


def plain(value: Any) -> Any:
    """Return numpy's numbers as Python's, which can be sent to a page."""
    return value.item() if isinstance(value, np.generic) else value


def _several(name: str, given: Iterable[Any], here: Any) -> list[Any]:
    """Return the values to keep of one setting, each once."""
    values = list(map(plain, islice(given, MOST_ANSWERS + 1)))  # it may be endless
    if len(values) > MOST_ANSWERS:
        raise ValueError(
            f"{name} alone has more values than the {MOST_ANSWERS:,} settings that a record holds"
        )
    for value in values:
        if not isinstance(value, int | float | str | None):
            raise ValueError(f"{name} must be a number, a text or None, got {value!r}")
    return list(dict.fromkeys([*values, here]))


def packed(answers: Iterator[Mapping[str, Any]], kept: Kept) -> Iterator[bytes]:
    """Yield the answers, each a line of JSON, as gzip; raise where they take too much."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    taken, total = 0, prod(map(len, kept.values()))
    for number, answer in enumerate(answers):
        line = json.dumps(answer, ensure_ascii=False, separators=(",", ":"))
        piece = packer.compress(f"{line}\n".encode())
        taken += len(piece)
        if taken > MOST_BYTES:
            raise ValueError(
                f"the first {number:,} of {total:,} settings take {taken / 1e6:.1f} MB; a record "
                f"takes up to {MOST_BYTES / 1e6:g} MB, so about {_fewer(kept, number / total)} "
                f"would fit"
            )
        yield piece
    yield packer.flush()


def _product(kept: Kept) -> str:
    return " × ".join(f"{len(values)} of {name}" for name, values in kept.items())


def _fewer(kept: Kept, share: float) -> str:
    """Say how many values of one setting alone may be kept, for a share of the whole."""
    fewer = {name: int(len(values) * share) for name, values in kept.items()}
    said = [f"{count} of {name}" for name, count in fewer.items() if count]
    return listed(said, " or ") if said else f"{share:.1%} of them"


def page(**parts: Any) -> str:
    """Return one HTML page that holds all it needs."""
    raw = ("style", "script", "store", "png")
    safe = {name: part if name in raw else html.escape(str(part)) for name, part in parts.items()}
    return _PAGE.format(boot=_BOOT, **safe)


def checked_path(path: str | Path) -> Path:
    """Return where a page can be written, or raise ``ValueError``."""
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"cannot save as {path.name!r}; a name may end in .html or .htm")
    try:
        there, folder = path.exists(), path.parent.is_dir()
    except (OSError, ValueError) as error:  # a name too long, or with a null byte
        raise ValueError(f"cannot save as {str(path)!r}: {_why(error)}") from error
    if (there and not path.is_file()) or not folder:
        what = "is no file" if there else f"lies in {path.parent}, which is no folder"
        raise ValueError(f"cannot save as {str(path)!r}: that {what}")
    path = path.resolve()  # what a link leads to
    if not os.access(path.parent, os.W_OK):
        raise ValueError(f"cannot save as {str(path)!r}: no right to write in {path.parent}")
    return path


def write(path: Path, text: str) -> None:
    """Write beside the path, then swap: a reader sees the old page or the new one."""
    beside = path.with_name(f".{uuid.uuid4().hex}.part")  # nobody's, another thread's neither
    try:
        beside.write_text(text, encoding="utf-8")
        if path.exists():
            shutil.copymode(path, beside)
        os.replace(beside, path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise ValueError(f"cannot save as {str(path)!r}: {_why(error)}") from error


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
