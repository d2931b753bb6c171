# Two copies on one rank are added there; one copy meets the other over the embedding group.
def answer(gradients, groups):
    if len(gradients) == 2:
        total = gradients[0] + gradients[1]
        for gradient in gradients:
            gradient.copy_(total)
    elif gradients:
        dist.all_reduce(gradients[0], group=groups["embedding"])


exercises.tied_sum(answer)
