def answer(parameters, group):
    arrived, sent = [], []

    def hook(parameter):
        arrived.append(parameter)
        if len(arrived) == len(parameters):
            buffer = torch.cat([p.grad.flatten() for p in parameters])
            sent.append((buffer, dist.all_reduce(buffer, group=group, async_op=True)))

    def finish():
        buffer, work = sent.pop()
        work.wait()
        buffer /= dist.get_world_size(group)
        means = iter(buffer.split([p.numel() for p in parameters]))
        for p in parameters:
            p.grad = next(means).view_as(p)
        arrived.clear()  # for the next step

    for parameter in parameters:
        parameter.register_post_accumulate_grad_hook(hook)
    return finish


exercises.bucket_in_a_hook(answer)
