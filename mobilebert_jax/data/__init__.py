"""From files to batches; NumPy only.

In the order in which data passes through:

- `readers`: files as they are published, and the user's own, to plain examples
- `records`: pre-training examples on disk, found by their number
- `examples`: from running text to sequences and masks, for pre-training; what
  other tasks read is encoded by the task (`Task.encode`)
- `batching`: from encoded examples to padded or packed batches

and beside them `random_streams` (every random stream of the host) and
`prepare` (the command that downloads TFDS data sets).
"""
