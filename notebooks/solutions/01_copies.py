gpus, gpus_per_model = 4 * 8, 4 * 2
answer = gpus // gpus_per_model
exercises.copies(answer)
