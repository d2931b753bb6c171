"""Numbers in the prose of lessons that none of their cells asserts."""

import base64
import gzip
import inspect
import json
import math
import re
from pathlib import Path

import nbformat
import pytest
from measured_collectives import GIB, MIB, ROWS

from mpviz import (
    GROUP_KINDS,
    ParallelLayout,
    RanksError,
    World,
    cost,
    draw,
    explore,
    presets,
    schedule,
    shards,
)
from mpviz._checks import listed
from mpviz.draw.canvas.scene import Label
from mpviz.timeline import simulate

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def prose(number):
    (path,) = NOTEBOOKS.glob(f"{number}_*.ipynb")
    cells = nbformat.read(path, as_version=4).cells
    return "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def ends(timeline):
    """For each rank, when it begins and when it is done."""
    times = [[event for event in timeline.work if event.rank == r] for r in range(timeline.pp)]
    return [(mine[0].start, max(event.end for event in mine)) for mine in times]


def test_copies_follow_from_the_pieces():
    copies = {tp: ParallelLayout(nodes=2, tp=tp, pp=4).dp for tp in (2, 4, 1)}
    assert copies == {2: 2, 4: 1, 1: 4}
    assert "cut into tp 2 × pp 4 = 8 pieces" in prose("03")
    assert "With tp 4 there is one copy" in prose("03") and "With tp 1 there are four." in prose(
        "03"
    )


def gigabytes_per_second(link):
    return link.bytes_per_second / 1e9, link.reached / 1e9


def test_the_network_beside_nvlink():
    (sheet, reached), (port, of_port) = map(gigabytes_per_second, (cost.NVLINK, cost.NETWORK))
    assert (sheet, port) == (450, 50) and sheet == 9 * port
    assert "450 GB/s from each GPU in each direction" in prose("02")
    assert "a network port of 50 GB/s, a ninth of that" in prose("02")
    assert (round(8 * of_port), round(reached, 1)) == (368, 364.5)
    assert 2 * (8 - 1) / 8 == 1.75 and "each GPU sends 1.75 GB if there are 8" in prose("02")
    assert "as fast as NVLink: 368 GB/s reached, against 365." in prose("02")
    assert f"reaches {of_port:.0f} GB/s, an eighth of NVLink's {reached + 0.1:.0f}" in prose("03")


def test_a_gigabyte_is_nearly_free_and_two_megabytes_are_not():
    large, small = (
        [cost.all_reduce_seconds(size, 8 * nodes, nodes) for nodes in (1, 2, 4)]
        for size in (1e9, 2e6)
    )
    assert f"over two nodes it takes {100 * (large[1] / large[0] - 1):.0f} % longer" in prose("02")
    two, four = (small[i] / small[0] for i in (1, 2))
    said = f"2 MB take {two:.1f} times as long over two nodes, and {four:.1f} times over four"
    assert said in prose("02")


def test_what_is_said_of_the_errors_of_the_cost_model():
    def errors(chosen):
        return [row.error for row in ROWS if chosen(row)]

    assert f"beside {len(ROWS)} measured times" in prose("02")
    large = errors(lambda row: row.size >= GIB and not row.why)
    assert max(map(abs, large)) < 6 and "within 6 % at 1 GB and more" in prose("02")
    helped = errors(lambda row: "SHARP" in row.why)
    # The model takes a third more; what is measured, up to a quarter less.
    assert max(100 - 100 / (1 + error / 100) for error in helped) < 25
    assert {row.nodes for row in ROWS if "SHARP" in row.why} == {1, 2}
    assert "on one or two nodes NCCL then takes up to a quarter less" in prose("02")
    assert round(min(errors(lambda row: row.size == 16 * MIB))) == -40
    assert "At 16 MB its times are up to 40 % too short" in prose("02")
    small = errors(lambda row: row.size == 2 * MIB and row.gpu != "A100")
    assert round(max(map(abs, small))) == 22 and "At 2 MB it is within 22 %" in prose("02")
    assert all(80 < error < 105 for error in errors(lambda row: row.size < MIB))
    assert "far below 1 MB about twice as long as measured" in prose("02")


def test_tokens_per_second_with_tp_8_and_16():
    # Hugging Face 2025, The Ultra-Scale Playbook: tokens per second and GPU, measured.
    inside, across = 10_903, 6_246
    said = f"a GPU trained {100 - 100 * across / inside:.0f} % fewer tokens a second with tp 16"
    assert said in prose("02")


