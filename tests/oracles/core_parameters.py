"""Parameters per stage of megatron-core's own GPTModel on meta: ``core_parameters.py SIZES``."""

import sys
import warnings

import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore


def main(sizes):
    warnings.simplefilter("ignore")
    import torch.nn.functional as F
    from megatron.core import parallel_state
    from megatron.core.models.gpt import GPTModel
    from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
    from megatron.core.tensor_parallel.random import CudaRNGStatesTracker
    from megatron.core.transformer import TransformerConfig

    tp, pp, ep = (sizes.pop(axis) for axis in ("tp", "pp", "ep"))
    experts, words, top_k = (sizes.pop(name) for name in ("experts", "words", "top_k"))
    torch.cuda.current_device = lambda: "meta"
    CudaRNGStatesTracker.fork = lambda *_: __import__("contextlib").nullcontext()
    found = {}
    for stage in (0, 1, 3):
        world = 64
        rank = stage * world // pp
        dist.init_process_group("fake", rank=rank, world_size=world, store=FakeStore())
        parallel_state.initialize_model_parallel(
            tp, pp, expert_model_parallel_size=ep, create_gloo_process_groups=False
        )
        config = TransformerConfig(
            **sizes,
            normalization="RMSNorm",
            gated_linear_unit=True,
            activation_func=F.silu,
            add_bias_linear=False,
            tensor_model_parallel_size=tp,
            pipeline_model_parallel_size=pp,
            expert_model_parallel_size=ep,
            expert_tensor_parallel_size=1 if experts else None,
            num_moe_experts=experts,
            moe_router_topk=top_k or 2,
            pipeline_dtype=torch.bfloat16,
            params_dtype=torch.bfloat16,
            use_cpu_initialization=True,
            perform_initialization=False,
        )
        spec = get_gpt_layer_local_spec(num_experts=experts, normalization="RMSNorm")
        with torch.device("meta"):
            model = GPTModel(
                config,
                spec,
                vocab_size=words,
                max_sequence_length=4096,
                pre_process=stage == 0,
                post_process=stage == pp - 1,
                share_embeddings_and_output_weights=False,
                position_embedding_type="rope",
            )
        found[stage] = sum(p.numel() for p in model.parameters())
        parallel_state.destroy_model_parallel()
        dist.destroy_process_group()
    print(found)


if __name__ == "__main__":
    main(eval(sys.argv[1]))
