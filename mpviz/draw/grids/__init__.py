"""Pictures of ranks where they sit: the slide grid, the machines, groups, values, traffic."""
