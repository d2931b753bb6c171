"""A recorded step of training, made up: what each kind of group does in a layout, as events."""

from mpviz import Event, ParallelLayout

SLIDE = ParallelLayout(nodes=2, gpus_per_node=8, tp=2, pp=4)


def recorded_events(layout=SLIDE):
    """A barrier; then on each rank: tp, a message over pp, embedding, dp, and the norm over pp."""
    everybody = tuple(range(layout.world_size))
    events = [Event(rank, "barrier", -1.0, -0.5, everybody) for rank in everybody]
    for rank in everybody:
        begin = 0.1 * layout.coordinates(rank)["pp"]

        def collective(kind, start, end, size, rank=rank, begin=begin):
            members = layout.groups(kind).of(rank)
            events.append(Event(rank, "all_reduce", begin + start, begin + end, members, size))

        collective("tp", 0.0, 0.2, 64)
        collective("tp", 0.25, 0.3, 64)
        collective("dp", 0.7, 0.9, 256)
        collective("pp", 0.95, 1.0, 8)
        pipeline = layout.groups("pp").of(rank)
        if rank in (pipeline[0], pipeline[-1]):
            collective("embedding", 0.5, 0.6, 32)
        if rank != pipeline[-1]:
            right = pipeline[pipeline.index(rank) + 1]
            events.append(Event(rank, "isend", begin + 0.4, begin + 2.0, pipeline, 16, right))
            events.append(Event(right, "irecv", begin, begin + 0.45, pipeline, 16, rank))
    return events
