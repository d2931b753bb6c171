"""The real ``initialize_model_parallel``: what each rank's getters report.

First with torch's fake process group, which plays any rank of any world in this one process;
then with real processes over gloo.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

import pytest
from oracles.answers import answers_of
from oracles.configurations import Configuration, configurations
from oracles.megatron_groups import reported

from mpviz import GROUP_KINDS, ParallelLayout

pytestmark = pytest.mark.oracle

COUNT = 60


def _expected(layout: ParallelLayout, rank: int) -> dict[str, list[int] | None]:
    """What mpviz says a rank's groups are; None for the groups it is in none of."""
    expected: dict[str, list[int] | None] = {}
    for kind in GROUP_KINDS:
        groups = layout.groups(kind)
        expected[kind] = list(groups.of(rank)) if (groups.ranks == rank).any() else None
    return expected


# ---- one process that plays a rank


@contextmanager
def _playing(rank: int, world: int) -> Iterator[None]:
    import torch.distributed as dist
    from megatron.core import parallel_state
    from torch.testing._internal.distributed.fake_pg import FakeStore

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=world)
        try:
            yield
        finally:
            parallel_state.destroy_model_parallel()
            dist.destroy_process_group()


def _megatrons_report(asked: Configuration, rank: int) -> dict[str, list[int] | None] | None:
    """What Megatron's getters report in one rank; None where it refuses."""
    from megatron.core import parallel_state

    with _playing(rank, asked.world):
        try:
            parallel_state.initialize_model_parallel(
                tensor_model_parallel_size=asked.tp,
                pipeline_model_parallel_size=asked.pp,
                context_parallel_size=asked.cp,
                expert_model_parallel_size=asked.ep,
                expert_tensor_parallel_size=asked.expert_tp,
                order=asked.order,
                create_gloo_process_groups=False,
            )
        except (RuntimeError, AssertionError):
            return None
        return reported()


def _refused_by_mpviz(asked: Configuration) -> bool:
    try:
        # A dense layout exists in any order; its experts are refused when asked for.
        asked.layout().groups("ep")
    except ValueError:
        return True
    return False


def test_getters_report_mpvizs_groups_and_refusals_agree() -> None:
    random, accepted, refused, middle_stages = Random(0), 0, 0, 0
    for asked in configurations(COUNT, largest_world=48, seed=1):
        last = asked.world - 1
        for rank in {0, random.randint(0, last), random.randint(0, last), last}:
            theirs = _megatrons_report(asked, rank)
            assert (theirs is None) == _refused_by_mpviz(asked), f"{asked} on rank {rank}"
            if theirs is None:
                refused += 1
                break
            assert theirs == _expected(asked.layout(), rank), f"{asked} on rank {rank}"
            middle_stages += theirs["embedding"] is None
        else:
            accepted += 1
    print(f"\n{accepted} configurations compared on 2 to 4 ranks each, {refused} refused by both")
    # The draw must not quietly become all easy, or all impossible.
    assert accepted >= 30 and refused >= 10 and middle_stages >= 5


# ---- sixteen processes, each one rank


@pytest.fixture(scope="module")
def sixteen_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, list]]]:
    """What each of 16 real gloo processes observed."""
    return answers_of("gloo_ranks.py", tmp_path_factory.mktemp("gloo"), 16, 2, 4)


@pytest.mark.timeout(300)
def test_sixteen_gloo_processes_report_mpvizs_groups(sixteen_ranks: list) -> None:
    layout = ParallelLayout(nodes=2, tp=2, pp=4)
    reported = [observed["groups"] for observed in sixteen_ranks]
    assert reported == [_expected(layout, rank) for rank in range(16)]


@pytest.mark.timeout(300)
def test_sixteen_gloo_processes_hear_exactly_their_groups(sixteen_ranks: list) -> None:
    layout = ParallelLayout(nodes=2, tp=2, pp=4)
    for rank, observed in enumerate(sixteen_ranks):
        expected = {kind: who for kind, who in _expected(layout, rank).items() if who is not None}
        assert observed["heard"] == expected
