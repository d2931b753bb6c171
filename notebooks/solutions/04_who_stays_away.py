# Rank 0 waits for its dp group, 0 and 2.
answer = 2
exercises.who_stays_away(answer)
