"""Answers kept ahead, and the page that moves with them where no kernel is."""

import html
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

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
<main>
<h1>{title}</h1>
<p id="notice" role="status"></p>
<noscript><p>Without JavaScript the sliders are missing; picture and text stay.</p></noscript>
<div id="explorer">
<figure><img src="data:image/png;base64,{png}" width="{width}" height="{height}" alt="{summary}">
</figure>
<pre tabindex="0" aria-label="the same in text">{text}</pre>
</div>
</main>
<script type="module">
{script}
{boot}
</script>
<script type="text/plain" id="store">{store}</script>
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
        values[name] = list(dict.fromkeys([*given, here[name]]))
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
    if path.is_dir() or not path.parent.is_dir():
        what = "is a folder" if path.is_dir() else f"lies in {path.parent}, which is no folder"
        raise ValueError(f"cannot save as {str(path)!r}: that {what}")
    if not os.access(path.parent, os.W_OK):
        raise ValueError(f"cannot save as {str(path)!r}: no right to write in {path.parent}")
    return path


def write(path: Path, text: str) -> None:
    """Write beside the path, then swap: a reader sees the old page or the new one."""
    beside = path.with_name(f"{path.name}.part")
    try:
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise ValueError(f"cannot save as {str(path)!r}: {error.strerror}") from error
