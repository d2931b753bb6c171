def answer(weights, gradient, momentum, group):
    ranks, me = dist.get_world_size(group), dist.get_rank(group)
    size = len(momentum)  # of a shard, padding included
    padding = torch.zeros(ranks * size - len(weights), dtype=weights.dtype)
    mean = torch.empty_like(momentum)
    parts = list(torch.cat([gradient / ranks, padding]).split(size))
    dist.reduce_scatter(mean, parts, group=group)
    momentum.mul_(0.9).add_(mean)
    mine = torch.cat([weights, padding]).split(size)[me] - 0.1 * momentum
    whole = [torch.empty_like(mine) for _ in range(ranks)]
    dist.all_gather(whole, mine, group=group)
    weights.copy_(torch.cat(whole)[: len(weights)])


exercises.zero_1_step(answer)
