"""The check of lesson 08b: known mistakes get the hint made for them."""

import sys

import cloudpickle
import pytest
from exercises.judged import assert_wrong

from mpviz import exercises

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # as a notebook's functions go


def parts(weight, tp):
    return dict(zip("qkv", weight.split([16 // tp, 8 // tp, 8 // tp]), strict=True))


def copies(weight, tp):
    return {name: part.clone() for name, part in parts(weight, tp).items()}


def head_by_head(weight, tp):
    return {f"row {n}": row for n, row in enumerate(weight.split(len(weight) // 8))}


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda weight, tp: {"qkv": weight}, "rank 0 has Q4 where K0 belongs. One under the other"),
        (lambda weight, tp: dict(enumerate(weight.chunk(3))), "Parts of 6, 6 and 4 rows?"),
        (copies, "Nothing was loaded into weight"),
        (head_by_head, "belongs. One under the other"),
        (lambda weight, tp: weight.split(4), "return a dictionary of tensors, by name"),
        (lambda weight, tp: {"q": weight[:8]}, "The parts have 8 rows together, and weight has 16"),
        (lambda weight, tp: {"q": weight.split([16, 8, 8])}, "It does not run on the ranks: "),
    ],
)
def test_a_stacked_weight_that_is_stored_wrong_is_told_how(answer, hint):
    assert_wrong(exercises.stored_apart(answer), hint)
