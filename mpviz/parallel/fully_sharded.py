"""ZeRO 3: weights cut into shards too, and whole only while their module computes.

Source: Rajbhandari et al. 2020 (arXiv 1910.02054), section 5.3; PyTorch's ``fully_shard``. The
table of all stages stands in `zero`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .._checks import listed
from ..shards import Bucket
from .agreement import agreed, check_group
from .collectives import TypedFunction, all_gather, reduce_scatter
from .copies import start_equal
from .zero import check_in, flattened


def fully_shard(module: nn.Module, group: dist.ProcessGroup, *, check: bool = True) -> nn.Module:
    """Cut a module's parameters into shards; have them whole only while it computes: ZeRO 3.

    Forward gathers the whole parameters, computes, and frees them. Backward gathers them again
    where it needs them, and scatters the mean of the gradients. Call it for each layer and then for
    the model, which takes what no layer holds: then one layer is whole at a time.

    Parameters
    ----------
    module : Module
        Changed in place: its parameters are this rank's shards from now on, one-dimensional and
        maybe empty, under their old names. Make the optimizer afterwards. Their values, and the
        buffers, are taken from the first rank of the group.
    group : ProcessGroup
        Who shares the parameters: ``groups["dp-cp"]``.
    check : bool
        Whether the ranks compare which module they gather, each time, so that all raise where
        otherwise some would wait for ever: one small all-reduce. On every rank the same.

    Returns
    -------
    Module
        The same.

    Raises
    ------
    ValueError
        On every rank, when the parameters differ in number, order, shape or dtype. When they are of
        several dtypes, or one is shared with a module that is sharded already. In forward and
        backward, when the ranks are not at the same module, or one lacks a gradient.

    Notes
    -----
    Every backward scatters its own gradients, whose means add up; there is no ``no_sync``. A
    backward that needs no weight, such as that of an embedding, does not gather it again.
    ``torch.utils.checkpoint`` may recompute a whole sharded module, or what holds one; not a part
    of one, which in backward would find shards.

    Examples
    --------
    >>> from mpviz import ParallelLayout, World
    >>> def sharded(groups):
    ...     import torch
    ...     from mpviz.parallel import fully_shard
    ...     layer = fully_shard(torch.nn.Linear(4, 1), groups["dp-cp"])
    ...     layer(torch.ones(1, 4)).sum().backward()
    ...     return {name: shard.grad.tolist() for name, shard in layer.named_parameters()}
    >>> with World(ParallelLayout(nodes=1, gpus_per_node=2)) as world:
    ...     list(world.run(sharded))
    [{'weight': [1.0, 1.0, 1.0], 'bias': []}, {'weight': [1.0], 'bias': [1.0]}]
    """
    start_equal(module, check_group(group))
    parameters = {n: p for n, p in module.named_parameters() if not hasattr(p, "unit")}
    if not parameters:  # its layers hold all
        return module
    unit = ShardedUnit(module, parameters, group, check=check)
    inner = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        with unit.whole():
            return inner(*args, **kwargs)

    module.forward, module.__deepcopy__ = forward, _refuse_copy  # type: ignore[assignment]
    return module


def _refuse_copy(_: object) -> nn.Module:
    raise ValueError("a fully sharded module cannot be copied: its copy would gather its weights")


class ShardedUnit:
    """The parameters of one module, of which each rank holds a shard, and all of them meanwhile.

    Attributes
    ----------
    plan : Bucket
        Where each parameter lies in the buffer that is cut.
    shards : list of Parameter
        This rank's part of each parameter, maybe empty, in the order of the plan.
    """

    def __init__(
        self,
        module: nn.Module,
        parameters: dict[str, nn.Parameter],
        group: dist.ProcessGroup,
        *,
        check: bool,
    ) -> None:
        self.module, self.group, self.check = module, group, check
        with agreed(group, next(iter(parameters.values())), purpose=f", {check=}"):
            _check_can_be_cut(parameters)
        shapes = {name: tuple(p.shape) for name, p in parameters.items()}
        self.plan = Bucket(shapes, group.size())
        self._full: Tensor | None = None
        whole = flattened(self.plan, list(parameters.values()))
        self._shard = whole[self.plan.shard(group.rank())].clone()
        mine = self.plan.in_shard(group.rank())
        self._parts = [mine.get(name, slice(0, 0)) for name in parameters]
        self.shards = [
            nn.Parameter(self._shard[part], requires_grad=p.requires_grad)
            for part, p in zip(self._parts, parameters.values(), strict=True)
        ]
        self._places = list(_places(module, list(parameters.values())))
        for owner, name, n in self._places:
            owner._parameters[name] = self.shards[n]
        for shard, parameter in zip(self.shards, parameters.values(), strict=True):
            shard.__dict__.update(parameter.__dict__)  # marks, such as of tensor parallelism
            shard.unit = parameter.sharded = self  # type: ignore[attr-defined]

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Have the whole parameters in their places, and keep none of them for backward."""
        self._check_unchanged()
        self.free()  # what a backward that raised may have left is of old weights
        weights = _Unshard.apply(self, *self.shards)  # type: ignore[no-untyped-call]
        for owner, name, n in self._places:
            owner.__dict__[name] = weights[n]  # found before the parameter of that name
        try:
            with torch.autograd.graph.saved_tensors_hooks(self._noted, self._looked_up):
                yield
        finally:
            for owner, name, _ in self._places:
                del owner.__dict__[name]
            self.free()

    def _check_unchanged(self) -> None:
        """Raise if a parameter is no part of what is gathered."""
        held = [owner._parameters.get(name) for owner, name, _ in self._places]
        expected = [self.shards[n] for *_, n in self._places]
        new = [name for name, p in self.module.named_parameters() if not hasattr(p, "unit")]
        if new or any(a is not b for a, b in zip(held, expected, strict=True)):
            raise ValueError(
                f"parameters of {type(self.module).__name__} are new since it was sharded"
                f"{': ' * bool(new)}{listed(new, ' and ')}; shard a module when it is complete"
            )
        check_in(self._shard, self.plan.shapes, self.shards)

    def _noted(self, tensor: Tensor) -> Tensor | tuple[Any, ...]:
        """Of a weight that backward will need, keep where it lies; of all else, itself."""
        storage = tensor.untyped_storage().data_ptr()
        if self._full is None or self._full.untyped_storage().data_ptr() != storage:
            return tensor
        return tensor.size(), tensor.stride(), tensor.storage_offset()

    def _looked_up(self, noted: Any) -> Tensor:
        if isinstance(noted, Tensor):
            return noted
        if self._full is None:  # where no gradient of a weight frees it, the end of backward does
            torch.autograd.Variable._execution_engine.queue_callback(self.free)
        return self.gathered("backward").as_strided(*noted)

    def gathered(self, purpose: str) -> Tensor:
        """Return the whole buffer, gathered unless it is here."""
        if self._full is None:
            self._agree(purpose)
            self._full = self._shard
            if self.group.size() > 1:
                self._full, _ = all_gather(self._shard, self.group)
        return self._full

    def split(self, full: Tensor) -> tuple[Tensor, ...]:
        """Return the whole parameters that lie in a buffer."""
        places = zip(self.plan.spans.values(), self.plan.shapes.values(), strict=True)
        return tuple(full[span].view(shape) for span, shape in places)

    def free(self) -> None:
        """Keep the shards alone."""
        self._full = None

    def scattered(self, gradients: tuple[Tensor | None, ...]) -> list[Tensor]:
        """Return this rank's parts of the mean of all ranks' gradients; free the parameters."""
        self.free()
        missing = [n for n, g in zip(self.plan.shapes, gradients, strict=True) if g is None]
        self._agree(f"gradients but {listed(missing)}" if missing else "gradients")
        size, whole = self.group.size(), self._shard.new_zeros(self.plan.padded_numel)
        for gradient, span in zip(gradients, self.plan.spans.values(), strict=True):
            if gradient is not None:
                whole[span] = gradient.flatten()
        if size > 1:
            whole, _ = reduce_scatter(whole.div_(size), self.group)
        return [whole[part] for part in self._parts]

    def _agree(self, purpose: str) -> None:
        purpose = f" of {type(self.module).__name__} with {self.plan}, {purpose}"
        with agreed(self.group, self._shard, purpose=purpose, check=self.check):
            pass


