"""What crosses from stage to stage: each letter once, and read as it was written."""

from itertools import chain, product

import pytest
import torch
from schedule.plans import plans_of

from mpviz.parallel.agreement import described
from mpviz.parallel.pipeline.letters import (
    Header,
    Letter,
    like,
    made_by,
    read,
    receipts,
    shape_of,
    taken_by,
    written,
)
from mpviz.schedule import Action


def test_no_two_letters_have_one_number():
    letters = [Letter(*at) for at in product(range(3), (False, True), range(5))]
    numbers = [letter.number(microbatches=5) for letter in letters]
    assert sorted(numbers) == list(range(2 * 3 * 5))


def test_what_one_action_makes_its_neighbour_takes():
    actions = [Action(*at) for at in product(range(4), "FBIW", range(2))]
    made = {made_by(action, 4): action for action in actions} | {None: None}
    for action in actions:
        letter = taken_by(action, 4)
        if letter is not None:
            assert letter.taker == action.stage
            assert letter.sender == made[letter].stage
            assert made[letter].microbatch == action.microbatch
            assert (action.kind == "F") == (made[letter].kind == "F")


@pytest.mark.parametrize(
    "plan", [*plans_of(4, 5), *plans_of(2, 4)], ids=lambda plan: f"{plan.name} {plan.pp}"
)
def test_a_letter_tells_of_those_that_its_sender_took_before_it_was_made(plan):
    def place(peer, of, letter):
        """Where a rank takes a letter, or makes it, in its list."""
        return [of(action, plan.stages) for action in plan.actions[peer]].index(letter)

    for rank in range(plan.pp):
        told = receipts(plan, rank)
        named = list(chain.from_iterable(told.values()))
        assert len(named) == len(set(named))
        takes = {taken_by(action, plan.stages) for action in plan.actions[rank]} - {None}
        assert set(told) == {one for one in takes if plan.placement[one.sender] != rank}
        for letter, arrived in told.items():
            peer = plan.placement[letter.sender]
            made = place(peer, made_by, letter)
            for one in arrived:
                assert plan.placement[one.sender] == rank == plan.placement[letter.taker]
                assert place(peer, taken_by, one) <= made
        # What no letter tells of is on its way when the last has come: no more than the peers
        # take after they have made that.
        for action in plan.actions[rank]:
            one = made_by(action, plan.stages)
            if one is None or plan.placement[one.taker] == rank or one in named:
                continue
            peer = plan.placement[one.taker]
            after = [place(peer, made_by, x) for x in told if plan.placement[x.sender] == peer]
            assert place(peer, taken_by, one) > max(after, default=-1)


def test_the_ends_take_and_make_nothing():
    assert taken_by(Action(0, "F", 0), 4) is made_by(Action(3, "F", 0), 4) is None
    assert taken_by(Action(3, "B", 0), 4) is made_by(Action(0, "B", 0), 4) is None
    assert taken_by(Action(1, "W", 0), 4) is made_by(Action(1, "W", 0), 4) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 1, 5), (1,) * 8])
@pytest.mark.parametrize(("learns", "cut"), [(True, None), (False, None), (False, 0), (True, 63)])
def test_a_header_is_read_as_it_was_written(shape, dtype, learns, cut):
    header = Header(shape_of(torch.empty(shape, dtype=dtype)), learns, cut)
    assert read(written(header)) == header == ((shape, dtype), learns, cut)


def test_what_a_header_cannot_say_is_refused():
    with pytest.raises(ValueError, match=r"at most 8 dimensions .* got 1×1×1×1×1×1×1×1×1 float32"):
        written(Header(((1,) * 9, torch.float32)))
    with pytest.raises(ValueError, match="got 2 int64"):
        written(Header(((2,), torch.int64)))


def test_shapes_are_described():
    assert described(like(((), torch.float32))) == "a scalar float32"
