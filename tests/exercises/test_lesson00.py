"""The check of lesson 00: known mistakes get the hint made for them."""

import pytest
from exercises.judged import assert_wrong

from mpviz import exercises


@pytest.mark.parametrize(
    ("name", "answer", "hint"),
    [
        ("gpus_with_star", 1, "the second block too"),
        ("gpus_with_star", 8, "how many pieces there are"),
        ("gpus_with_star", 16, "all GPUs"),
        ("gpus_with_star", 4, "four different pieces"),
    ],
)
def test_a_wrong_number_is_told_what_it_counts(name, answer, hint):
    assert_wrong(getattr(exercises, name)(answer), hint)
