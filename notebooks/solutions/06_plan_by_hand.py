# Rank 0 runs one forward ahead; from then on, each rank takes forward and backward in turn.
answer = """
0F0 0F1 0B0 0F2 0B1 0F3 0B2 0B3
1F0 1B0 1F1 1B1 1F2 1B2 1F3 1B3
"""
exercises.plan_by_hand(answer)
