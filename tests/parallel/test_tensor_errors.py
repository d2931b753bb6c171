"""What cannot work is refused in the same words on every rank, and leaves the group usable."""

from pathlib import Path

import pytest
import torch

from mpviz import ParallelLayout
from mpviz.parallel import SelfAttention
from mpviz.parallel.agreement import check_group
from mpviz.world import RanksError, World

PROGRAM = (Path(__file__).parent / "collectives_ranks.py").read_text()
AGREE = "the ranks of one group must agree, but "


@pytest.fixture(scope="module", params=[2, 4])
def world(request):
    # The deadline is the test that nobody waits for ever.
    with World(ParallelLayout(gpus_per_node=request.param, tp=request.param), timeout=60) as world:
        world.cell(PROGRAM)
        yield world


def said(world, call, before=""):
    """What all ranks say to a call: one text, because they say the same."""
    texts = set(world.cell(f"{before}\nsaid(lambda: {call})"))
    assert len(texts) == 1, texts
    return texts.pop()


def others(tp, odd):
    """The ranks but one, as a message lists them."""
    ranks = [str(rank) for rank in range(tp) if rank != odd]
    return f"rank{'s' if len(ranks) > 1 else ''} " + " and ".join(
        [", ".join(ranks[:-1]), ranks[-1]] if len(ranks) > 1 else ranks
    )


def disagreement(tp, odd, usual, unusual):
    first, second = f"{others(tp, odd)}: {usual}", f"rank {odd}: {unusual}"
    return AGREE + "; ".join([second, first] if odd == 0 else [first, second])


@pytest.mark.parametrize("odd", [0, -1])
@pytest.mark.parametrize(
    "function",
    [
        "copy_to_tensor_model_parallel_region",
        "reduce_from_tensor_model_parallel_region",
        "scatter_to_tensor_model_parallel_region",
        "gather_from_tensor_model_parallel_region",
        "scatter_to_sequence_parallel_region",
        "gather_from_sequence_parallel_region",
        "reduce_scatter_to_sequence_parallel_region",
    ],
)
def test_another_shape_on_one_rank_is_an_error_on_all(world, function, odd):
    tp = world.layout.tp
    odd %= tp
    call = f"parallel.{function}(taking({odd}, torch.ones(4, 8), torch.ones(4, 12)), group)"
    assert said(world, call) == disagreement(tp, odd, "4×8 float32", "4×12 float32")


@pytest.mark.parametrize("sequence_parallel", [False, True])
def test_more_tokens_on_one_rank_are_an_error_on_all(world, sequence_parallel):
    call = f"mlp(sequence_parallel={sequence_parallel})(torch.ones(taking(1, 4, 5), 2, 8))"
    into = f"into A 8×16, cut by column into {world.layout.tp} parts of 8×{16 // world.layout.tp}"
    expected = disagreement(world.layout.tp, 1, f"4×2×8 float32 {into}", f"5×2×8 float32 {into}")
    assert said(world, call) == expected


@pytest.mark.parametrize(
    ("usual", "unusual", "described"),
    [
        ("torch.ones(4)", "torch.ones(4).double()", ("4 float32", "4 float64")),
        (
            "torch.ones(4)",
            "torch.ones(4, requires_grad=True)",
            ("4 float32", "4 float32 with gradient"),
        ),
        (
            "torch.ones(4)",
            "torch.ones(4).int()",
            ("4 float32", "4 int32 has no gradient; x.float() has"),
        ),
    ],
)
def test_dtype_and_need_of_a_gradient_must_be_the_same(world, usual, unusual, described):
    call = f"copy_to_tensor_model_parallel_region(taking(1, {usual}, {unusual}), group)"
    assert said(world, call) == disagreement(world.layout.tp, 1, *described)


@pytest.mark.parametrize("odd", [0, 1])
def test_an_attention_without_a_batch_on_one_rank_is_an_error_on_all(world, odd):
    tp = world.layout.tp
    x = f"taking({odd}, torch.ones(4, 1, 8), torch.ones(4, 8))"
    expected = disagreement(
        tp,
        odd,
        f"4×1×8 float32 into A 8×8, cut by column into {tp} parts of 8×{8 // tp}",
        "X is 4×8, but attention takes (sequence, batch, hidden_size)",
    )
    assert said(world, f"parallel.ParallelAttention(8, 8, group)({x})") == expected


