# ep is no factor of the world size: the experts regroup the ranks that are there.
answer = 2 * 4 * 2
exercises.gpus_with_experts(answer)
