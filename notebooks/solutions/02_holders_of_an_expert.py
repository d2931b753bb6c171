# The experts' grid over the same 64 GPUs: etp × ep × edp × pp. What is left for edp?
answer = 64 // (1 * 4 * 4)
exercises.holders_of_an_expert(answer)
