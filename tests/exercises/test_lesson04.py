"""The checks of lesson 04: answers are tried on real ranks, and told what they do."""

import sys

import cloudpickle
import pytest
import torch
import torch.distributed as dist
from exercises.judged import assert_wrong

from mpviz import exercises

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # as a notebook's functions go
pytestmark = pytest.mark.usefixtures("kept_ranks")


def the_sum(x, has_data, group):
    dist.all_reduce(x, group=group)
    return x


def mean_of_all_members(x, has_data, group):
    dist.all_reduce(x, group=group)
    return x / 2


def zeros_but_by_members(x, has_data, group):
    return the_sum(x if has_data else 0 * x, has_data, group) / 2


def only_those_with_data(x, has_data, group):
    if has_data:
        dist.all_reduce(x, group=group)
    return x / 2


def counted(x, has_data, group):
    both = torch.cat([x * has_data, torch.tensor([float(has_data)])])
    dist.all_reduce(both, group=group)
    return both[:-1] / both[-1]


def only_for_those_with_data(x, has_data, group):
    mean = counted(x.clone(), has_data, group)
    return mean if has_data else x


def over_the_world(x, has_data, group):
    dist.all_reduce(x)
    return x


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (the_sum, "it returns 4, 6, 4, 6. That is the sum. Who divides it?"),
        (over_the_world, "it returns 10, 10, 10, 10. That is the sum over all four ranks."),
        (lambda x, has_data, group: x, "Every rank has kept its own x."),
        (mean_of_all_members, "The x of rank 2 is still counted"),
        (zeros_but_by_members, "divided by all members of the group. How many have data?"),
        (only_for_those_with_data, "Rank 2 has kept its own x; it must get the mean, too."),
        (lambda x, has_data, group: None, "shaped like x, [3]; it returns None. Is there a `re"),
        (lambda x: x, "It does not run on the ranks: 4 of 4 ranks raised TypeError"),
    ],
)
def test_a_mean_that_is_none_is_told_what_it_is(answer, hint):
    assert_wrong(exercises.mean_of_those_with_data(answer), hint)


def test_a_mean_that_hangs_is_told_who_waits(impatient):
    hint = "It hangs: rank 0 waits in all_reduce. Every member must call"
    assert_wrong(exercises.mean_of_those_with_data(only_those_with_data), hint)


def test_a_mean_may_count_in_the_same_message():
    assert exercises.mean_of_those_with_data(counted).correct
