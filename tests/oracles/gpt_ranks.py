"""mpviz's GPT beside Megatron's own GPTModel, on real ranks: ``gpt_ranks.py FOLDER``.

Eight ranks form Megatron's groups of each (tp, pp) in turn; both models are built over them, with
the same weights, and run the same microbatches, each by its own pipeline. Every rank writes
FOLDER/RANK.json: by how much losses and gradients differ. Megatron is imported once, then the
ranks are forked. It asks for a GPU in five places; these are patched here.
"""

import sys
import warnings
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from forked import answer  # a script finds its neighbours

RANKS = 8
SIZES = [(1, 1), (2, 1), (1, 4), (2, 2), (2, 4), (4, 2)]
SEQUENCE_PARALLEL = [(2, 2), (4, 2)]
LAYERS, HIDDEN, HEADS, WORDS, SEQUENCE, EACH, MICROBATCHES = 4, 32, 8, 24, 12, 2, 4
MODELS = {
    "GPT-2": {},
    "Llama": {
        "norm": "rms",
        "positions": "rotary",
        "activation": "swiglu",
        "num_kv_heads": 4,
        "bias": False,
        "tied": False,
    },
}


# ---- Megatron, without a GPU


def without_gpu(patch):
    """Let Megatron run on a CPU; ``patch`` is ``setattr``."""
    import torch
    from megatron.core.tensor_parallel.random import CudaRNGStatesTracker

    zeros = torch.zeros
    patch(torch.cuda, "current_device", lambda: "cpu")
    patch(torch.cuda, "synchronize", lambda *_: None)
    patch(torch.Tensor, "cuda", lambda self, *_, **__: self)
    patch(CudaRNGStatesTracker, "fork", lambda *_: nullcontext())
    patch(torch, "zeros", lambda *size, **o: zeros(*size, **o | {"device": "cpu"}))


def megatron_model(config, tp, pp):
    import torch
    import torch.nn.functional as F
    from megatron.core import parallel_state
    from megatron.core.models.gpt import GPTModel
    from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
    from megatron.core.transformer import TransformerConfig

    swiglu, rms = config.activation == "swiglu", config.norm == "rms"
    normalization = "RMSNorm" if rms else "LayerNorm"
    made_of = TransformerConfig(
        num_layers=config.num_layers,
        hidden_size=config.hidden_size,
        num_attention_heads=config.num_heads,
        num_query_groups=config.kv_heads,
        ffn_hidden_size=config.ffn,
        normalization=normalization,
        gated_linear_unit=swiglu,
        activation_func=F.silu if swiglu else F.gelu,
        add_bias_linear=config.bias,
        tensor_model_parallel_size=tp,
        pipeline_model_parallel_size=pp,
        pipeline_dtype=torch.float64,
        params_dtype=torch.float64,
        use_cpu_initialization=True,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        gradient_accumulation_fusion=False,
        persist_layer_norm=False,
        bias_activation_fusion=False,
        masked_softmax_fusion=False,
        bias_dropout_fusion=False,
        apply_rope_fusion=False,
        deallocate_pipeline_outputs=False,
        attention_softmax_in_fp32=False,
    )
    model = GPTModel(
        made_of,
        get_gpt_layer_local_spec(normalization=normalization),
        config.vocab_size,
        config.sequence,
        pre_process=parallel_state.is_pipeline_first_stage(),
        post_process=parallel_state.is_pipeline_last_stage(),
        share_embeddings_and_output_weights=config.tied,
        position_embedding_type="rope" if config.positions == "rotary" else "learned_absolute",
    ).to(torch.float64)
    if config.positions == "rotary":  # else angles have the digits of float32
        frequencies = torch.arange(0, config.head_size, 2, dtype=torch.float64) / config.head_size
        model.rotary_pos_emb.inv_freq = 10000.0**-frequencies
    return model


def megatron_losses(model, batches):
    """Run the microbatches by Megatron's schedule; gradients go to the parameters."""
    import torch
    import torch.nn.functional as F
    from megatron.core.pipeline_parallel import get_forward_backward_func
    from megatron.core.tensor_parallel import gather_from_tensor_model_parallel_region

    def loss(targets, logits):  # (b, s, V/t); Megatron's own loss computes in float32
        whole = gather_from_tensor_model_parallel_region(logits).transpose(0, 1)  # (s, b, V)
        mean = F.cross_entropy(whole.flatten(0, 1), targets.flatten(), ignore_index=-1)
        return mean, {"loss": mean.detach().clone()}  # it divides the first in place

    def forward(batches, model):
        tokens, targets = next(batches)
        sequence, batch = tokens.shape
        places = torch.arange(sequence).expand(batch, -1)
        mask = torch.ones(1, 1, sequence, sequence, dtype=torch.bool).triu(1)
        return model(tokens.t().contiguous(), places, mask), partial(loss, targets)

    reported = get_forward_backward_func()(
        forward_step_func=forward,
        data_iterator=iter(batches),
        model=[model],
        num_microbatches=len(batches),
        seq_length=SEQUENCE,
        micro_batch_size=EACH,
        forward_only=False,
    )
    return [one["loss"].item() for one in reported]


