# With one model copy, dp = 1, there is nothing to put before or after the stages.
answer = explore.compare(nodes=2, gpus_per_node=8, tp=4, pp=4)
exercises.order_does_not_matter(answer)
