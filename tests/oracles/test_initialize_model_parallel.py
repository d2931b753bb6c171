"""The real ``initialize_model_parallel``: what each rank's getters report.

First with torch's fake process group, which plays any rank of any world in this one process;
then with real processes over gloo.
"""

import json
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random

import pytest
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
    folder = tmp_path_factory.mktemp("gloo")
    program = Path(__file__).with_name("gloo_ranks.py")
    command = [sys.executable, "-W", "ignore", program, folder, "16", "2", "4"]
    log = folder / "log"
    with log.open("w") as output:
        # Its own session, so that it and its ranks can be ended together.
        nursery = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            nursery.wait(timeout=200)
        except subprocess.TimeoutExpired:
            pytest.fail(f"16 ranks did not finish in 200 s\n{log.read_text()}")
        finally:
            _end_session(nursery)
    answers = {int(path.stem): path for path in folder.glob("*.json")}
    observed = {rank: json.loads(path.read_text()) for rank, path in answers.items()}
    failed = [rank for rank, answer in observed.items() if "failure" in answer]
    silent = sorted(set(range(16)) - set(observed))
    if failed or silent:
        # The first to fail is the cause: it takes the others with it.
        failed.sort(key=lambda rank: answers[rank].stat().st_mtime_ns)
        tracebacks = [f"rank {rank}:\n{observed[rank]['failure']}" for rank in failed]
        silence = f"ranks that never answered: {silent}\n" if silent else ""
        pytest.fail("\n".join([silence, *tracebacks, log.read_text()]))
    return [observed[rank] for rank in range(16)]


def _end_session(nursery: subprocess.Popen) -> None:
    """Kill what is left of the processes that this test started."""
    # The error only says that nothing is left.
    with suppress(ProcessLookupError):
        os.killpg(nursery.pid, signal.SIGKILL)
    nursery.wait()


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
