# Z = addend 0 + addend 1, so the gradient of each addend is that of Z, unchanged.
def answer(gradient, group):
    return gradient


exercises.backward_of_g(answer)