@pytest.mark.parametrize("heads", [0, -1, 1.5, True])
def test_heads_of_a_plain_attention_are_whole(heads):
    message = f"heads must be a whole number ≥ 1, got {heads}"
    with pytest.raises(ValueError, match=message):
        SelfAttention(6, heads)


@pytest.mark.parametrize("shape", [(4, 6), (6,), (2, 4, 1, 6)])
def test_a_plain_attention_says_what_it_takes(shape):
    with pytest.raises(ValueError, match=r"but attention takes \(sequence, batch, hidden_size\)"):
        SelfAttention(6, 3)(torch.ones(shape))


def test_layers_of_other_sizes_do_not_work_together(world):
    call = "parallel.RowParallelLinear(8, taking(1, 4, 5), group)(torch.ones(2, 8 // tp))"
    text = said(world, call)
    assert text.startswith(AGREE) and "into A 8×4" in text and "into A 8×5" in text


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (
            "copy_to_tensor_model_parallel_region(torch.arange(4), group)",
            "4 int64 has no gradient; x.float() has",
        ),
        (
            "mlp()(torch.arange(8))",
            "X is 8 int64, but the weight is {fc1} float32",
        ),
        (
            "parallel.ParallelAttention(8, 0, group)",
            "heads must be a whole number ≥ 1, got 0",
        ),
        (
            "parallel.ColumnParallelLinear(8, 8, group, stacked=0)",
            "stacked must be a whole number ≥ 1, got 0",
        ),
        (
            "parallel.ParallelAttention(8, 8, group)(torch.ones(4, 8))",
            "X is 4×8, but attention takes (sequence, batch, hidden_size)",
        ),
        ("mlp()(torch.ones(2, 9))", "X is 2×9, but its last dimension must be 8"),
        ("mlp()(torch.ones(()))", "X is a scalar, but its last dimension must be 8"),
        (
            "scatter_to_tensor_model_parallel_region(torch.ones(4, 7), group)",
            "7 (dimension 1 of 4×7) cannot be cut into {tp} equal parts; tp may be 1 or 7",
        ),
        (
            "reduce_scatter_to_sequence_parallel_region(torch.ones(5, 2), group)",
            "5 (dimension 0 of 5×2) cannot be cut into {tp} equal parts; tp may be 1 or 5",
        ),
        (
            "gather_from_tensor_model_parallel_region(torch.tensor(1.0), group)",
            "a scalar float32 has no dimension to cut or join",
        ),
        (
            "parallel.RowParallelLinear(8, 4, group, sequence_parallel=True)"
            "(torch.ones(5, 8 // tp))",
            "5 (dimension 0 of 5×{part}) cannot be cut into {tp} equal parts; tp may be 1 or 5",
        ),
        (
            "parallel.ColumnParallelLinear(8, 7, group)",
            "A: 7 (dimension 1 of shape (8, 7)) cannot be cut into {tp} equal parts; "
            "parts may be 1 or 7",
        ),
        (
            "parallel.VocabParallelEmbedding(50257, 8, group)",
            "A: 50257 (dimension 0 of shape (50257, 8)) cannot be cut into {tp} equal parts; "
            "parts may be 1, 29, 1733 or 50257",
        ),
        (
            "parallel.ParallelAttention(9, 3, group)",
            "3 heads cannot be dealt evenly to tp={tp}; tp may be 1 or 3",
        ),
        (
            "parallel.ColumnParallelLinear(8, 8, group, gather_output=True, "
            "sequence_parallel=True)",
            "gather_output needs sequence_parallel=False and stacked=1",
        ),
        (
            "parallel.ColumnParallelLinear(8, 8, group, stacked=3)",
            "output_size=8 is not 3 matrices of one size",
        ),
        (
            "parallel.RowParallelLinear(8, 8, group, input_is_parallel=False, "
            "sequence_parallel=True)",
            "sequence_parallel=True needs input_is_parallel=True",
        ),
        (
            "parallel.VocabParallelEmbedding(8, 4, group)(torch.ones(3))",
            "words are whole numbers (int64), got 3 float32",
        ),
        (
            "parallel.VocabParallelEmbedding(8, 4, group, reduce_scatter_embeddings=True)"
            "(torch.zeros(5).long())",
            "5 (dimension 0 of 5) cannot be cut into {tp} equal parts; tp may be 1 or 5",
        ),
        (
            "parallel.vocab_parallel_cross_entropy(torch.ones(3, 4), torch.ones(4).long(), group)",
            "logits 3×4 need a target of 3, got 4",
        ),
        (
            "parallel.vocab_parallel_cross_entropy(torch.ones(3, 4).int(), torch.ones(3), group)",
            "3×4 int32 has no gradient; x.float() has",
        ),
        (
            "mlp().linear_fc1.load_reference(torch.nn.Linear(8, 16, bias=False))",
            "Linear(in_features=8, out_features=16, bias=False) does not fit "
            "ColumnParallelLinear(A 8×16, cut by column into {tp} parts of {fc1t}, with bias): "
            "one has a bias, the other has none",
        ),
    ],
)
def test_what_no_rank_can_do_is_refused_by_all(world, call, expected):
    tp = world.layout.tp
    sizes = {"tp": tp, "part": 8 // tp, "fc1": f"{16 // tp}×8", "fc1t": f"8×{16 // tp}"}
    assert said(world, call) == expected.format(**sizes)


@pytest.mark.parametrize("odd", [0, 1])
@pytest.mark.parametrize("wrong", [-1, 8])
def test_a_word_outside_the_vocabulary_on_one_rank_is_an_error_on_all(world, odd, wrong):
    words = f"torch.tensor([3, taking({odd}, 7, {wrong})])"
    problem = f"index {wrong} is none of the 8 words 0 … 7"
    call = f"parallel.VocabParallelEmbedding(8, 4, group)({words})"
    expected = disagreement(world.layout.tp, odd, "2 int64", problem)
    assert said(world, call) == expected
    logits = "torch.ones(2, 8 // tp)"
    call = f"parallel.vocab_parallel_cross_entropy({logits}, {words}, group)"
    expected = disagreement(world.layout.tp, odd, f"2×{8 // world.layout.tp} float32", problem)
    assert said(world, call) == expected


@pytest.mark.parametrize(
    ("synchronised", "got"),
    # What torch gives to the others; None would stand for all ranks.
    [("everywhere", "NON_GROUP_MEMBER"), ("locally", "None")],
)
def test_a_rank_outside_the_group_is_told_so(world, synchronised, got):
    inside, *outside = world.cell(f"alone_in_a_group({synchronised == 'locally'})")
    assert inside == "no error"
    assert set(outside) == {
        f"this rank is in no such group: expected the ProcessGroup it is a member of, got {got}"
    }


@pytest.mark.parametrize("group", [None, "tp", 0])
def test_the_group_is_never_left_to_a_default(group):
    with pytest.raises(ValueError, match=f"expected the ProcessGroup .* got {group!r}$"):
        check_group(group)


def test_without_the_check_a_rank_with_a_problem_is_alone_with_it(world):
    x = "taking(1, torch.ones(4), torch.ones(4).int())"
    ends = world.cell(
        f"said_alone(lambda: copy_to_tensor_model_parallel_region({x}, group, check=False))"
    )
    problem = "4 int32 has no gradient; x.float() has"
    assert list(ends) == [problem if rank == 1 else "no error" for rank in range(world.layout.tp)]


@pytest.mark.parametrize("odd", [0, 1])
def test_a_gradient_that_one_rank_lacks_is_an_error_on_all(world, odd):
    before = f"""
def after_a_step():
    norm = torch.nn.LayerNorm(4)
    norm.weight.sequence_parallel = norm.bias.sequence_parallel = True
    if me != {odd}:
        norm(torch.ones(2, 4)).sum().backward()
    return norm
"""
    call = "parallel.reduce_sequence_parallel_gradients(after_a_step(), group)"
    usual = "8 float32, the gradients of weight 4 and bias 4"
    expected = disagreement(world.layout.tp, odd, usual, "0 float32, no marked gradient")
    assert said(world, call, before) == expected


def test_no_gradient_on_any_rank_is_nothing_to_sum(world):
    call = "parallel.reduce_sequence_parallel_gradients(mlp(sequence_parallel=True), group)"
    assert said(world, call) == "no error"
    assert not world.cell(call, record=True).events


def test_who_stays_away_from_a_layer_is_named():
    def one_stays_away(rank, groups):
        import torch

        from mpviz.parallel import reduce_from_tensor_model_parallel_region

        if rank:
            reduce_from_tensor_model_parallel_region(torch.ones(1), groups["tp"])

    with World(ParallelLayout(gpus_per_node=2, tp=2), timeout=30) as world:
        world.start()
        with pytest.raises(RanksError) as stuck:
            world.run(one_stays_away, timeout=3)
    assert "rank 1 waits in agree" in str(stuck.value)
    assert "all ranks: rank 1 came, never came: rank 0 (done)" in str(stuck.value)
