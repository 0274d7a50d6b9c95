"""From encoded examples to batches.

- `features`: encoded examples in flat arrays, batches padded from them, the
  lengths that batches are padded to, labels at masked positions
- `packing`: several examples in one row
- `loader`: the order of examples, batches of training and evaluation, the
  rows of each process, and the next batch on the devices ahead of its step
- `token_cache`: encoded examples kept on disk
"""