class _Unshard(TypedFunction):
    """All-gather the shards of a unit; backward is reduce-scatter, and the mean."""

    @staticmethod
    def forward(ctx: Any, unit: ShardedUnit, *shards: Tensor) -> tuple[Tensor, ...]:
        ctx.unit = unit
        ctx.set_materialize_grads(False)
        weights = unit.split(unit.gathered("forward"))
        frozen = [w for w, s in zip(weights, shards, strict=True) if not s.requires_grad]
        ctx.mark_non_differentiable(*frozen)
        return weights

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        parts = ctx.unit.scattered(gradients)
        return None, *(
            part if gradient is not None else None
            for part, gradient in zip(parts, gradients, strict=True)
        )


def _check_can_be_cut(parameters: dict[str, nn.Parameter]) -> None:
    for name, parameter in parameters.items():
        if hasattr(parameter, "sharded"):
            raise ValueError(
                f"{name} is shared with {type(parameter.sharded.module).__name__}, which is "
                f"sharded already; shard the module that holds both, before its layers"
            )
    dtypes = dict.fromkeys(str(p.dtype).removeprefix("torch.") for p in parameters.values())
    if len(dtypes) > 1:
        raise ValueError(
            f"the parameters of one sharded module are of one dtype, got "
            f"{listed(dtypes, ' and ')}; shard its layers first"
        )


def _places(
    module: nn.Module, parameters: list[nn.Parameter]
) -> Iterator[tuple[nn.Module, str, int]]:
    """Yield each module that holds one of the parameters, under which name, and which it is."""
    number = {id(parameter): n for n, parameter in enumerate(parameters)}
    for owner in module.modules():
        for name, parameter in owner._parameters.items():
            if id(parameter) in number:
                yield owner, name, number[id(parameter)]


@torch.no_grad()
def full_state_dict(module: nn.Module) -> dict[str, Tensor]:
    """Return the whole parameters of a fully sharded module, by name; every rank must ask for it.

    Parameters
    ----------
    module : Module
        Fully sharded, with all its layers or in part.

    Returns
    -------
    dict of str to Tensor
        Of the shapes the parameters had.
    """
    named = dict(module.named_parameters(remove_duplicate=False))
    whole: dict[int, Tensor] = {}
    for unit in dict.fromkeys(getattr(parameter, "unit", None) for parameter in named.values()):
        if unit is not None:
            full = unit.gathered("full_state_dict").clone()
            whole |= {id(s): w for s, w in zip(unit.shards, unit.split(full), strict=True)}
            unit.free()
    return {name: whole.get(id(parameter), parameter.detach()) for name, parameter in named.items()}
