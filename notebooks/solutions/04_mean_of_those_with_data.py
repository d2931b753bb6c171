# A member without data joins all the same, with zeros; the members also add up how many have data.
def answer(x, has_data, group):
    total = x if has_data else torch.zeros_like(x)
    count = torch.tensor(float(has_data))
    dist.all_reduce(total, group=group)
    dist.all_reduce(count, group=group)
    return total / count


exercises.mean_of_those_with_data(answer)
