# An activation: 64 tokens × 128 features × 4 bytes, of one sequence. There are 8 microbatches.
one = 64 * 128 * 4
answer = {
    "tp": 8 * (6 * 4 + 1) * one,  # six layers of four all-reduces, and the embedding's
    "pp": 8 * one,  # forward alone: before the first stage there is none to send to
    "embedding": 1024 // 4 * 128 * 4,  # this rank's words, once a step
}
exercises.bytes_of_a_step(answer)
