# Q, K and V by their own names; each is then cut by rows, as Shard(0) says.
def answer(weight, tp):
    q, k, v = weight.split([16 // tp, 8 // tp, 8 // tp])
    return {"q": q, "k": k, "v": v}


exercises.stored_apart(answer)
