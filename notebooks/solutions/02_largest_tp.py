# A tp group is tp neighbours in rank; it stays on its node as long as it is no larger than it.
answer = 8
exercises.largest_tp(answer)
