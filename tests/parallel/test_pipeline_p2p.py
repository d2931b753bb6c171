"""What crosses from stage to stage: each transfer once, and a header is read as it was written."""

from itertools import chain, product

import pytest
import torch
from schedule.plans import plans_of

from mpviz.parallel.pipeline.p2p import (
    Header,
    TensorMeta,
    Transfer,
    acknowledged,
    meta_of,
    received_by,
    sent_by,
)
from mpviz.schedule import Action


def test_no_two_transfers_have_one_number():
    stages = [(0, 1), (1, 0), (1, 2), (2, 1), (2, 3), (3, 2)]
    transfers = [Transfer(*way, k) for way, k in product(stages, range(5))]
    numbers = [transfer.number(microbatches=5) for transfer in transfers]
    assert sorted(numbers) == list(range(2 * 3 * 5))


def test_what_one_action_makes_its_neighbour_takes():
    actions = [Action(*at) for at in product(range(4), "FBIW", range(2))]
    made = {sent_by(action, 4): action for action in actions} | {None: None}
    for action in actions:
        transfer = received_by(action, 4)
        if transfer is not None:
            assert transfer.receiver == action.stage
            assert transfer.sender == made[transfer].stage
            assert made[transfer].microbatch == action.microbatch
            assert (action.kind == "F") == (made[transfer].kind == "F")


@pytest.mark.parametrize(
    "plan", [*plans_of(4, 5), *plans_of(2, 4)], ids=lambda plan: f"{plan.name} {plan.pp}"
)
def test_a_transfer_tells_of_those_that_its_sender_took_before_it_was_made(plan):
    def place(peer, of, transfer):
        """Where a rank takes a transfer, or makes it, in its list."""
        return [of(action, plan.stages) for action in plan.actions[peer]].index(transfer)

    for rank in range(plan.pp):
        told = acknowledged(plan, rank)
        named = list(chain.from_iterable(told.values()))
        assert len(named) == len(set(named))
        takes = {received_by(action, plan.stages) for action in plan.actions[rank]} - {None}
        assert set(told) == {one for one in takes if plan.placement[one.sender] != rank}
        for transfer, arrived in told.items():
            peer = plan.placement[transfer.sender]
            made = place(peer, sent_by, transfer)
            for one in arrived:
                assert plan.placement[one.sender] == rank == plan.placement[transfer.receiver]
                assert place(peer, received_by, one) <= made
        # What no transfer tells of is on its way when the last has come: no more than the peers
        # take after they have made that.
        for action in plan.actions[rank]:
            one = sent_by(action, plan.stages)
            if one is None or plan.placement[one.receiver] == rank or one in named:
                continue
            peer = plan.placement[one.receiver]
            after = [place(peer, sent_by, x) for x in told if plan.placement[x.sender] == peer]
            assert place(peer, received_by, one) > max(after, default=-1)


def test_the_ends_take_and_make_nothing():
    assert received_by(Action(0, "F", 0), 4) is sent_by(Action(3, "F", 0), 4) is None
    assert received_by(Action(3, "B", 0), 4) is sent_by(Action(0, "B", 0), 4) is None
    assert received_by(Action(1, "W", 0), 4) is sent_by(Action(1, "W", 0), 4) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 1, 5), (1,) * 8])
@pytest.mark.parametrize(
    ("requires_grad", "cut"), [(True, None), (False, None), (False, 0), (True, 63)]
)
def test_a_header_is_read_as_it_was_written(shape, dtype, requires_grad, cut):
    header = Header(meta_of(torch.empty(shape, dtype=dtype)), requires_grad, cut)
    assert Header.unpack(header.pack()) == header == ((shape, dtype), requires_grad, cut)


def test_what_a_header_cannot_say_is_refused():
    with pytest.raises(ValueError, match=r"at most 8 dimensions .* got 1×1×1×1×1×1×1×1×1 float32"):
        Header(TensorMeta((1,) * 9, torch.float32)).pack()
    with pytest.raises(ValueError, match="got 2 int64"):
        Header(TensorMeta((2,), torch.int64)).pack()


def test_shapes_are_described():
    assert str(TensorMeta((), torch.float32)) == "a scalar float32"
