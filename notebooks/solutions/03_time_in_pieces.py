# Every piece has its latency, a smaller last one too; the bytes are the same in any pieces.
def answer(total, piece, latency, bandwidth):
    pieces = -(-total // piece)  # rounded up
    return pieces * latency + total / bandwidth


exercises.time_in_pieces(answer)
