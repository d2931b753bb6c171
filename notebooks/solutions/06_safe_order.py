# One of the two has to receive first.
answer = "b"
exercises.safe_order(answer)
