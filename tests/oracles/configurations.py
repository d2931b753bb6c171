"""Random clusters and cuts, said once to mpviz and once to Megatron."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle, permutations
from random import Random

from mpviz import ParallelLayout

AXES = ("tp", "cp", "ep", "dp", "pp")


@dataclass(frozen=True)
class Configuration:
    world: int
    tp: int
    cp: int
    pp: int
    ep: int
    expert_tp: int | None
    order: str

    def layout(self) -> ParallelLayout:
        # Groups do not depend on the nodes; one GPU each is the shortest way to say the world.
        return ParallelLayout(
            nodes=self.world,
            gpus_per_node=1,
            tp=self.tp,
            cp=self.cp,
            pp=self.pp,
            ep=self.ep,
            expert_tp=self.expert_tp,
            order=self.order,
        )


def configurations(count: int, *, largest_world: int, seed: int = 0) -> Iterator[Configuration]:
    """Yield configurations over all 120 orders of the axes, a few of them impossible."""
    random = Random(seed)
    orders = list(permutations(AXES))
    random.shuffle(orders)
    for _, order in zip(range(count), cycle(orders), strict=False):
        yield _configuration(random, order, largest_world)


def _configuration(random: Random, order: tuple[str, ...], largest_world: int) -> Configuration:
    tp, cp, dp, pp = _sizes(random, largest_world)
    world = tp * cp * dp * pp
    stage = world // pp
    ep, expert_tp = 1, None
    if random.random() < 0.6:
        # Any size that fits; one in ten may not.
        ep = random.choice(_divisors(stage) if random.random() < 0.9 else range(1, stage + 2))
        expert_tp = random.choice([None, *_divisors(max(stage // ep, 1))])
    if random.random() < 0.5 and order[-1] != "pp":
        # Experts and contexts fit few orders but those that end in pp: have enough of these.
        order = (*(axis for axis in order if axis != "pp"), "pp")
    if random.random() < 0.05:
        world += random.randint(1, 3)
    etp = tp if expert_tp is None else expert_tp
    edp = world // (etp * ep * pp)
    size_1 = [
        axis
        for axis, sizes in {
            "tp": (tp, etp),
            "cp": (cp,),
            "ep": (ep,),
            "dp": (dp, edp),
            "pp": (pp,),
        }.items()
        if set(sizes) == {1}
    ]
    left_out = {axis for axis in size_1 if random.random() < 0.5}
    if random.random() < 0.2:
        # Left out although its size is not 1, or only that of its namesake for the experts.
        left_out.add(random.choice(["tp", "dp", random.choice(AXES)]))
    said = [axis for axis in order if axis not in left_out] or list(order)
    return Configuration(world, tp, cp, pp, ep, expert_tp, "-".join(said))


def _sizes(random: Random, largest_world: int) -> tuple[int, int, int, int]:
    while True:
        tp, cp, dp, pp = (random.choice([1, 1, 2, 2, 3, 4, 5, 6, 8]) for _ in range(4))
        if tp * cp * dp * pp <= largest_world:
            return tp, cp, dp, pp


def _divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]
