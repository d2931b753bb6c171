tp, dp, pp = 1, 0, 2
answer = tp + 2 * dp + 4 * pp
exercises.rank_at(answer)
