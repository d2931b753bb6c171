"""Every collective and message that a rank calls of ``torch.distributed``, as it is called.

The functions are wrapped once, before the rank runs anything of a learner, so that one imported by
name is seen as well. (A ``TorchDispatchMode`` would see them too, but its first use imports 800
modules in every rank.)
"""

import inspect
import sys
import threading
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, NamedTuple, Protocol

import torch
import torch.distributed as dist
from torch.distributed import distributed_c10d

from .protocol import Operation
from .stack import is_learners


class _Kind(NamedTuple):
    """What an operation is told by.

    Attributes
    ----------
    contributed : str
        The argument that holds what this rank contributes or receives; its bytes are recorded.
    compared : str
        The argument whose size and type are the same on every member; empty for none.
    type_only : bool
        Whether just its type is: sizes may differ from rank to rank.
    """

    contributed: str
    compared: str
    type_only: bool = False


KINDS = {
    "all_reduce": _Kind("tensor", "tensor"),
    "broadcast": _Kind("tensor", "tensor"),
    "reduce": _Kind("tensor", "tensor"),
    "all_gather": _Kind("tensor", "tensor"),
    "all_gather_into_tensor": _Kind("input_tensor", "input_tensor"),
    "all_gather_single": _Kind("input_tensor", "input_tensor"),
    "reduce_scatter": _Kind("input_list", "input_list"),
    "reduce_scatter_tensor": _Kind("input", "input"),
    "reduce_scatter_single": _Kind("input", "input"),
    "gather": _Kind("tensor", "tensor"),
    "scatter": _Kind("tensor", "tensor"),
    "all_to_all": _Kind("input_tensor_list", "input_tensor_list", type_only=True),
    "all_to_all_single": _Kind("input", "input", type_only=True),
    "send": _Kind("tensor", "tensor"),
    "recv": _Kind("tensor", "tensor"),
    "isend": _Kind("tensor", "tensor"),
    "irecv": _Kind("tensor", "tensor"),
    "barrier": _Kind("", ""),
}
_PEERS = ("dst", "src", "group_dst", "group_src")
_ROOT_MAY_BE_LEFT_OUT = ("gather", "scatter")
_REDUCES = ("all_reduce", "reduce", "reduce_scatter", "reduce_scatter_tensor")


class Observer(Protocol):
    """Somebody who is told of each operation."""

    def begin(self, operation: Operation) -> Any:
        """Take note of an operation; what is raised here, the caller gets in its place.

        What is returned, `end` or `fail` is given: threads may call several at a time.
        """

    def end(self, call: Any, work: Any) -> Any:
        """Take note that the call is over; return what the caller gets for ``work``."""

    def fail(self, call: Any, error: BaseException) -> None:
        """Take note that the call raised."""


class _Thread(threading.local):
    inside = False


class Operations:
    """The wrapped functions of this process, and who observes them.

    Attributes
    ----------
    observers : list of Observer
        Told in order; empty while nothing of a learner runs.
    """

    def __init__(self) -> None:
        self.observers: list[Observer] = []
        self._thread = _Thread()
        self._groups: dict[Any, tuple[tuple[int, ...], str]] = {}

    def install(self) -> None:
        """Put the wrapped functions in place of torch's, for as long as the process lives."""
        for name in KINDS:
            if hasattr(dist, name):
                function = self._wrapped(name, getattr(dist, name))
                # The same object in both: torch tells a P2POp's isend from its irecv by identity.
                for module in (dist, distributed_c10d):
                    setattr(module, name, function)

    def forget_groups(self) -> None:
        """Keep no process group alive that the learner destroyed."""
        self._groups.clear()

    def _wrapped(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, observed; what it calls in turn is part of it."""
        parameters = tuple(inspect.signature(function).parameters)

        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if self._thread.inside or not self.observers:
                return function(*args, **kwargs)
            given = dict(zip(parameters, args, strict=False)) | kwargs
            operation = self._described(name, given)
            if operation is None:
                return function(*args, **kwargs)
            told = [(observer, observer.begin(operation)) for observer in self.observers]
            self._thread.inside = True
            try:
                work = function(*args, **kwargs)
            except BaseException as error:
                for observer, begun in told:
                    observer.fail(begun, error)
                raise
            finally:
                self._thread.inside = False
            for observer, begun in told:
                work = observer.end(begun, work)
            return work

        return call

    def _described(self, name: str, given: Mapping[str, Any]) -> Operation | None:
        """Return what is called; None if this rank takes no part, or torch will refuse it."""
        if not dist.is_initialized():
            return None
        try:
            members, group_name = self._members(given.get("group"))
            kind, peer = KINDS[name], _peer(name, given, members)
            compared = given.get(kind.compared)
            if dist.get_rank() not in members:
                return None
            return Operation(
                name,
                members,
                group_name,
                _bytes_in(given.get(kind.contributed)),
                0 if kind.type_only else _elements_in(compared),
                _dtype_of(compared),
                _reduction(given.get("op")) if name in _REDUCES else "",
                peer,
                given.get("tag", 0),
                *_line(),
            )
        except (AttributeError, LookupError, TypeError, ValueError, RuntimeError):
            return None

    def _members(self, group: Any) -> tuple[tuple[int, ...], str]:
        group = dist.group.WORLD if group is None else group
        if group not in self._groups:
            members = tuple(dist.get_process_group_ranks(group))
            self._groups[group] = members, str(group.group_name)
        return self._groups[group]


def _peer(name: str, given: Mapping[str, Any], members: tuple[int, ...]) -> int | None:
    peer: int | None = next((given[key] for key in _PEERS if given.get(key) is not None), None)
    if peer is not None and (given.get("group_dst"), given.get("group_src")) != (None, None):
        peer = members[peer]
    return 0 if peer is None and name in _ROOT_MAY_BE_LEFT_OUT else peer


def _bytes_in(value: Any) -> int:
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    return sum(map(_bytes_in, value)) if isinstance(value, list | tuple) else 0


def _elements_in(value: Any) -> int:
    if isinstance(value, torch.Tensor):
        return value.numel()
    return sum(map(_elements_in, value)) if isinstance(value, list | tuple) else 0


def _dtype_of(value: Any) -> str:
    if isinstance(value, list | tuple):
        value = value[0] if value else None
    return str(value.dtype).removeprefix("torch.") if isinstance(value, torch.Tensor) else ""


def _reduction(op: Any) -> str:
    """Return "sum" for ``ReduceOp.SUM``; it is also the default.

    Raises
    ------
    TypeError
        When it is none.
    """
    if op is None:
        return "sum"
    op = getattr(op, "op", op)  # of a ReduceOp
    if not isinstance(op, dist.ReduceOp.RedOpType):
        raise TypeError(f"no reduction: {op!r}")
    return str(op).rpartition(".")[2].lower()


def _line() -> tuple[str, int]:
    """Return the learner's innermost line."""
    frame = sys._getframe(3)
    while frame is not None:
        if is_learners(frame.f_code.co_filename):
            return frame.f_code.co_filename, frame.f_lineno
        frame = frame.f_back  # type: ignore[assignment]
    return "", 0
