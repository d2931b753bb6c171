# ★₁ is on GPU 0 and ★₂ on GPU 2: the same piece, in two copies of the model.
answer = 2
exercises.gpus_with_star(answer)
