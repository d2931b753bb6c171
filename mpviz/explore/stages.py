"""Move the size of a model, its copies and the stage of ZeRO: what each rank holds and sends."""

from collections.abc import Mapping, Sequence
from typing import Any

from .. import cost, draw
from .._checks import whole_number
from ..cost import PRECISIONS, ModelState, Precision
from .controls import Control, Menu, Slider, notches
from .explorer import Explorer, Setting, Settings, View
from .sizes import MOST_GPUS, check_choice
from .words import in_bytes

_DEFAULTS = {"dp": 64, "stage": 0, "precision": "mixed", "memory": 80}
_RECORDED = {
    **{"stage": range(4), "billions": (1.5, 7.5, 13, 70, 175), "dp": (1, 2, 8, 64, 1024)},
    "precision": tuple(PRECISIONS),
}
_BILLIONS = (
    *(0.1, 0.3, 0.5, 1, 1.5, 2, 3, 4, 5, 6, 7, 7.5, 8, 10, 13, 15, 20, 30, 40, 50, 70, 100),
    *(128, 175, 200, 300, 405, 530, 671, 1000),
)
_MOST_DP = 1024
_SMALLEST, _MOST = 0.001, 100_000
_REMARKS = {
    "mixed": "ZeRO paper",
    "bf16": "Megatron",
    "fp16": "Megatron",
    "fp32": "no copy",
}
_GPUS = {40: "A100", 80: "A100, H100", 141: "H200", 192: "B200, MI300X"}
_STAGES = {stage: f"stage {stage}" for stage in range(4)}
_KINDS = ("weights", "gradients", "optimizer")


class ZeroExplorer(Explorer):
    """Sliders over the stages of ZeRO; made by `zero`."""

    _title = "Explore ZeRO"
    _call = "explore.zero"
    _defaults = _DEFAULTS
    _recorded = _RECORDED

    billions, dp, stage = Setting(), Setting(), Setting()
    precision, memory = Setting(), Setting()

    def _controls(self, settings: Settings) -> Sequence[Control]:
        billions, memory = settings["billions"], settings["memory"]
        precisions = (
            (f"{name}: {_each(each, 0, 1)}, {_REMARKS[name]}", name)
            for name, each in PRECISIONS.items()
        )
        gpus = ((f"{size:g} ({_GPUS.get(size, 'your own')})", size) for size in {*_GPUS, memory})
        return [
            Slider("stage", "stage", tuple(_STAGES)),
            Slider("billions", "parameters, B", sorted({*_BILLIONS, billions})),
            Slider("dp", "dp", notches(_MOST_DP, settings["dp"])),
            Menu("precision", "bytes: weights + gradients + optimizer", tuple(precisions)),
            Menu("memory", "GPU memory, GB", tuple(sorted(gpus, key=lambda gpu: gpu[1]))),
        ]

    def _check(self, settings: Settings) -> None:
        for name in ("billions", "memory"):
            number = settings[name]
            real = isinstance(number, int | float) and not isinstance(number, bool)
            if not real or not _SMALLEST <= number <= _MOST:
                raise ValueError(f"{name} must be a number {_SMALLEST} … {_MOST:,}, got {number!r}")
        if whole_number("dp", settings["dp"]) > MOST_GPUS:
            raise ValueError(f"dp must be 1 … {MOST_GPUS:,}, got {settings['dp']:,}")
        check_choice("precision", settings["precision"], PRECISIONS)
        cost.zero(_parameters(settings), settings["dp"], settings["stage"])

    def _viewed(self, settings: Settings) -> View:
        states, dp = states_of(settings), settings["dp"]
        copies = "1 copy" if dp == 1 else f"{dp:,} copies"
        title = f"{settings['billions']:,g} billion parameters, {copies}"
        chosen = states[settings["stage"]]
        picture = draw.memory(
            {_STAGES[stage]: held(state) for stage, state in states.items()},
            sent={_STAGES[stage]: state.sent_bytes for stage, state in states.items()},
            chosen=_STAGES[settings["stage"]],
            capacity=1e9 * settings["memory"],
            title=f"{title}: what a rank holds",
        )
        fits = summary(chosen, settings["memory"])
        said = f"{title}, {_STAGES[settings['stage']]}: {fits}"
        return View(picture, said, table(settings, states), note(settings), chosen)


