# Of four copies, a stage has 8 ranks: 13 is in stage 1, ranks 8–15. It is odd, so it holds tp 1.
answer = [rank for rank in range(8, 16) if rank % 2 == 1]
exercises.same_parameters(answer)
