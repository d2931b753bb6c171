"""Two nodes for tests, or the reason why there are none here."""

import pytest

from mpviz.world.nodes import TwoNodes


@pytest.fixture(scope="module")
def nodes():
    try:
        made = TwoNodes(rate="100mbit")
    except OSError as why:
        pytest.skip(str(why))
    with made:
        yield made
