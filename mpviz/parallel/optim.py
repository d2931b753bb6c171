"""Adam in ten lines, and clipping by the norm of all gradients, wherever they are."""

from collections.abc import Iterable, Iterator, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .agreement import check_group
from .cutlinear import CutLinear
from .data import DistributedDataParallel
from .vocab import VocabParallelEmbedding


class Adam:
    """Adam, with decoupled weight decay that of AdamW; what ``torch.optim.AdamW`` computes.

    Making one of ``torch.optim`` imports torch's compiler: 40 MB in each rank.

    Parameters
    ----------
    parameters : iterable of Parameter
        To be updated in place.
    lr, betas, eps, weight_decay
        As for ``torch.optim.AdamW``; without weight decay as for ``torch.optim.Adam``.

    Attributes
    ----------
    state : dict
        Of each parameter, ``exp_avg`` and ``exp_avg_sq`` in float32 or wider, and ``master``, its
        weights in float32, where it has fewer digits: 8 bytes an element, or 12.

    Notes
    -----
    Sources: Kingma and Ba 2014 (arXiv 1412.6980), algorithm 1; Loshchilov and Hutter 2017 (arXiv
    1711.05101), algorithm 2.

    Examples
    --------
    >>> weight = nn.Parameter(torch.ones(2))
    >>> weight.grad = torch.tensor([1.0, -5.0])
    >>> Adam([weight], lr=0.5).step()
    >>> weight
    Parameter containing:
    tensor([0.5000, 1.5000], requires_grad=True)
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        self.lr, self.betas, self.eps, self.weight_decay = lr, betas, eps, weight_decay
        self.parameters = list(parameters)
        if any(parameter.is_complex() for parameter in self.parameters):
            raise ValueError("Adam takes real parameters; torch.view_as_real makes such of complex")
        self.state: dict[nn.Parameter, dict[str, Tensor]] = {}
        self.steps: dict[nn.Parameter, int] = {}

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter that has a gradient."""
        for parameter in self.parameters:
            if parameter.grad is not None:
                self._update(parameter, parameter.grad)

    def _update(self, parameter: nn.Parameter, gradient: Tensor) -> None:
        state, (beta1, beta2) = self._state(parameter), self.betas
        t = self.steps[parameter] = self.steps.get(parameter, 0) + 1
        weight = state.get("master", parameter)
        gradient = gradient.to(weight.dtype)
        m, v = state["exp_avg"], state["exp_avg_sq"]
        weight.mul_(1 - self.lr * self.weight_decay)
        m.lerp_(gradient, 1 - beta1)
        v.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        root = (v.sqrt() / (1 - beta2**t) ** 0.5).add_(self.eps)
        weight.addcdiv_(m, root, value=-self.lr / (1 - beta1**t))
        if weight is not parameter:
            parameter.copy_(weight)

    def _state(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        if parameter not in self.state:
            wide = torch.promote_types(parameter.dtype, torch.float32)
            weight = parameter.detach().to(wide)
            moments = {"exp_avg": torch.zeros_like(weight), "exp_avg_sq": torch.zeros_like(weight)}
            master = {"master": weight} if wide != parameter.dtype else {}
            self.state[parameter] = moments | master
        return self.state[parameter]

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None


def clip_grad_norm(
    model: nn.Module | Sequence[nn.Module],
    max_norm: float,
    *,
    tp: dist.ProcessGroup | None = None,
    pp: dist.ProcessGroup | None = None,
) -> float:
    """Scale all gradients of a model down to a norm, where theirs is larger; return theirs.

    It is the norm of the whole model's gradient: over its parts on the ranks of tp and pp, and
    over the shards of ZeRO. Between the sum over dp and the optimizer's step; every rank calls it.

    Parameters
    ----------
    model : Module or sequence of Module
        What this rank holds: plain, `DistributedDataParallel`, fully sharded; several stages of an
        interleaved pipeline. Its gradients are changed in place.
    max_norm : float
        Above 0.
    tp, pp : ProcessGroup, optional
        Over which the model is cut.

    Returns
    -------
    float
        The norm before, √Σg², the same on every rank of tp and pp. If one gradient is not finite,
        neither is the norm.

    Raises
    ------
    ValueError
        When ``max_norm`` is not above 0.

    Notes
    -----
    Counted once are parameters that all tp ranks hold whole: all but those that are cut in
    `ColumnParallelLinear`, `RowParallelLinear` and `VocabParallelEmbedding`, or are marked
    ``parameter.tensor_model_parallel = True``. A copy of a parameter that another pipeline rank
    counts, such as a tied embedding, is marked ``parameter.shared = True``. These are Megatron's
    marks. Source: Megatron-LM ``megatron/core/optimizer/clip_grads.py``.

    Examples
    --------
    >>> layer = nn.Linear(2, 1, bias=False)
    >>> layer.weight.grad = torch.tensor([[3.0, 4.0]])
    >>> clip_grad_norm(layer, 1.0)
    5.0
    >>> layer.weight.grad
    tensor([[0.6000, 0.8000]])
    """
    if not max_norm > 0:
        raise ValueError(f"max_norm must be above 0, got {max_norm!r}")
    models = [model] if isinstance(model, nn.Module) else list(model)
    squares = sum((_squares(one, tp) for one in models), torch.zeros((), dtype=torch.float64))
    for group in (tp, pp):
        if group is not None and check_group(group).size() > 1:
            dist.all_reduce(squares, group=group)
    norm = float(squares.sqrt())
    scale = max_norm / (norm + 1e-6)
    if not scale >= 1:
        for one in models:
            for _, gradient in held_gradients(one):
                gradient.mul_(scale)
    return norm


def _squares(model: nn.Module, tp: dist.ProcessGroup | None) -> Tensor:
    """Return the sum of squares of what this rank counts, and of all shards of it."""
    total, copied = torch.zeros(2, dtype=torch.float64).unbind()  # what all hold counts once
    over, is_wrapped = _sharded_over(model), isinstance(model, DistributedDataParallel)
    cut = set(_cut_over_tp(model)) if tp is not None and tp.rank() > 0 else None
    for parameter, gradient in held_gradients(model):
        if not getattr(parameter, "shared", False) and (cut is None or id(parameter) in cut):
            kind = total if is_wrapped or hasattr(parameter, "unit") else copied
            kind += gradient.abs().double().square().sum().cpu()
    if over is not None and over.size() > 1:
        dist.all_reduce(total, group=over)
    return total + copied


def held_gradients(model: nn.Module) -> Iterator[tuple[nn.Parameter, Tensor]]:
    """Yield each parameter with what this rank holds of its gradient: all of it, or its shard."""
    if not isinstance(model, DistributedDataParallel) or _sharded_over(model) is None:
        for parameter in model.parameters():
            if parameter.grad is not None:
                yield parameter, parameter.grad
        return
    for bucket in model.buckets:
        places = bucket.plan.in_shard(model.group.rank())
        named = zip(bucket.plan.shapes, bucket.parameters, bucket.used, strict=True)
        for name, parameter, used in named:
            if used and name in places and bucket.shard is not None:
                yield parameter, bucket.shard[places[name]]


def _sharded_over(model: nn.Module) -> dist.ProcessGroup | None:
    """Return the group over which gradients are cut; None where each rank holds them whole."""
    if isinstance(model, DistributedDataParallel):
        return model.group if any(bucket.stage for bucket in model.buckets) else None
    units = (getattr(parameter, "unit", None) for parameter in model.parameters())
    return next((unit.group for unit in units if unit is not None), None)


def _cut_over_tp(model: nn.Module) -> Iterator[int]:
    """Yield the parameters, by id, of which each tp rank holds a part of its own."""
    for module in model.modules():
        if isinstance(module, VocabParallelEmbedding):
            yield id(module.weight)
        if isinstance(module, CutLinear):
            for cut, parameter in ((module.matrix, module.weight), (module.vector, module.bias)):
                if cut is not None and cut.dim is not None:
                    yield id(parameter)
        for parameter in module.parameters(recurse=False):
            if getattr(parameter, "tensor_model_parallel", False):
                yield id(parameter)
