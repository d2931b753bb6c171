"""Kill saves, each at another point of its way, and see what the folder then holds."""

import sys

import cloudpickle

from mpviz import ParallelLayout, RanksError, World, parallel
from mpviz.parallel import checkpoint

CONFIG = parallel.GPTConfig(num_layers=2, hidden_size=8, num_heads=2, sequence=4)
LAYOUT = ParallelLayout(gpus_per_node=2, tp=2)
NOBODY, ONCE_NAMED = -1, 0

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # as a notebook's functions go


def killed(rank, groups, folder, step, victim, number):
    """Save weights that all are the step; die at a call that touches the folder, or at a tensor.

    At the one of that number; `ONCE_NAMED`: at the next when the new checkpoint is named.
    """
    import os
    import signal

    stage = parallel.gpt_stage(CONFIG, 0, 1, groups)
    for parameter in stage.parameters():
        parameter.data.fill_(step)
    seen = []

    def watch(event, given):
        known = event in ("open", "tensor") or event.startswith(("os.", "shutil."))
        if known and any(folder in str(one) for one in given[:2]):
            named = any("checkpoint.json.new" in at and "rename" in at for at in seen)
            seen.append(f"{event} {given[0]}")
            if victim == rank and (len(seen) == number or (named and number == ONCE_NAMED)):
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    found = checkpoint._SavePlanner.lookup_object

    def lookup(self, index):
        watch("tensor", [folder])
        return found(self, index)

    checkpoint._SavePlanner.lookup_object = lookup
    checkpoint.save(folder, stage, step=step)


def steps_left(folder, kills):
    """Save step 1; then kill the save of steps 2, 3, … at (rank, number); which is left each time.

    Raises if what is left is not all of one step.
    """
    folder, left = str(folder), []
    with World(LAYOUT, timeout=30) as world:
        world.run(killed, folder, 1, NOBODY, 0)
    for step, (victim, number) in enumerate(kills, start=2):
        with World(LAYOUT, timeout=30) as world:
            try:
                world.run(killed, folder, step, victim, number)
            except RanksError as error:
                assert f"rank {victim}" in str(error) and "killed" in str(error), error
            else:
                raise AssertionError(f"rank {victim} has made fewer than {number} calls")
        model = parallel.GPT(CONFIG)
        left.append(checkpoint.load(folder, model))
        values = {value for p in model.parameters() for value in p.unique().tolist()}
        assert values == {left[-1]}, (step, left, values)
    return left
