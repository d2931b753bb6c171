# What divides the node, the heads and the KV heads; the largest of those.
def answer(gpus_per_node, heads, kv_heads):
    fits = [
        tp
        for tp in range(1, gpus_per_node + 1)
        if gpus_per_node % tp == heads % tp == kv_heads % tp == 0
    ]
    return max(fits)


exercises.largest_tp(answer)
