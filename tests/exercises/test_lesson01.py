"""The checks of lesson 01: known mistakes get the hint made for them."""

import numpy as np
import pytest
from exercises.judged import assert_wrong

from mpviz import exercises


@pytest.mark.parametrize(
    ("name", "answer", "hint"),
    [
        ("copies", 8, "how many GPUs one model takes"),
        ("copies", 32, "an uncut model"),
        ("copies", 2, "GPUs of two nodes"),
        ("ranks_of_copy_two", range(8, 16), "That is node 1"),
        ("ranks_of_copy_two", [0, 1, 8, 9, 16, 17, 24, 25], "That is copy 1"),
        ("ranks_of_copy_two", [2, 3, 6, 7, 10, 11, 14, 15], "its ranks on two nodes"),
        ("ranks_of_copy_two", [2, 10, 18, 26], "only its upper halves"),
        ("ranks_of_copy_two", [2, 3], "There are 8 ranks in it, and you named 2"),
        ("ranks_of_copy_two", [2, 3, 10, 11, 18, 19, 26, 4], "Rank 4 does not belong there"),
        ("same_parameters", [9, 11, 15], "Add 13 itself"),
        ("same_parameters", [13, 15], "there are four"),
        ("same_parameters", 13, "three other copies"),
        ("same_parameters", [8, 10, 12, 14], "the other half"),
        ("same_parameters", [12, 13], "tensor-parallel group"),
        ("same_parameters", range(8, 16), "all of its stage"),
        ("same_parameters", [5, 13, 21, 29], "other layers"),
        ("same_parameters", [5, 7, 13, 15], "Rank 5 does not belong there"),
    ],
)
def test_a_wrong_answer_is_told_what_it_is(name, answer, hint):
    assert_wrong(getattr(exercises, name)(answer), hint)


def test_numbers_and_lists_of_numpy_are_answers_too():
    assert exercises.copies(np.int64(4)).correct
    assert exercises.copies(4.0).correct
    assert exercises.ranks_of_copy_two(np.array([2, 3, 10, 11, 18, 19, 26, 27])).correct
    assert exercises.ranks_of_copy_two({27, 26, 19, 18, 11, 10, 3, 2}).correct
