# Stage 0 is 4 copies × 2 halves = 8 ranks, 0–7; copy 2 is the second pair of them: 2 and 3.
# Each further stage lies 8 ranks on.
answer = [stage * 8 + half for stage in range(4) for half in (2, 3)]
exercises.ranks_of_copy_two(answer)
