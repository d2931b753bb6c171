# Node n has ranks n * gpus_per_node and up; a group leaves its node if it has members on several.
def answer(group, gpus_per_node):
    return len({rank // gpus_per_node for rank in group}) > 1


exercises.leaves_node(answer)
