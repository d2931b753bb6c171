# A tp group stays on its node as long as tp divides the node; the largest divisor is all of it.
answer = 72
exercises.tp_on_72_gpus(answer)
