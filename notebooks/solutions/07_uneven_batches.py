# The gradient of a mean is a mean: weighed by its samples, it is a sum again.
def answer(gradients, samples, group):
    everybody = torch.tensor(float(samples))
    dist.all_reduce(everybody, group=group)
    for gradient in gradients:
        gradient *= samples / everybody.item()
        dist.all_reduce(gradient, group=group)


exercises.uneven_batches(answer)
