# tp and dp stay as they are: together they are rank % (tp * dp). pp runs.
def answer(rank, tp, dp, pp):
    return [rank % (tp * dp) + tp * dp * stage for stage in range(pp)]


exercises.pipeline_group(answer)
