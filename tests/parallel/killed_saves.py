"""Kill a save at a point of its way, in a rank, and see what the folder then holds."""

import cloudpickle

from mpviz import ParallelLayout, RanksError, World, parallel
from mpviz.parallel import checkpoint

CONFIG = parallel.GPTConfig(num_layers=2, hidden_size=8, num_heads=2, sequence=4)
LAYOUT = ParallelLayout(gpus_per_node=2, tp=2)
WATCHED = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.scandir", "shutil.rmtree")


def killed(rank, groups, folder, config, step, victim, number, watched):
    """Save weights that all are the step; in one rank kill it at such a call to the system."""
    import os
    import signal
    import sys

    from mpviz import parallel
    from mpviz.parallel import checkpoint

    stage = parallel.gpt_stage(config, 0, 1, groups)
    for parameter in stage.parameters():
        parameter.data.fill_(step)
    calls = []

    def watch(event, given):
        if event in watched and any(folder in str(one) for one in given[:2]):
            calls.append(event)
            if len(calls) == number and rank == victim:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    checkpoint.save(folder, stage, step=step)
    return len(calls)


cloudpickle.register_pickle_by_value(__import__("sys").modules[__name__])


def steps_left(folder, kills):
    """Save step 1; then kill the save of steps 2, 3, … at (rank, number); which is left each time.

    Raises if what is left is not all of one step.
    """
    folder, left = str(folder), []
    with World(LAYOUT, timeout=30) as world:
        world.run(killed, folder, CONFIG, 1, -1, 0, WATCHED)
    for step, (victim, number) in enumerate(kills, start=2):
        with World(LAYOUT, timeout=30) as world:
            try:
                world.run(killed, folder, CONFIG, step, victim, number, WATCHED)
                raise AssertionError(f"rank {victim} has made fewer than {number} calls")
            except RanksError:
                pass
        model = parallel.GPT(CONFIG)
        left.append(checkpoint.load(folder, model))
        values = {value for p in model.parameters() for value in p.unique().tolist()}
        assert values == {left[-1]}, (step, left, values)
    return left
