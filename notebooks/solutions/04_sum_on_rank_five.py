# The pp group of rank 5 is 1, 5, 9, 13.
answer = 1 + 5 + 9 + 13
exercises.sum_on_rank_five(answer)
