# Rank 6 is tp 0, dp 1. Those stay; pp runs over 0, 1, 2, 3.
tp, dp = 0, 1
answer = [tp + 2 * dp + 4 * pp for pp in range(4)]
exercises.pipeline_group_of_six(answer)
