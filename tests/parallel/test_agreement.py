"""Where the ranks of a group compare notes."""

from types import SimpleNamespace

import pytest
import torch

from mpviz.parallel.agreement import _meeting_place

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize("reached", [[CPU], [CUDA, CPU], [CPU, CUDA]])
def test_notes_meet_on_the_cpu_where_the_group_reaches_it(reached):
    assert _meeting_place(SimpleNamespace(_device_types=reached), on("meta")) == CPU


def test_notes_meet_with_the_tensor_where_the_group_reaches_no_cpu():
    # No GPU here: the meta device stands for one.
    assert _meeting_place(SimpleNamespace(_device_types=[CUDA]), on("meta")) == torch.device("meta")


def on(device):
    return torch.empty(1, device=device)
