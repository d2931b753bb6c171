# (p - 1) / (m + p - 1) = 7 / 31
answer = round(100 * 7 / 31)
exercises.bubble_in_percent(answer)