def zero(
    billions: float = 7.5,
    *,
    dp: int = 64,
    stage: int = 0,
    precision: str = "mixed",
    memory: float = 80,
) -> ZeroExplorer:
    """Show what a rank holds and sends in the stages of ZeRO, with a slider for the stage.

    Parameters
    ----------
    billions : float
        Parameters of the model, in billions; the paper's 7.5 if not given.
    dp : int
        Copies of the model, on a rank each: 1 … 131,072.
    stage : {0, 1, 2, 3}
        What is cut into dp shards: nothing, the optimizer's state, gradients too, weights too.
    precision : str
        Bytes of weights, gradients and optimizer: one of `cost.PRECISIONS`.
    memory : float
        Gigabytes that a GPU has, 10⁹ bytes each.

    Returns
    -------
    ZeroExplorer
        A widget with a trait for each setting. Its ``value`` is the `cost.ModelState`.

    Raises
    ------
    ValueError
        When the first settings do not fit. Later ones are explained in its ``problem``.

    Examples
    --------
    >>> explorer = zero(7.5, dp=64)
    >>> for explorer.stage in range(4):
    ...     print(explorer.shown["summary"])
    7.5 billion parameters, 64 copies, stage 0: a rank holds 120 GB, 40 GB more than its GPU has
    7.5 billion parameters, 64 copies, stage 1: a rank holds 31.4 GB, which fits into 80 GB
    7.5 billion parameters, 64 copies, stage 2: a rank holds 16.6 GB, which fits into 80 GB
    7.5 billion parameters, 64 copies, stage 3: a rank holds 1.88 GB, which fits into 80 GB
    """
    settings = {"billions": billions, "dp": dp, "stage": stage, "precision": precision}
    return ZeroExplorer({**settings, "memory": memory})


def states_of(settings: Mapping[str, Any]) -> dict[int, ModelState]:
    """Return what a rank holds and sends in each stage."""
    arguments = _parameters(settings), settings["dp"]
    return {stage: cost.zero(*arguments, stage, settings["precision"]) for stage in _STAGES}


def held(state: ModelState) -> dict[str, int]:
    """Return the bytes held, by kind."""
    return {kind: getattr(state, kind) for kind in _KINDS}


def table(settings: Mapping[str, Any], states: Mapping[int, ModelState]) -> list[tuple[str, ...]]:
    """Return a row for each stage: bytes held and sent, and from how many copies on it fits."""
    dp, memory = settings["dp"], settings["memory"]
    precision = PRECISIONS[settings["precision"]]
    rows: list[tuple[str, ...]] = [
        (
            "ZeRO",
            "bytes for each parameter",
            "a rank holds",
            f"fits {memory:g} GB",
            "sends in a step",
        )
    ]
    for stage, state in states.items():
        least = cost.least_dp(_parameters(settings), stage, settings["precision"], 1e9 * memory)
        rows.append(
            (
                ("▸ " if stage == settings["stage"] else "") + _STAGES[stage],
                _each(precision, stage, dp),
                in_bytes(state.total, digits=3),
                "with no dp" if least is None else "yes" if least <= dp else f"from dp {least:,}",
                _sent(state, _parameters(settings), dp),
            )
        )
    return rows


def summary(state: ModelState, memory: float) -> str:
    """Return what a rank holds, and whether its GPU has as much.

    >>> summary(cost.zero(10**9, 1, 0), 24)
    'a rank holds 16 GB, which fits into 24 GB'
    """
    said = f"a rank holds {in_bytes(state.total, digits=3)}"
    missing = state.total - 1e9 * memory
    if missing > 0:
        return f"{said}, {in_bytes(missing, digits=3)} more than its GPU has"
    return f"{said}, which fits into {memory:g} GB"


def note(settings: Mapping[str, Any]) -> str:
    """Return what the table assumes."""
    return (
        f"Adam's {settings['precision']} precision. Activations, buckets under way and weights "
        f"gathered for a moment come on top. Ψ is the number of parameters; of what is sent, "
        f"gradients are in their precision and weights in theirs. Source: "
        f"{PRECISIONS[settings['precision']].source}."
    )


def _parameters(settings: Mapping[str, Any]) -> int:
    parameters: int = round(1e9 * settings["billions"])
    return parameters


def _each(precision: Precision, stage: int, dp: int) -> str:
    """Return the bytes for each parameter: weights, gradients, optimizer.

    >>> _each(PRECISIONS["bf16"], 1, 64)
    '2 + 4 + 12/64'
    """
    cut = dict(zip(reversed(_KINDS), range(1, 4), strict=True))  # by which stage
    parts = ((getattr(precision, kind), stage >= cut[kind] and dp > 1) for kind in _KINDS)
    return " + ".join(f"{size}/{dp}" if shared else str(size) for size, shared in parts)


def _sent(state: ModelState, parameters: int, dp: int) -> str:
    """Return what is sent, in elements and bytes.

    >>> [_sent(cost.zero(64_000, 64, stage), 64_000, 64) for stage in (0, 3)]
    ['2Ψ × 63/64: 252 KB', '3Ψ × 63/64: 378 KB']
    """
    if dp == 1:
        return "nothing"
    times = round(sum(state.sent.values()) / (parameters * (dp - 1) / dp))
    size = in_bytes(sum(state.sent_bytes.values()), digits=3)
    return f"{times}Ψ × {dp - 1}/{dp}: {size}"
