"""The chart of a pipeline: rows of ranks, time to the right, and what is held meanwhile."""
