"""Whether a stage cuts the autograd graph, so that parameters before it would learn nothing."""

from ...schedule import Action
from .p2p import Header, TensorMeta, Transfer
from .stage import Stage


class GraphCut:
    """What one rank knows of it: from its own stages, and from the headers that it receives.

    Parameters
    ----------
    stages : int
        Of the whole pipeline.

    Attributes
    ----------
    stage : int or None
        The first stage known to cut the graph. Backwards are skipped from then on.
    """

    def __init__(self, stages: int) -> None:
        self.stage: int | None = None
        self._stages = stages
        # Of each stage whose output is known here: whether it requires a gradient.
        self._requires: dict[int, bool] = {}

    def check(self, action: Action, stage: Stage) -> None:
        """Note if the output of a forward requires no gradient, and should."""
        number, _, microbatch = action
        requires, first = stage.requires_gradient(microbatch), number not in self._requires
        self._requires.setdefault(number, requires)
        if requires or self.stage is not None:
            return
        if stage.trainable or self._requires.get(number - 1, False):
            if not first:
                raise ValueError(f"{self._text(number)} (first for microbatch {microbatch})")
            self.stage = number

    def header(self, transfer: Transfer, meta: TensorMeta) -> Header:
        """Return what the receiver must know before the first transfer of its kind."""
        gradient = transfer.receiver < transfer.sender
        return Header(meta, gradient or self._requires[transfer.sender], self.stage)

    def update(self, transfer: Transfer, header: Header) -> None:
        """Take in what a header says."""
        if transfer.receiver > transfer.sender:
            self._requires[transfer.sender] = header.requires_grad
        if self.stage is None:
            self.stage = header.cut

    def raise_if_cut(self) -> None:
        """Raise, on every rank alike, when the plan is done."""
        if self.stage is not None:
            raise ValueError(self._text(self.stage))

    def _text(self, stage: int) -> str:
        return (
            f"stage {stage} cuts the graph: "
            f"{'the loss' if stage == self._stages - 1 else 'its output'} requires no "
            f"gradient, so parameters of this stage, or of one before it, would get none. Let it "
            f"not detach and not run under no_grad; what shall not learn is frozen by "
            f"requires_grad_(False)"
        )
