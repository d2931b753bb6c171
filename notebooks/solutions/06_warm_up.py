def answer(rank, pp, microbatches):
    return min(microbatches, pp - 1 - rank)


exercises.warm_up(answer)
