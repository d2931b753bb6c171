"""Adam in ten lines, and clipping by the norm of all gradients, wherever they are."""

from collections.abc import Iterable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn


class Adam:
    """Adam (Kingma and Ba 2014, arXiv 1412.6980): what ``torch.optim.Adam`` computes.

    Making one of ``torch.optim`` imports torch's compiler: 40 MB in each rank.

    Parameters
    ----------
    parameters : iterable of Parameter
        To be updated in place.
    lr, betas, eps
        As for ``torch.optim.Adam``.

    Examples
    --------
    >>> weight = nn.Parameter(torch.ones(2))
    >>> weight.grad = torch.tensor([1.0, -5.0])
    >>> Adam([weight], lr=0.5).step()
    >>> weight.data
    tensor([0.5000, 1.5000])
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        self.parameters, self.lr, self.betas, self.eps = list(parameters), lr, betas, eps
        self.state: dict[nn.Parameter, dict[str, Tensor]] = {}
        self.steps = 0

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter that has a gradient."""
        self.steps += 1
        beta1, beta2 = self.betas
        for parameter in self.parameters:
            if parameter.grad is None:
                continue
            if parameter not in self.state:
                zeros = torch.zeros_like(parameter)
                self.state[parameter] = {"exp_avg": zeros, "exp_avg_sq": zeros.clone()}
            m, v = self.state[parameter].values()
            m.lerp_(parameter.grad, 1 - beta1)
            v.mul_(beta2).addcmul_(parameter.grad, parameter.grad, value=1 - beta2)
            root = (v.sqrt() / (1 - beta2**self.steps) ** 0.5).add_(self.eps)
            parameter.addcdiv_(m, root, value=-self.lr / (1 - beta1**self.steps))

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None


def clip_grad_norm(
    model: nn.Module | Sequence[nn.Module],
    max_norm: float,
    *,
    tp: dist.ProcessGroup,
    pp: dist.ProcessGroup,
) -> float:
    """Scale all gradients of a model down to a norm, where theirs is larger; return theirs.

    Each element counts once. What all tp ranks hold whole counts on the first of them: all but
    what is marked ``parameter.tensor_model_parallel``. A copy that another stage counts, such as
    a tied embedding, is marked ``parameter.shared``. These are Megatron's marks. Source:
    Megatron-LM ``megatron/core/optimizer/clip_grads.py``.
    """
    models = [model] if isinstance(model, nn.Module) else list(model)
    held = [p for one in models for p in one.parameters() if p.grad is not None]
    squares = torch.zeros((), dtype=torch.float64)
    for parameter in held:
        here = tp.rank() == 0 or getattr(parameter, "tensor_model_parallel", False)
        if here and not getattr(parameter, "shared", False):
            squares += parameter.grad.double().square().sum()  # type: ignore[union-attr]
    for group in (tp, pp):
        if group.size() > 1:
            dist.all_reduce(squares, group=group)
    norm = float(squares.sqrt())
    scale = max_norm / (norm + 1e-6)
    if not scale >= 1:
        for parameter in held:
            parameter.grad.mul_(scale)  # type: ignore[union-attr]
    return norm
