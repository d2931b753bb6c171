"""How the ranks of a group compare notes, and where."""

from types import SimpleNamespace

import pytest
import torch

from mpviz import ParallelLayout
from mpviz.parallel.agreement import _device_of_notes
from mpviz.world import World

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize("reached", [[CPU], [CUDA, CPU], [CPU, CUDA]])
def test_notes_meet_on_the_cpu_where_the_group_reaches_it(reached):
    assert _device_of_notes(SimpleNamespace(_device_types=reached), on("meta")) == CPU


def test_notes_meet_with_the_tensor_where_the_group_reaches_no_cpu():
    # No GPU here: the meta device stands for one.
    assert _device_of_notes(SimpleNamespace(_device_types=[CUDA]), on("meta")) == torch.device(
        "meta"
    )


def on(device):
    return torch.empty(1, device=device)


PROGRAM = """
import torch
from mpviz.parallel.agreement import agreed, exchanged

GROUP = groups["tp"]

def end(refusal=None, **options):
    # What comes out of a block: the text, and whether it is the block's own error.
    try:
        with agreed(GROUP, torch.ones(2), **options):
            if refusal is not None:
                raise refusal
    except Exception as error:
        return type(error).__name__, str(error), error is refusal
    return "none"
"""


@pytest.fixture(scope="module")
def world():
    # The deadline is the test that nobody waits for ever.
    with World(ParallelLayout(gpus_per_node=3, tp=3), timeout=60) as world:
        world.cell(PROGRAM)
        yield world


def test_what_one_block_raises_all_ranks_raise(world):
    said = "the ranks of one group must agree, but ranks 0 and 2: 2 float32; rank 1: too red"
    call = "end(ValueError('too red') if rank == 1 else None)"
    assert list(world.cell(call)) == [("ValueError", said, False)] * 3


def test_what_all_blocks_raise_each_rank_raises_as_it_is(world):
    assert list(world.cell("end(ValueError('too red'))")) == [("ValueError", "too red", True)] * 3


def test_where_nothing_is_compared_a_block_raises_alone(world):
    ends = world.cell("end(ValueError('too red') if rank == 1 else None, check=False)")
    assert list(ends) == ["none", ("ValueError", "too red", True), "none"]


def test_an_error_that_is_no_refusal_is_not_exchanged(world):
    # Rank 1 meets the others in its second block.
    ends = world.cell("[end(KeyError('red')), end()] if rank == 1 else end()")
    assert list(ends) == ["none", [("KeyError", "'red'", True), "none"], "none"]


@pytest.mark.parametrize("length", [256, 257, 5000])
def test_a_long_refusal_is_compared_whole_and_read_in_part(world, length):
    text = f"{length - 1} * '\U0001f600' + ('b' if rank == 1 else 'a')"
    (_, said, _), *others = world.cell(f"end(ValueError({text}))")
    assert [other[1] for other in others] == [said] * 2
    start = "the ranks of one group must agree, but rank"
    assert said.startswith(start)
    assert said.count("\U0001f600") == (2 * 255 if length == 256 else 256)


def test_notes_come_in_the_order_of_the_ranks(world):
    notes = world.cell("exchanged(GROUP, {'rank': rank, 'text': '\\x00ø' * rank})")
    expected = [{"rank": rank, "text": "\x00ø" * rank} for rank in range(3)]
    assert list(notes) == [expected] * 3