def test_kinds_of_groups_are_eleven_and_five():
    expert = {kind for kind in GROUP_KINDS if {"ep", "etp", "edp"} & set(kind.split("-"))}
    assert (len(GROUP_KINDS) - len(expert), len(expert)) == (11, 5)
    assert "eleven kinds that it makes for every model; five more" in prose("02")


def test_with_context_parallelism_copies_are_those_of_dp():
    long = ParallelLayout(nodes=1, gpus_per_node=8, tp=2, cp=2)
    assert (long.dp, long.groups("dp-cp").size) == (2, 4)
    said = "With cp 2 and dp 2 there are two copies, model₁ and model₂, and four GPUs hold each"
    assert said in prose("02")


def test_bytes_of_a_step_on_the_slide():
    tp, dp, pp = cost.traffic(presets.EXAMPLE, presets.SLIDE.layout).values()
    said = (
        f"in a step tp sends {tp.bytes / pp.bytes:.0f} times as much as pp, and "
        f"{tp.bytes / dp.bytes:.0f} times as much as dp, and takes twice as long as both together"
    )
    assert said in prose("03")
    assert 2 < tp.seconds / (dp.seconds + pp.seconds) < 2.2
    along = {"tp": cost.all_reduce_seconds(1e9, 2), "pp": cost.message_seconds(1e9, cost.NETWORK)}
    assert max(along, key=along.get) == "pp"
    assert "A single gigabyte takes longest along pp" in prose("03")


