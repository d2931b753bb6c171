# All cells of the cluster picture whose subscript is ₂.
answer = [2, 3, 6, 7, 10, 11, 14, 15]
exercises.ranks_of_copy_two(answer)
