# Rank 5 shows ⋈₁. The other ⋈ is ⋈₂, on rank 7.
answer = 7
exercises.same_parameters(answer)
