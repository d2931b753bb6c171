"""The checks of lesson 03, some of which read an explorer."""

from math import gcd

import pytest
from exercises.judged import assert_wrong, written_wrong

from mpviz import ParallelLayout, exercises, explore


@pytest.mark.parametrize(
    ("sizes", "hint"),
    [
        ({"nodes": 4, "tp": 8}, "8 of 8 dp groups leave their node"),
        ({"nodes": 4, "tp": 2, "cp": 2, "pp": 2}, "dp-cp groups leave their node"),
        ({"nodes": 4, "tp": 16}, "2 of 2 tp groups leave their node"),
        ({"nodes": 4, "pp": 4}, "With tp=1 there is nothing to sum"),
        ({"nodes": 4, "tp": 8, "pp": 4}, "With dp=1 there is nothing to sum"),
        ({"nodes": 4, "tp": 2, "cp": 2, "pp": 8}, "With dp=1 there is nothing to sum"),
        ({"nodes": 4, "tp": 2, "pp": 2}, "tp × dp = 16 GPUs here, must fit in its 8"),
        ({"nodes": 4, "tp": 2, "cp": 2, "pp": 2}, "tp × cp × dp = 16 GPUs here"),
        (
            {"nodes": 4, "tp": 2, "pp": 4, "order": "tp-cp-ep-pp-dp"},
            "8 of 8 dp groups leave their node, though the tp × dp = 8 GPUs of a stage would fit "
            "in one. Which axis of the order tp-cp-ep-pp-dp should come last?",
        ),
        ({"nodes": 2, "tp": 2, "pp": 2}, "Stay with 4 nodes of 8"),
    ],
)
def test_a_layout_whose_all_reduces_leave_is_told_which(sizes, hint):
    assert_wrong(exercises.no_all_reduce_leaves(explore.layout(**sizes)), hint)


@pytest.mark.parametrize(
    "sizes", [{"tp": 4, "pp": 4}, {"tp": 2, "pp": 8}, {"tp": 2, "pp": 4, "cp": 2}]
)
def test_every_layout_whose_all_reduces_stay_is_accepted(sizes):
    assert exercises.no_all_reduce_leaves(explore.layout(nodes=4, **sizes)).correct


def test_praise_names_the_axes_that_share_a_node():
    without, with_cp = (
        exercises.no_all_reduce_leaves(ParallelLayout(nodes=4, tp=2, pp=4, cp=cp)).message
        for cp in (1, 2)
    )
    assert "the tp × dp = 8 GPUs of a stage" in without
    assert "the tp × cp × dp = 8 GPUs of a stage" in with_cp


def test_an_explorer_that_says_what_does_not_fit_is_judged_by_its_picture():
    explorer = explore.layout(nodes=4, tp=2, pp=4)
    explorer.set(tp=3)
    assert explorer.problem and exercises.no_all_reduce_leaves(explorer).correct


@pytest.mark.parametrize("sizes", [{"tp": 4, "pp": 4}, {"tp": 2, "pp": 1}, {"tp": 16}])
def test_orders_agree_where_one_of_the_axes_that_change_places_has_size_one(sizes):
    assert exercises.order_does_not_matter(explore.compare(nodes=2, **sizes)).correct


def test_orders_that_differ_are_told_by_the_company_of_gpu_0():
    verdict = exercises.order_does_not_matter(explore.compare(nodes=2, tp=2, pp=4))
    assert "GPU 0 is with 2 on the left and with 8 on the right" in verdict.message
    same = explore.compare(nodes=2, tp=2, pp=4, right="tp-cp-ep-dp-pp")
    assert "Both sides have the same order" in exercises.order_does_not_matter(same).message


WRITTEN = {
    "time_in_pieces": [
        (lambda total, piece, latency, bandwidth: total / bandwidth, "bandwidth's part alone"),
        (lambda total, piece, latency, bandwidth: latency + total / bandwidth, "latency once"),
        (
            lambda total, piece, latency, bandwidth: total / piece * latency + total / bandwidth,
            "round up",
        ),
        (
            lambda total, piece, latency, bandwidth: total // piece * latency + total / bandwidth,
            "round up",
        ),
        (
            lambda total, piece, latency, bandwidth: (
                -(-total // piece) * (latency + piece / bandwidth)
            ),
            "sends fewer bytes",
        ),
        (lambda total, piece, latency, bandwidth: latency + piece / bandwidth, "of one piece"),
        (
            lambda total, piece, latency, bandwidth: (
                -(-total // piece) * latency + piece / bandwidth
            ),
            "All the bytes",
        ),
        (lambda total, piece, latency, bandwidth: 0.0, "returns 0.0, and should return 0.0027"),
    ],
    "largest_tp": [
        (lambda gpus, heads, kv: gcd(gpus, heads), "forgets the KV heads"),
        (lambda gpus, heads, kv: gcd(heads, kv), "forgets the node"),
        (lambda gpus, heads, kv: kv, "forgets the node"),
        (lambda gpus, heads, kv: gpus, "machine's limit alone"),
        (lambda gpus, heads, kv: min(gpus, heads, kv), "need not divide"),
        (
            lambda gpus, heads, kv: max(
                n for n in (1, 2, 4, 8, 16, 32) if gcd(gpus, heads, kv) % n == 0
            ),
            "power of two",
        ),
        (lambda gpus, heads, kv: 1, "answer(4, 128, 8) returns 1, and should return 4"),
    ],
}


@pytest.mark.parametrize(("name", "wrong", "hint"), written_wrong(WRITTEN))
def test_a_function_written_wrong_gets_the_hint_for_it(name, wrong, hint):
    assert_wrong(getattr(exercises, name)(wrong), hint)


def test_largest_tp_is_what_megatron_needs_without_sharing_kv_heads():
    from megatron.core.transformer.transformer_config import TransformerConfig

    def takes(tp, heads, kv_heads):
        sizes = {"num_attention_heads": heads, "num_query_groups": kv_heads}
        try:
            TransformerConfig(
                num_layers=1, hidden_size=16 * heads, tensor_model_parallel_size=tp, **sizes
            )
        except ValueError:
            return False
        return True

    # Megatron also takes a tp that is a multiple of the KV heads: ranks then share one.
    assert takes(8, 128, 8) and takes(16, 128, 8) and not takes(12, 96, 8)
    right = exercises.largest_tp
    assert right(
        lambda gpus, heads, kv: max(
            tp for tp in range(1, gpus + 1)
            if gpus % tp == 0 and takes(tp, heads, kv) and kv % tp == 0
        )
    ).correct  # fmt: skip