def reduce_tied_gradients(model, config):
    """What Megatron does when a step's backwards are done, by hand."""
    import torch.distributed as dist
    from megatron.core import parallel_state

    first, last = parallel_state.is_pipeline_first_stage(), parallel_state.is_pipeline_last_stage()
    if config.tied and first != last:
        copy = model.shared_embedding_or_output_weight().grad
        dist.all_reduce(copy, group=parallel_state.get_embedding_group())


# ---- side by side


def megatrons_name(name, first):
    """What Megatron calls a parameter: it counts layers from the stage's first."""
    if name.startswith("layers."):
        _, number, rest = name.split(".", 2)
        return f"decoder.layers.{int(number) - first}.{rest}"
    return name.replace("output.final", "decoder.final").removeprefix("output.")


def relative(ours, theirs):
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype, (ours.shape, theirs.shape)
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def differences(name, tp, pp, sequence_parallel):
    import torch
    from megatron.core import parallel_state

    from mpviz import parallel, schedule
    from mpviz.parallel import pipeline

    sizes = {"num_layers": LAYERS, "hidden_size": HIDDEN, "num_heads": HEADS, "vocab_size": WORDS}
    config = parallel.GPTConfig(
        **sizes, sequence=SEQUENCE, dtype=torch.float64, init_std=0.1, **MODELS[name]
    )
    groups = {
        "tp": parallel_state.get_tensor_model_parallel_group(),
        "pp": parallel_state.get_pipeline_model_parallel_group(),
    }
    if groups["pp"].rank() in (0, pp - 1):
        groups["embedding"] = parallel_state.get_embedding_group()
    stage = groups["pp"].rank()
    ours = parallel.gpt_stage(config, stage, pp, groups, sequence_parallel=sequence_parallel)
    theirs = megatron_model(config, tp, pp)  # its norms on the CPU take whole sequences alone
    parameters = dict(theirs.named_parameters())
    names = {
        name: megatrons_name(name, config.layers_of(stage, pp)[0])
        for name in dict(ours.named_parameters())
    }
    generator = torch.Generator().manual_seed(7)
    shaken = {n: torch.randn(3 * 4 * HIDDEN, generator=generator) for n in ("weight", "bias")}
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            if parameter.ndim == 1:  # norms begin as 1 and biases as 0, which would hide mistakes
                parameter += 0.1 * shaken[name.rsplit(".")[-1]][: len(parameter)]
            parameters.pop(names[name]).copy_(parameter)
    assert not parameters, list(parameters)

    text = torch.randint(WORDS, (2, SEQUENCE, MICROBATCHES * EACH), generator=generator)
    text[1, ::5] = -1
    batches = list(zip(*(one.chunk(MICROBATCHES, dim=1) for one in text), strict=True))
    expected = megatron_losses(theirs, batches)
    reduce_tied_gradients(theirs, config)
    stages = {stage: ours}
    run = pipeline.execute(
        schedule.one_forward_one_backward(pp=pp, microbatches=MICROBATCHES),
        stages,
        inputs=[tokens for tokens, _ in batches],
        targets=[targets for _, targets in batches],
        loss=partial(parallel.masked_cross_entropy, group=groups["tp"]),
        group=groups["pp"],
    )
    parallel.reduce_embedding_gradients(stages, groups)
    parallel.reduce_sequence_parallel_gradients(ours, groups["tp"])

    assert len(expected) == len(run.losses or ())
    losses = zip(run.losses or (), expected, strict=True)
    errors = {"loss": max((abs(mine - one) / one for mine, one in losses), default=0.0)}
    parameters = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        errors[name] = relative(parameter.grad, parameters[names[name]].grad)
    return errors


def observe(rank):
    import torch
    from megatron.core import parallel_state

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    without_gpu(setattr)
    found = {}
    for tp, pp in SIZES:
        parallel_state.initialize_model_parallel(
            tp, pp, create_gloo_process_groups=False, distributed_timeout_minutes=1
        )
        for name in MODELS:
            for sequence_parallel in [False, True][: 1 + ((tp, pp) in SEQUENCE_PARALLEL)]:
                how = " sequence" * sequence_parallel
                found[f"{name} tp={tp} pp={pp}{how}"] = differences(name, tp, pp, sequence_parallel)
        parallel_state.destroy_model_parallel()
    return found


def main(folder: Path) -> None:
    # So that the forks find them imported.
    import megatron.core.models.gpt.gpt_layer_specs
    import megatron.core.pipeline_parallel  # noqa: F401

    answer(folder, RANKS, observe)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
