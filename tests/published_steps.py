"""Steps of training that others have timed, with how far off the model is.

Whether a paper counts recomputation and all scores in its FLOP/s differs: `counted` says which.
"""

from dataclasses import dataclass, replace
from functools import cached_property

from mpviz import ParallelLayout, cost, presets
from mpviz.cost import MODELS, Cluster, Model, Training

_NARAYANAN = "Narayanan et al. 2021 (arXiv 2104.04473), Table 1"
_KORTHIKANTI = "Korthikanti et al. 2022 (arXiv 2205.05198), Tables 3 and 5"
_LLAMA = "Llama team 2024 (arXiv 2407.21783), Table 4"
_DEEPSEEK = "DeepSeek-AI 2024 (arXiv 2412.19437), Table 1"

_FP8 = (
    "trained in FP8, whose products are up to twice as fast, with 20 of 132 processors kept for "
    "communication, which DualPipe hides: nothing of that is modelled"
)


@dataclass(frozen=True)
class PublishedStep:
    """One published time.

    Attributes
    ----------
    name, source : str
        Which, and where it is printed.
    model, layout, gpu
        What was trained, and on what.
    ways : tuple of Training
        How, as far as printed; the fastest of them that fits, where microbatch and chunks are not.
    seconds : float
        Of a step, from what is printed.
    why : str
        What the model leaves out, where it is off by more than 15 %.
    """

    name: str
    source: str
    model: Model
    layout: ParallelLayout
    gpu: str
    ways: tuple[Training, ...]
    seconds: float
    why: str = ""

    @cached_property
    def modelled(self):
        """The fastest way that fits, and its time."""
        cluster = Cluster(self.layout.world_size, self.gpu)
        times = []
        for way in self.ways:
            if len(self.ways) > 1:
                held = cost.memory(self.model, self.layout, way)
                if held.missing(cluster.machine.memory):
                    continue
            times.append((cost.step(self.model, self.layout, cluster, way), way))
        return min(times, key=lambda pair: pair[0].seconds)

    @property
    def error(self):
        """By how many percent the model's time is longer than the published one."""
        return 100 * (self.modelled[0].seconds / self.seconds - 1)


# ---- A100

_2021 = Training(fused=False, scatter_gather=True, recompute="full")
_TERAFLOPS = {
    **{"1.7B": 137, "3.6B": 138, "7.5B": 142, "18.4B": 135, "39.1B": 138, "76.1B": 140},
    **{"145.6B": 148, "310.1B": 155, "529.6B": 163, "1008.0B": 163},
}


def _table_1():
    """Yield the ten rows: microbatch and chunks are not printed."""
    for size, preset in presets.MEGATRON_TABLE_1.items():
        layout, model = preset.layout, preset.model
        each = model.layers // layout.pp
        chunks = [v for v in range(1, each + 1) if each % v == 0] if layout.pp > 1 else [1]
        ways = tuple(
            replace(_2021, microbatch=b, chunks=v)
            for b in (1, 2, 4, 8)
            for v in chunks
            if model.batch % (layout.dp * b) == 0
        )
        counted = cost.flops(model, _2021)  # the paper counts what is recomputed
        seconds = counted / layout.world_size / (1e12 * _TERAFLOPS[size])
        yield PublishedStep(
            f"{size} on {layout.world_size:,}", _NARAYANAN, model, layout, "A100", ways, seconds
        )


# Name: layers, hidden, heads, GPUs, pp, chunks, batch, microbatch, seconds full and selective.
_MODELS_OF_2022 = {
    "22B": (48, 6144, 64, 8, 1, 1, 4, 4, 1.42, 1.10),
    "175B": (96, 12_288, 96, 64, 8, 3, 64, 1, 18.13, 13.75),
    "530B": (105, 20_480, 128, 280, 35, 3, 280, 1, 49.05, 37.83),
    "1T": (128, 25_600, 160, 512, 64, 1, 512, 1, 94.42, 71.49),
}


def _tables_3_and_5():
    for name, (layers, h, heads, gpus, pp, v, batch, b, *times) in _MODELS_OF_2022.items():
        model = cost.gpt(name, layers, h, heads, batch)
        layout = Cluster(gpus, "A100").layout(tp=8, pp=pp)
        full = replace(_2021, microbatch=b, chunks=v)
        selective = replace(full, recompute="selective", sequence_parallel=True)
        for way, seconds in zip((full, selective), times, strict=True):
            yield PublishedStep(
                f"{name}, {way.recompute}", _KORTHIKANTI, model, layout, "A100", (way,), seconds
            )


# ---- H100, H800


def _table_4():
    """Yield the rows of Llama 3 405B.

    A first chunk with the embedding alone and a last one with the output alone, says section
    3.3.2: a layer a chunk, 8 chunks on a rank. Of scores half are taken to be counted: with all,
    the row of 131,072 tokens would have run 1.4 times as fast.
    """
    way = Training(sequence_parallel=True, zero=2, chunks=8, overlap=True)
    for (name, preset), teraflops in zip(presets.LLAMA3_405B.items(), (430, 400, 380), strict=True):
        counted = cost.flops(preset.model, causal=True)
        seconds = counted / preset.layout.world_size / (1e12 * teraflops)
        yield PublishedStep(
            f"Llama 3 405B, {name}", _LLAMA, preset.model, preset.layout, "H100", (way,), seconds
        )


def _deepseek():
    model, layout = MODELS["DeepSeek-V3"], presets.DEEPSEEK_V3.layout
    hours, steps = 2.664e6, model.tokens / (model.batch * model.sequence)
    way = Training(zero=1, overlap=True, chunks=2)
    return PublishedStep(
        "DeepSeek-V3",
        _DEEPSEEK,
        model,
        layout,
        "H800",
        (way,),
        3600 * hours / layout.world_size / steps,
        _FP8,
    )


A100 = (*_table_1(), *_tables_3_and_5())
H100 = tuple(_table_4())
OTHERS = (_deepseek(),)
EVERY = (*A100, *H100, *OTHERS)
