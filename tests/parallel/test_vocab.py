"""An embedding with padding, cut by vocabulary, beside ``nn.Embedding``."""

import pytest

from mpviz import ParallelLayout
from mpviz.world import World

NOT_KEPT = ("max_norm=1.0", "scale_grad_by_freq=True", "sparse=True")


@pytest.fixture(scope="module", params=[1, 2, 4])
def world(request):
    with World(ParallelLayout(gpus_per_node=request.param, tp=request.param), timeout=60) as world:
        world.cell("import torch\nfrom torch import nn\nfrom mpviz import parallel")
        yield world


def beside(padding_idx, reduce_scatter_embeddings, groups):
    """Look up whole and cut: what each finds, the gradients, and the vectors."""
    import torch
    from torch import nn

    from mpviz.parallel import VocabParallelEmbedding
    from mpviz.shards import Cut

    group = groups["tp"]
    torch.manual_seed(0)
    uncut = nn.Embedding(8, 3, padding_idx)
    with torch.no_grad():
        uncut.weight += 1.0  # a trained padding is not zero
    words = torch.tensor([0, 5, 7, 0, 2, 4, 5, 3])
    options = {"reduce_scatter_embeddings": reduce_scatter_embeddings}
    cut = VocabParallelEmbedding.from_reference(uncut, group, **options)
    y, y_part = uncut(words), cut(words)
    (y**2).sum().backward()
    (y_part**2).sum().backward()
    mine = Cut("Y", (8, 3), group.size(), dim=0).part
    expected = mine(y, group.rank()) if reduce_scatter_embeddings else y
    return (
        torch.equal(y_part, expected),
        torch.equal(cut.weight.grad, mine(uncut.weight.grad, group.rank())),
        torch.equal(cut.weight, mine(uncut.weight, group.rank())),
    )


@pytest.mark.parametrize("sequence_parallel", [False, True])
@pytest.mark.parametrize("padding_idx", [None, 0, 2, 5, -1])
def test_padding_gets_no_gradient_wherever_it_is_held(world, padding_idx, sequence_parallel):
    for found in world.run(beside, padding_idx, sequence_parallel):
        assert found == (True, True, True)


def drawn(groups):
    import torch

    from mpviz.parallel import VocabParallelEmbedding

    seed, group = torch.Generator().manual_seed(7), groups["tp"]
    ours = VocabParallelEmbedding(8, 3, group, padding_idx=5, generator=seed)
    torch.manual_seed(7)
    theirs = torch.nn.Embedding(8, 3, padding_idx=5)
    return torch.equal(ours.weight, theirs.weight.chunk(group.size())[group.rank()])


def test_padding_starts_at_zero_as_in_torch(world):
    assert set(world.run(drawn)) == {True}


def said(world, call):
    texts = set(
        world.cell(f"""
try:
    end = repr({call})
except ValueError as error:
    end = str(error)
end
""")
    )
    assert len(texts) == 1
    return texts.pop()


@pytest.mark.parametrize("option", NOT_KEPT)
def test_what_would_be_lost_is_refused(world, option):
    uncut = f"nn.Embedding(8, 3, {option})"
    text = said(world, f"parallel.VocabParallelEmbedding.from_reference({uncut}, groups['tp'])")
    assert f"VocabParallelEmbedding has no {option.partition('=')[0]}" in text


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (8, "padding_idx=8 is none of the 8 words 0 … 7"),
        (-1, "padding_idx must be a whole number ≥ 0, got -1"),
        (1.5, "padding_idx must be a whole number ≥ 0, got 1.5"),
    ],
)
def test_padding_is_a_word(world, word, message):
    call = f"parallel.VocabParallelEmbedding(8, 3, groups['tp'], padding_idx={word})"
    assert said(world, call) == message
