"""Megatron's names: of axes, of their orders, and of the kinds of process groups."""

from collections.abc import Iterable, Mapping

from ._checks import listed

MEGATRON_ORDER = "tp-cp-ep-dp-pp"
"""Megatron's default: tp ranks are neighbours, pipeline stages lie furthest apart."""

TP_PP_DP_ORDER = "tp-cp-ep-pp-dp"
"""What ``--use-tp-pp-dp-mapping`` selects: model copies one behind the other."""

ORDER_AXES = ("tp", "cp", "ep", "dp", "pp")

GROUP_KINDS: dict[str, str] = {
    "tp": "one layer's matrices, cut",
    "pp": "all stages, one after the other",
    "dp": "the same piece, other data",
    "cp": "the same piece, other part of the sequence",
    "tp-pp": "one whole model copy",
    "dp-cp": "all holders of the same piece: the gradient all-reduce",
    "tp-dp": "one stage, all copies",
    "tp-cp": "one stage of one copy",
    "tp-dp-cp": "one stage everywhere",
    "embedding": "first and last stage: tied embeddings",
    "position_embedding": "first stage: position embeddings",
    "ep": "other experts, same layer",
    "etp": "one expert's matrices, cut",
    "edp": "the same experts, other data",
    "etp-ep": "all experts of one stage",
    "etp-ep-pp": "all experts of one model copy",
}
"""Every kind of process group that Megatron creates, and what its members share."""

EXPERT_NAME = {"tp": "etp", "dp": "edp"}
"""What an axis of the dense grid is called in the expert grid."""

_DENSE_AXES = ("tp", "dp", "cp", "pp")
_EXPERT_AXES = ("etp", "ep", "edp", "pp")
_ALIASES = {"model": "tp-pp", "expert-dp": "edp", "expert-tp": "etp"}


def checked_order(order: object, sizes: Mapping[str, int]) -> str:
    """Return an order in lower case, or raise ``ValueError`` if it does not fit the sizes.

    >>> checked_order("tp-dp", {"tp": 2, "cp": 1, "ep": 1, "dp": 2, "pp": 4})
    Traceback (most recent call last):
        ...
    ValueError: order 'tp-dp' misses pp, whose size is 4; only axes of size 1 may be left out
    """
    if not isinstance(order, str):
        raise ValueError(f"order must be text such as {MEGATRON_ORDER!r}, got {order!r}")
    axes = order.lower().split("-")
    unknown = [axis for axis in axes if axis not in ORDER_AXES]
    if unknown:
        raise ValueError(
            f"order {order!r} holds {listed(map(repr, unknown))}; "
            f"it takes {listed(ORDER_AXES)}, each once"
        )
    repeated = sorted({axis for axis in axes if axes.count(axis) > 1})
    if repeated:
        raise ValueError(f"order {order!r} repeats {listed(repeated)}")
    for axis in ORDER_AXES:
        if axis not in axes and sizes[axis] > 1:
            raise ValueError(
                f"order {order!r} misses {axis}, whose size is {sizes[axis]}; "
                f"only axes of size 1 may be left out"
            )
    return "-".join(axes)


def is_expert(axes: Iterable[str]) -> bool:
    """Return whether any of the axes belongs to the expert grid alone.

    >>> is_expert(["ep", "pp"]), is_expert(["tp", "pp"])
    (True, False)
    """
    return not {"etp", "ep", "edp"}.isdisjoint(axes)


def parsed_kind(kind: str) -> tuple[str, tuple[str, ...]]:
    """Return the canonical name of a group kind, and the axes its members differ in.

    >>> parsed_kind("pp-tp"), parsed_kind("tp-ep")
    (('tp-pp', ('tp', 'pp')), ('etp-ep', ('etp', 'ep')))
    """
    if kind in ("embedding", "position_embedding"):
        return kind, ("pp",)
    tokens = set(_ALIASES.get(kind, kind).split("-")) if isinstance(kind, str) else {repr(kind)}
    if is_expert(tokens):
        tokens = {EXPERT_NAME.get(token, token) for token in tokens}
        known = _EXPERT_AXES
    else:
        known = _DENSE_AXES
    unknown = sorted(tokens.difference(known))
    if "cp" in unknown:
        raise ValueError(
            f"no group kind {kind!r}: cp and ep never share a grid (cp belongs to the dense "
            f"layers, ep to the experts)"
        )
    if unknown:
        raise ValueError(f"no group kind {kind!r}; kinds: {listed(GROUP_KINDS)}")
    axes = tuple(axis for axis in known if axis in tokens)
    return "-".join(axes), axes
