# On every rank, in a cell of %%ranks: how many elements differ from the stage's other three?
#
#     stage = [r for r in range(16) if r // 4 == rank // 4]
#     [int((exercises.residual_mask(r) != mask).sum()) for r in stage]
#
# Ranks 8, 10 and 11 agree, and 9 differs from all three.
answer = 9
exercises.wrong_seed(answer)