def test_gradients_of_a_whole_model_on_four_nodes():
    times = [8 / tp * cost.all_reduce_seconds(1e9, 32 // tp, 4) for tp in (8, 1)]
    assert 1.3 < times[1] / times[0] < 1.36 and "It even takes a third more time" in prose("03")
    sent = {n: 2 * (n - 1) / n for n in (4, 32)}
    assert sent[4] == 1.5 and 1.9 < sent[32] < 2
    assert "among 32 GPUs each sends nearly twice what is summed, among 4 only 1.5 times" in prose(
        "03"
    )
    parts = cost.traffic(presets.EXAMPLE, ParallelLayout(nodes=4, tp=8))
    assert round(parts["tp"].bytes / 1e12, 1) == 1.1
    said = f"1.1 TB a step, {parts['tp'].bytes / parts['dp'].bytes:.0f} times those of dp"
    assert said in prose("03")


def test_the_line_of_the_slider_for_a_lecture():
    parts = cost.traffic(presets.EXAMPLE, presets.SLIDE.layout).values()
    assert f"The line says {sum(part.seconds for part in parts):.2f} s." in prose("03")


def test_what_moves_on_a_saved_page_of_the_layout_explorer():
    recorded = gzip.decompress(base64.b64decode(explore.layout(presets.SLIDE).record().store))
    names = list(json.loads(recorded.splitlines()[-1])["kept"])
    assert f"a page on which {listed(names, ' and ')} move without a kernel" in prose("03")


def test_nodes_of_72_gpus_are_those_of_a_gb200():
    gpus, h100 = cost.MACHINES["GB200"], cost.MACHINES["H100"]
    assert gpus.inside.bytes_per_second == 2 * h100.inside.bytes_per_second == 900e9
    assert cost.machine_for("H100", 72) is gpus
    said = "A GB200 NVL72 joins 72 GPUs by NVLink, at 900 GB/s in each direction, twice an H100's"
    assert said in prose("03")


def test_heads_of_llama_3():
    model = presets.LLAMA3_405B["8k"].model
    assert f"Llama 3 405B has {model.heads} heads, but only {model.kv_heads} KV heads" in prose(
        "03"
    )


def test_the_groups_that_all_cross():
    layouts = [ParallelLayout(nodes=4, tp=tp) for tp in (8, 4, 2, 1)]
    assert all(len(layout.crossings("dp")) == len(layout.groups("dp")) for layout in layouts)
    said = f"grow from {layouts[0].dp} GPUs to {layouts[-1].dp}, and all still cross"
    assert said in prose("03")


def test_where_the_groups_of_gpu_5000_are():
    layout = presets.LLAMA3_405B["8k"].layout
    nodes_of_pp, nodes_of_dp = (
        [rank // 8 for rank in layout.groups(kind).of(5000)] for kind in ("pp", "dp")
    )
    first = min(nodes_of_pp)
    assert nodes_of_pp == list(range(first, first + 16)) and 5000 // 8 in nodes_of_pp
    assert nodes_of_dp == list(range(nodes_of_dp[0], 2048, 16))
    words = [label.text for label in draw.cluster(layout, focus=5000).scene.of(Label)]
    assert "nodes 0–31" in words and "32 nodes are a row" in prose("03")
    said = "the same GPU of every 16th node is in its dp group: hence the two columns"
    assert said in prose("03")


def test_one_group_of_nine_is_on_two_nodes():
    wide = ParallelLayout(nodes=2, gpus_per_node=72, tp=16)
    (crossing,) = wide.crossings("tp")
    assert len(wide.groups("tp")) == 9
    said = f"one group of nine is dashed: GPUs {crossing[0]}–{crossing[-1]} lie on both nodes"
    assert said in prose("03")


def test_the_largest_run_of_megatron():
    layout = presets.MEGATRON_TABLE_1["1008.0B"].layout
    said = f"Its {layout.world_size:,} GPUs hold only {layout.dp} copies."
    assert said in prose("03")
    assert f"where are its {layout.pp - 1} other stages" in prose("03")


def test_all_reduces_of_a_layer():
    blocks = (shards.attention(4, 8, heads=4, tp=2), shards.mlp(4, 8, 32, tp=2))
    assert sum(len(block.forward) + len(block.backward) for block in blocks) == 4
    assert "four all-reduces in every layer" in prose("02")
    assert "*four times in every layer*" in prose("02")


def test_the_last_rank_starts_late_and_is_done_early():
    for microbatches in (1, 8, 20):
        timeline = simulate(schedule.gpipe(pp=4, microbatches=microbatches), {"F": 1, "B": 2})
        start, end = ends(timeline)[3]
        assert (start, timeline.makespan - end) == (3 * 1, 3 * 2)
    assert "p − 1 = 3 forwards late and finishes 3 backwards early" in prose("06")


def test_what_is_left_of_the_bubble_of_zb_v_lies_at_its_ends():
    thirds = {"F": 0.5, "I": 0.5, "W": 0.5}
    timeline = simulate(schedule.zero_bubble_v(pp=4, microbatches=8), thirds)
    assert [end - start for start, end in ends(timeline)] == [24.0] * 4 == list(timeline.busy)
    assert ends(timeline)[3][0] == timeline.makespan - ends(timeline)[0][1] == 1.5
    assert "rank 3 begins 1.5 s late, and rank 0 ends 1.5 s early" in prose("06")


# Made by hand: each rank runs 2(p - r) - 1 forwards first, then I before F before W.
ZB_H2 = """
0F0 0F1 0F2 0F3 0F4 0F5 0F6 0I0 0W0 0I1 0F7 0I2 0W1 0I3 0W2 0I4 0W3 0I5 0W4 0I6 0W5 0W6 0I7 0W7
1F0 1F1 1F2 1F3 1F4 1I0 1F5 1I1 1F6 1I2 1W0 1I3 1F7 1I4 1W1 1I5 1W2 1I6 1W3 1W4 1I7 1W5 1W6 1W7
2F0 2F1 2F2 2I0 2F3 2I1 2F4 2I2 2F5 2I3 2F6 2I4 2W0 2I5 2F7 2I6 2W1 2W2 2I7 2W3 2W4 2W5 2W6 2W7
3F0 3I0 3F1 3I1 3F2 3I2 3F3 3I3 3F4 3I4 3F5 3I5 3F6 3I6 3W0 3F7 3I7 3W1 3W2 3W3 3W4 3W5 3W6 3W7
"""


def test_zb_h2_has_no_bubble_but_its_ends_and_holds_nearly_twice_as_much():
    plan = schedule.parse(ZB_H2)
    schedule.validate(plan)
    timeline = simulate(plan)
    assert [end - start for start, end in ends(timeline)] == [24.0] * 4 == list(timeline.busy)
    assert max(timeline.peak_in_flight) == 2 * 4 - 1 == 7
    assert max(simulate(schedule.zero_bubble_h1(pp=4, microbatches=8)).peak_in_flight) == 4
    assert "(p−1)(F+I−2W), so zero if all three take equally long" in prose("06")
    assert "holds up to 2p − 1 = 7 microbatches" in prose("06")


def test_messages_of_a_step_of_145_billion_parameters():
    preset = presets.MEGATRON_TABLE_1["145.6B"]
    layout, one = preset.layout, 2048 * preset.model.hidden * 2
    assert (layout.world_size, layout.tp, layout.pp) == (1536, 8, 8)
    # One sequence a microbatch; a rank in the middle sends to both sides.
    microbatches = 2304 // layout.dp
    plan = schedule.one_forward_one_backward(pp=layout.pp, microbatches=microbatches)
    of_a_middle_rank = plan.messages // (layout.pp - 1)
    sent = of_a_middle_rank * one
    hidden, layers = preset.model.hidden, preset.model.layers
    weights = 12 * layers * hidden**2 * (
        1 + 13 / (12 * hidden) + (51_200 + 2048) / (12 * layers * hidden)
    )  # fmt: skip
    assert round(weights / 1e9, 1) == 145.6
    gradients = 2 * 2 * weights / (layout.tp * layout.pp) * (layout.dp - 1) / layout.dp
    assert [round(size / 1e9, 1) for size in (sent, gradients, sent / layout.tp)] == [9.7, 8.7, 1.2]
    assert "tp 8, pp 8, 1,536 GPUs, a batch of 2,304 sequences of 2,048 tokens" in prose("06")
    assert "those of a step add up to more than the gradient all-reduce" in prose("06")
    assert "Then it is 1.2 GB a step." in prose("06")
    assert round(2 * gradients / 1e9) == 17 and "doubles, to 17 GB" in prose("06")
    twice = schedule.interleaved_1f1b(pp=layout.pp, microbatches=microbatches, chunks=2)
    # Beside the way back from the last rank to the first, twice as many.
    assert twice.messages - 2 * microbatches == 2 * plan.messages


def test_interleaving_multiplies_the_messages_between_neighbours():
    plain = schedule.one_forward_one_backward(pp=4, microbatches=8).messages
    for chunks in (2, 3):
        wrapped = 2 * 8 * (chunks - 1)  # from the last rank to the first, and back
        plan = schedule.interleaved_1f1b(pp=4, microbatches=8, chunks=chunks)
        assert plan.messages - wrapped == chunks * plain
    assert "interleaving multiplies them by v" in prose("06")


def test_how_long_a_hang_lasts_by_default():
    import torch
    from torch.distributed import constants

    assert constants.default_pg_timeout.total_seconds() == 30 * 60
    include = Path(torch.__file__).parent / "include" / "torch" / "csrc" / "distributed" / "c10d"
    header = " ".join((include / "ProcessGroupNCCL.hpp").read_text().split())
    default = "kProcessGroupNCCLDefaultTimeout = std::chrono::milliseconds(10 * 60 * 1000);"
    assert default in header
    assert "10 minutes by default (gloo's default is 30)" in prose("04")
    assert "The default is 10 minutes with NCCL and 30 with gloo" in prose("04")


def test_what_the_explorer_of_collectives_has_beside_all_reduce():
    shown, unseen = ["all_gather", "broadcast", "reduce_scatter"], "all_to_all"
    assert sorted(schedule.ALGORITHMS) == sorted([*shown, unseen, "all_reduce"])
    section = prose("04").partition("## 3 · Four more operations")[2].partition("## 4")[0]
    assert all(f"**{name.capitalize().replace('_', '-')}**" in section for name in shown)
    assert "Three other collectives of the menu come in the next section." in prose("04")
    assert "In the fourth, *all-to-all*, each rank has another chunk for every rank" in prose("04")


def test_what_a_rank_sends_in_a_ring_of_four():
    ring = schedule.collective("all_reduce", ranks=4, algorithm="ring")
    assert ring.chunks == 4 and ring.sent().tolist() == [6] * 4
    assert "has sent six quarters of a tensor" in prose("04")


def test_steps_of_a_ring_and_of_a_tree():
    assert (2 * (1024 - 1), 2 * math.log2(1024)) == (2046, 20)
    assert "30 here, 2,046 on 1,024 GPUs" in prose("04")
    assert "about 2 log₂ n steps (20 on 1,024 GPUs)" in prose("04")


def averaged_by_torch(dp_rank):
    import torch
    from torch.nn.parallel import DistributedDataParallel

    torch.manual_seed(0)
    batch, layer = torch.randn(4, 3), torch.nn.Linear(3, 1)
    copy = DistributedDataParallel(layer)
    copy(batch.chunk(2)[dp_rank]).square().mean().backward()
    gradient = layer.weight.grad.clone()
    layer.weight.grad = None
    layer(batch).square().mean().backward()
    return (gradient / layer.weight.grad).mean().item()


def test_ddp_averages():
    with World(ParallelLayout(nodes=1, gpus_per_node=2), timeout=60) as world:
        assert list(world.run(averaged_by_torch)) == pytest.approx([1, 1], rel=1e-5)
    assert "`DistributedDataParallel` averages" in prose("04")


@pytest.mark.oracle
def test_megatron_scales_gradients_before_the_sum():
    from megatron.core.distributed import DistributedDataParallel

    source = inspect.getsource(DistributedDataParallel)
    assert "gradient_scaling_factor = 1.0 / data_parallel_world_size" in source
    assert "Megatron scales each gradient by 1/dp before the sum" in prose("04")


@pytest.mark.oracle
def test_tp_must_suit_the_heads_and_the_kv_heads():
    from megatron.core.transformer.attention import SelfAttention
    from megatron.core.transformer.transformer_config import TransformerConfig

    def accepted(tp, heads, kv_heads):
        try:
            TransformerConfig(
                num_layers=1, hidden_size=heads, num_attention_heads=heads,
                num_query_groups=kv_heads, tensor_model_parallel_size=tp,
            )  # fmt: skip
        except ValueError:
            return False
        return True

    for heads, kv_heads in ((128, 8), (96, 12), (12, 4)):
        for tp in range(1, heads + 1):
            suits = heads % tp == 0 and (kv_heads % tp == 0 or tp % kv_heads == 0)
            assert accepted(tp, heads, kv_heads) == suits, (tp, heads, kv_heads)
    assert accepted(16, 128, 8)
    more_ranks = "if self.config.num_query_groups < self.world_size:"
    source = inspect.getsource(SelfAttention.get_query_key_value_tensors).partition(more_ranks)[2]
    assert "mixed_qkv = all_gather_last_dim_from_tensor_parallel_region(mixed_qkv)" in source
    said = "it divides the query heads, and it is a divisor *or a multiple* of the KV heads"
    assert said in prose("05") and "128 query heads and 8 KV heads" in prose("05")
    assert "Up to tp = 8 there is no such message." in prose("05")


def test_sequence_parallelism_sends_a_quarter_more_where_x_is_gathered_again():
    for tp in (2, 4, 8):
        sent = []
        for cut in (False, True):
            blocks = (
                shards.attention(8, 8, heads=8, tp=tp, sequence_parallel=cut),
                shards.mlp(8, 8, 32, tp=tp, sequence_parallel=cut),
            )
            calls = [call for one in blocks for call in one.forward + one.backward]
            sent.append(sum(call.sent for call in calls))
        assert sent[1] == pytest.approx(1.25 * sent[0])
    assert "**25 % more** (240 instead of 192)" in prose("05")


def make_pair(rank, pair):
    import torch.distributed as dist

    if rank in pair:
        dist.new_group(pair, use_local_synchronization=True)


def test_a_pair_that_is_in_unequally_many_groups_hangs():
    with World(ParallelLayout(nodes=1, gpus_per_node=3, pp=3), timeout=60) as world:
        world.run(make_pair, (0, 2))  # both in the embedding group
        with pytest.raises(RanksError, match="ranks 0 1 wait in new_group"):
            world.run(make_pair, (0, 1), timeout=2)
    assert "Even the single pair (0, 4) would hang here" in prose("04")
    embedding, slide = set(), ParallelLayout(nodes=2, gpus_per_node=8, tp=2, pp=4)
    for group in slide.groups("embedding"):
        embedding.update(group)
    assert 0 in embedding and 4 not in embedding


def brings(rank, types):
    import torch
    import torch.distributed as dist

    x = torch.ones(4, dtype=getattr(torch, types[rank]))
    dist.all_reduce(x)
    return x.tolist()


def test_gloo_does_not_compare_what_the_ranks_bring():
    layout = ParallelLayout(nodes=1, gpus_per_node=2, tp=2)
    with World(layout, timeout=60, check=False) as world:
        results = world.run(brings, ("float32", "int32"))
    assert all(result != [2, 2, 2, 2] for result in results)
    assert "may hang, or go on with garbage" in prose("04")


def test_what_is_said_of_the_size_of_buckets():
    from mpviz.parallel import DistributedDataParallel

    default = inspect.signature(DistributedDataParallel).parameters["bucket_bytes"].default
    assert default == 25 * 2**20 and "25 MB each, unless you say otherwise" in prose("07")
    assert 2**18 * 4 == 2**20 and "Its 1 MB of gradients" in prose("07")


def test_slides_pairs_are_eight():
    layout = presets.SLIDE.layout
    assert layout.groups("dp").of(0) == (0, 2) and len(layout.groups("dp")) == 8
    assert "GPU 0 and GPU 2 hold the same piece" in prose("07")
    assert "There are eight such pairs." in prose("07")


def test_what_megatrons_distributed_optimizer_saves():
    # Megatron-LM, docs/source/api-guide/dist_optimizer.md: whole, and cut over d.
    rows = {20: (4, 16), 18: (6, 12), 16: (8, 8)}
    assert all(kept + cut == whole for whole, (kept, cut) in rows.items())
    assert 2 + 4 + (4 + 4 + 4) == 18 and "bf16 has 18 bytes and not 16" in prose("07")
    assert 12 - 12 / 2 == 6 and "halves the 12 bytes of the optimizer: 6 bytes a" in prose("07")
    assert 1 / (2 * 2) == 1 / 4 and "left each GPU only a quarter" in prose("07")
    assert 11.8 < 12 - 12 / 64 < 12 and "nearly 12 bytes of 18" in prose("07")
    assert 3 / 2 == 1.5 and "Stage 3 sends half as much again" in prose("07")


def test_tp_sends_as_much_as_zero_3_at_four_and_a_half_hidden_sizes():
    for hidden, ranks in ((1024, 2), (8192, 8)):
        tokens = 9 * hidden // 2
        layer = (
            shards.attention(tokens, hidden, heads=8, tp=ranks),
            shards.mlp(tokens, hidden, 4 * hidden, tp=ranks),
        )
        calls = [call for block in layer for call in block.forward + block.backward]
        assert len(calls) == 4
        weights = 12 * hidden**2 * (ranks - 1) / ranks  # of an all-gather, or a reduce-scatter
        assert sum(call.sent for call in calls) == pytest.approx(3 * weights)
    assert "equal at T = 4.5h" in prose("07") and "four all-reduces of T × h numbers" in prose("07")


@pytest.mark.parametrize(
    ("lesson", "section", "about"),
    [
        ("05", 4, "Backward: what f and g do"),  # named below the first picture
        ("04", 6, "An all-reduce, by hand"),  # named by the reduce-scatter
        ("05", 2, "By row"),  # named in exercise 1
        ("05", 6, "Sequence parallelism"),  # named beside --sequence-parallel
        ("06", 3, "1F1B"),  # whose plan is measured
        ("06", 5, "Interleaved: less bubble, more messages"),  # named where messages cross nodes
        ("06", 6, "Zero bubble"),  # named by the check of exercise 3
        ("07", 1, "The ★ pair"),  # whose all-reduce of the bias is skipped at the end
        ("07", 2, "Average or sum"),  # named where no_sync accumulates
        ("07", 3, "Buckets that leave during backward"),  # where bucket_bytes is set
        ("07", 5, "ZeRO 1, 2, 3 in bytes"),  # named by Megatron's table
    ],
)
def test_a_section_that_is_named_is_the_one_meant(lesson, section, about):
    headings = dict(re.findall(r"^## (\d) · (.*)$", prose(lesson), re.MULTILINE))
    assert about in headings[str(section)]


@pytest.mark.parametrize("lesson", ["03", "05", "07", "08"])
def test_a_lesson_has_four_to_seven_rounds(lesson):
    rounds = re.findall(r"^## (\d) ·", prose(lesson), re.MULTILINE)
    assert [int(number) for number in rounds] == [*range(1, len(rounds) + 1)]
    assert 4 <= len(rounds) <= 7


def test_what_lesson_08_says_of_training():
    assert f"ln 32 = {math.log(32):.2f}" in prose("08")
    utils = pytest.importorskip("megatron.core.utils")
    from megatron.core.distributed import finalize_model_grads
    from megatron.core.tensor_parallel.random import CudaRNGStatesTracker

    assert "dp-replicas-interval` does, along dp" in prose("08")
    assert utils.check_param_hashes_across_dp_replicas
    assert "`megatron/core/distributed/finalize_model_grads.py`" in prose("08")
    assert "_allreduce_word_embedding_grads" in inspect.getsource(
        inspect.getmodule(finalize_model_grads)
    )
    assert "the tracker's states" in prose("08") and CudaRNGStatesTracker().states_ == {}
