"""A call of a function of the notebook, written as text that stands alone."""

import ast
import builtins
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

from .._checks import listed
from ..layout import ParallelLayout
from ..schedule import Plan
from .binding import OWN_NAMES, bound


class NoSourceError(ValueError):
    """Something that has no text of its own; it says what, and what to do."""


class CallSource(NamedTuple):
    """A call as text.

    Attributes
    ----------
    taken : str
        Lines that make the names that the function takes from the notebook.
    definition : str
        Of the function, or its import.
    name, call : str
        ``"step"`` and ``"step(groups, True)"``.
    """

    taken: str
    definition: str
    name: str
    call: str


def source_of_call(function: Callable[..., Any], args: Sequence[Any]) -> CallSource:
    """Return a call of a function as text; NoSourceError if anything in it has none.

    Parameters
    ----------
    function : callable
        As it was sent to the ranks: a function of the notebook has in its ``__globals__`` the names
        it uses and no others.
    args : sequence
        Its arguments, without those that a rank fills in.
    """
    name = getattr(function, "__name__", "")
    if not name:
        raise NoSourceError(f"a {type(function).__name__} is no function; write one with def")
    name = "function" if name == "<lambda>" else name
    given, named = bound(function, [_Text(source_of_value(arg)) for arg in args], _OWN)
    words = [*map(repr, given), *(f"{key}={value!r}" for key, value in named.items())]
    taken = "" if is_importable(function) else "".join(_taken(function))
    return CallSource(taken, _definition(function, name), name, f"{name}({', '.join(words)})")


class _Text(str):
    """An expression: it shows itself without quotes."""

    __repr__ = str.__str__


_OWN = {name: _Text(name) for name in OWN_NAMES}


_BRACKETS: dict[type, str] = {list: "[{}]", tuple: "({})", set: "{{{}}}"}


def source_of_value(value: Any) -> str:
    """Return an expression for a value.

    >>> source_of_value({"layout": ParallelLayout(nodes=1, tp=2), "sizes": (1, 2.5)})
    "{'layout': ParallelLayout(nodes=1, gpus_per_node=8, tp=2, pp=1), 'sizes': (1, 2.5)}"
    >>> source_of_value(object())
    Traceback (most recent call last):
        ...
    mpviz.world.source.NoSourceError: an object of the notebook; make it in a cell of the ranks
    """
    kind = type(value)
    if isinstance(value, list | tuple | set) and kind in _BRACKETS and value:
        inner = ", ".join(map(source_of_value, value))
        return _BRACKETS[kind].format(f"{inner}," if kind is tuple and len(value) == 1 else inner)
    if kind is dict:
        pairs = (f"{source_of_value(key)}: {source_of_value(one)}" for key, one in value.items())
        return f"{{{', '.join(pairs)}}}"
    if kind is Plan:
        return f"schedule.parse({value.text!r}, placement={value.placement})"
    if kind is ParallelLayout:
        return repr(value)
    try:
        if kind is type(ast.literal_eval(repr(value))):
            return repr(value)
    except (ValueError, SyntaxError):  # not that of a number, text, True, False or None
        pass
    article = "an" if kind.__name__[0] in "aeiouAEIOU" else "a"
    raise NoSourceError(
        f"{article} {kind.__name__} of the notebook; make it in a cell of the ranks"
    )


def is_importable(value: Any) -> bool:
    """Whether a function or class is that of an installed module, rather than of the notebook."""
    module = sys.modules.get(getattr(value, "__module__", None) or "")
    if module is None or module.__name__ == "__main__":
        return False
    return getattr(module, getattr(value, "__qualname__", ""), None) is value


def _taken(function: Any) -> Iterator[str]:
    """Yield lines that make each name that a function takes from the notebook."""
    code = function.__code__
    closed = zip(code.co_freevars, function.__closure__ or (), strict=True)
    names = function.__globals__ | {name: cell.cell_contents for name, cell in closed}
    for name, value in names.items():
        if name.startswith("__") or value is function:
            continue
        try:
            yield f"{_line(name, value)}\n"
        except NoSourceError as why:
            raise NoSourceError(f"it takes {name} from the notebook, {why}") from None


def _line(name: str, value: Any) -> str:
    if isinstance(value, ModuleType):
        return f"import {value.__name__} as {name}".replace(
            f"import {name} as {name}", f"import {name}"
        )
    if isinstance(value, FunctionType) or is_importable(value):
        return _definition(value, name)
    return f"{name} = {source_of_value(value)}"


def _definition(function: Any, name: str) -> str:
    """Return the text that defines a function, or imports it."""
    if is_importable(function):
        own = function.__name__
        return f"from {function.__module__} import {own}" + (f" as {name}" if own != name else "")
    try:
        text = textwrap.dedent(inspect.getsource(function))
        nodes = list(ast.walk(ast.parse(text)))
    except (OSError, TypeError, SyntaxError):
        raise NoSourceError(
            f"the text of {name} is not known; write it with def in a cell"
        ) from None
    if function.__name__ == "<lambda>":
        found = [node for node in nodes if isinstance(node, ast.Lambda)]
        if len(found) != 1:
            raise NoSourceError("one of several lambdas; write it with def")
        return f"{name} = {ast.get_source_segment(text, found[0])}"
    _check_head(nodes[1], name)
    return text.rstrip()


def _check_head(node: Any, name: str) -> None:
    """Raise if what stands before the body of a function needs names of the notebook."""
    arguments = node.args
    each = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    annotations = [node.returns, *(one.annotation for one in each)]
    head = [*node.decorator_list, *arguments.defaults, *arguments.kw_defaults, *annotations]
    used = (inner for part in head if part is not None for inner in ast.walk(part))
    names = {inner.id for inner in used if isinstance(inner, ast.Name)} - set(dir(builtins))
    if names:
        raise NoSourceError(
            f"the line of its def uses {listed(sorted(names), ' and ')} of the notebook; use "
            f"numbers there, or import inside the function"
        )
