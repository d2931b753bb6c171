# A stage and all its copies, tp × dp GPUs, fit in a node once pp is at least the number of nodes.
answer = explore.layout(nodes=4, gpus_per_node=8, tp=2, pp=4)
exercises.no_all_reduce_leaves(answer)
