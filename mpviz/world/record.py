"""Every collective and message of a run, as events.

The functions of ``torch.distributed`` are wrapped while a run is recorded, and only then. (A
``TorchDispatchMode`` would see them too, but its first use imports 800 modules in every rank.)
"""

import inspect
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import distributed_c10d

from ..timeline import Event

# Each function, and its argument that holds what this rank contributes or receives.
_RECORDED = {
    "all_reduce": "tensor",
    "broadcast": "tensor",
    "reduce": "tensor",
    "all_gather": "tensor",
    "all_gather_into_tensor": "input_tensor",
    "all_gather_single": "input_tensor",
    "reduce_scatter": "input_list",
    "reduce_scatter_tensor": "input",
    "reduce_scatter_single": "input",
    "gather": "tensor",
    "scatter": "tensor",
    "all_to_all": "input_tensor_list",
    "all_to_all_single": "input",
    "send": "tensor",
    "recv": "tensor",
    "isend": "tensor",
    "irecv": "tensor",
    "barrier": "",
}
_PEERS = ("dst", "src", "group_dst", "group_src")
_ROOT_MAY_BE_LEFT_OUT = ("gather", "scatter")


@contextmanager
def recording(rank: int, begun: float) -> Iterator[list[Event]]:
    """Record the communication of a block; the list is complete when the block ends.

    Parameters
    ----------
    rank : int
        Who records.
    begun : float
        The reading of ``time.perf_counter`` from which seconds are counted.
    """
    events: list[Event] = []
    recorder = _Recorder(rank, begun)
    plain = {name: getattr(dist, name) for name in _RECORDED if hasattr(dist, name)}
    recorded = {name: recorder.wrapped(name, function) for name, function in plain.items()}
    messages = {plain[name]: recorded[name] for name in ("isend", "irecv")}
    plain["batch_isend_irecv"] = dist.batch_isend_irecv
    recorded["batch_isend_irecv"] = _batch_of(messages, dist.batch_isend_irecv)
    make_message = dist.P2POp.__init__
    dist.P2POp.__init__ = _of_plain(messages, make_message)  # type: ignore[method-assign]
    _put(recorded)
    try:
        yield events
    finally:
        _put(plain)
        dist.P2POp.__init__ = make_message  # type: ignore[method-assign]
        events += recorder.events()


def _put(functions: Mapping[str, Callable[..., Any]]) -> None:
    # The same object in both modules: torch tells a P2POp's isend from its irecv by identity.
    for module in (dist, distributed_c10d):
        for name, function in functions.items():
            setattr(module, name, function)


Messages = Mapping[Callable[..., Any], Callable[..., Any]]


def _of_plain(recorded: Messages, make: Callable[..., None]) -> Callable[..., None]:
    """Return ``P2POp.__init__`` whose messages can also be sent when the recording is over."""
    plain = {mine: torchs for torchs, mine in recorded.items()}

    @wraps(make)
    def call(self: dist.P2POp, op: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        make(self, plain.get(op, op), *args, **kwargs)

    return call


def _batch_of(recorded: Messages, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``batch_isend_irecv`` that records messages, whenever they were made."""

    @wraps(function)
    def call(p2p_op_list: list[dist.P2POp]) -> Any:
        batch = []
        for one in p2p_op_list:
            batch.append(object.__new__(type(one)))
            vars(batch[-1]).update(vars(one), op=recorded.get(one.op, one.op))
        return function(batch)

    return call


class _Recorder:
    def __init__(self, rank: int, begun: float) -> None:
        self._rank = rank
        self._begun = begun
        self._inside = False
        self._over = False
        self._seen: list[tuple[dict[str, Any], list[float]]] = []

    def _now(self) -> float:
        return time.perf_counter() - self._begun

    def wrapped(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, recorded; what it calls in turn is part of it."""
        signature = inspect.signature(function)

        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            # A learner's "from torch.distributed import …" may keep this function for ever.
            if self._inside or self._over:
                return function(*args, **kwargs)
            try:
                given = signature.bind(*args, **kwargs).arguments
            except TypeError:
                return function(*args, **kwargs)  # says what is wrong
            if dist.get_rank(given.get("group")) < 0:
                return function(*args, **kwargs)  # not a member, so nothing happens
            ended: list[float] = []
            self._seen.append((self._described(name, given), ended))
            self._inside = True
            try:
                work = function(*args, **kwargs)
            except BaseException:
                ended.append(self._now())
                raise
            finally:
                self._inside = False
            if hasattr(work, "wait"):
                return _TimedWork(work, ended, self._now)
            ended.append(self._now())
            return work

        return call

    def _described(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
        group = given.get("group")
        members = tuple(dist.get_process_group_ranks(group))
        peer = next((given[key] for key in _PEERS if given.get(key) is not None), None)
        if peer is not None and (given.get("group_dst"), given.get("group_src")) != (None, None):
            peer = members[peer]
        if peer is None and name in _ROOT_MAY_BE_LEFT_OUT:
            peer = 0
        return {
            "rank": self._rank,
            "name": name,
            "start": self._now(),
            "group": members,
            "bytes": _bytes_in(given.get(_RECORDED[name])),
            "peer": peer,
        }

    def events(self) -> list[Event]:
        """Stop, and return what was seen; what nobody waited for ends with the run."""
        self._over = True
        return [Event(end=ended[0] if ended else self._now(), **seen) for seen, ended in self._seen]


def _bytes_in(value: Any) -> int:
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    return sum(map(_bytes_in, value)) if isinstance(value, list | tuple) else 0


class _TimedWork:
    """A pending operation that notes when the wait for it is over."""

    def __init__(self, work: Any, ended: list[float], now: Callable[[], float]) -> None:
        self._work, self._ended, self._now = work, ended, now

    def wait(self, *args: Any, **kwargs: Any) -> Any:
        result = self._work.wait(*args, **kwargs)
        self._ended.append(self._now())
        return result

    def __getattr__(self, name: str) -> Any:
        return getattr(self._work, name)
