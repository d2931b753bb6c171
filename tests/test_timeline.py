from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from mpviz import Event
from mpviz.timeline import sent_bytes


def message(rank: int, peer: int | None, size: int, name: str = "send") -> Event:
    return Event(rank, name, 0.0, 1.0, (0, 1, 2), bytes=size, peer=peer)


def test_an_event_is_a_frozen_value() -> None:
    event = Event(3, "all_reduce", 0.25, 1.0, (3, 4), bytes=8)
    assert event == Event(rank=3, name="all_reduce", start=0.25, end=1.0, group=(3, 4), bytes=8)
    assert len({event, Event(3, "all_reduce", 0.25, 1.0, (3, 4), bytes=8)}) == 1
    assert event.peer is None
    assert event.duration == 0.75
    with pytest.raises(FrozenInstanceError):
        event.rank = 4  # type: ignore[misc]


def test_an_event_needs_no_communication() -> None:
    event = Event(0, "forward", 1.0, 3.0)
    assert (event.group, event.bytes, event.peer, event.duration) == ((), 0, None, 2.0)
    assert (event.stage, event.microbatch) == (None, None)


def test_messages_add_up_from_sender_to_receiver() -> None:
    events = [message(0, 2, 5), message(2, 0, 7), message(0, 2, 11, "isend"), message(1, 0, 1)]
    assert sent_bytes(events, 3).tolist() == [[0, 0, 16], [1, 0, 0], [7, 0, 0]]


@pytest.mark.parametrize("name", ["recv", "irecv", "all_reduce", "broadcast", "reduce", "gather"])
def test_only_the_sender_counts_and_no_collective(name: str) -> None:
    assert not sent_bytes([message(0, 1, 8, name)], 2).any()


def test_a_message_that_names_nobody_is_not_counted() -> None:
    assert not sent_bytes([message(0, None, 8)], 2).any()


def test_no_events() -> None:
    matrix = sent_bytes([], 4)
    assert matrix.shape == (4, 4)
    assert matrix.dtype == np.int64
    assert not matrix.any()


def test_more_bytes_than_32_bits_hold() -> None:
    assert sent_bytes([message(0, 1, 2**31), message(0, 1, 2**31)], 2)[0, 1] == 2**32


def test_any_iterable_will_do() -> None:
    assert sent_bytes((message(rank, 0, 4) for rank in (1, 2)), 3)[:, 0].tolist() == [0, 4, 4]
