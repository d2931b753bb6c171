# Attention and MLP, forward and backward: four all-reduces of tokens × hidden numbers.
answer = 4 * 2048 * 12288 * 2
exercises.bytes_of_a_layer(answer)
