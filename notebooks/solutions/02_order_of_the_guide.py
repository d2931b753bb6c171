# A copy is finished before the next begins when dp varies slowest, so dp comes last.
answer = "tp-pp-dp"
exercises.order_of_the_guide(answer)
