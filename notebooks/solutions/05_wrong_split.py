# r adds up after GeLU. GeLU bends: GeLU of a sum is not the sum of GeLUs.
answer = "r"
exercises.wrong_split(answer)
