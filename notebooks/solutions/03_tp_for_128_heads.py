# 128 is a power of two and 72 = 8 × 9, so no more than 8 divides both.
answer = 8
exercises.tp_for_128_heads(answer)
