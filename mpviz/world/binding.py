"""The names that each rank begins with, and how a function gets those it asks for."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

OWN_NAMES = (
    *("rank", "world_size", "tp_rank", "cp_rank", "dp_rank", "pp_rank"),
    *("groups", "layout"),
)
"""The variables every rank begins with."""


def bound(
    function: Callable[..., Any], given: list[Any], own: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """Deal what was given to the parameters that do not bear a name of the rank's own.

    >>> bound(lambda x, rank, y: None, [1, 2], {"rank": 7})
    ([1, 7, 2], {})
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return given, {}
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    in_line = True
    for parameter in parameters:
        if parameter.kind in (parameter.KEYWORD_ONLY, parameter.VAR_KEYWORD):
            in_line = False
        if parameter.name in own and not in_line:
            kwargs[parameter.name] = own[parameter.name]
        elif parameter.name in own:
            args.append(own[parameter.name])
        elif in_line and given and parameter.kind is not parameter.VAR_POSITIONAL:
            args.append(given.pop(0))
        elif parameter.kind is not parameter.VAR_POSITIONAL:
            in_line = False  # a default is used; whatever follows goes by name
    return [*args, *given], kwargs
