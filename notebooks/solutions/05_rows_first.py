# Two all-reduces: GeLU needs the sum of the addends of XA, and Z is a sum again.
def answer(X_mine, A_mine, B_mine, group):
    XA = X_mine @ A_mine
    dist.all_reduce(XA, group=group)
    Y_mine = F.gelu(XA).chunk(2, dim=1)[dist.get_rank(group)]  # the columns that meet B_mine
    Z = Y_mine @ B_mine
    dist.all_reduce(Z, group=group)
    return Z


exercises.rows_first(answer)
