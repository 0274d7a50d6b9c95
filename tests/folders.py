"""The package's folders in their order: each imports from those before it.

The picture of `docs/explanation/design.md` is drawn from this list.
"""

FOLDERS = {
  'runtime': 'errors, files, gs://, the hub, processes, locks, signals',
  'config': 'settings of model, run and distillation; command lines',
  'tokenizer': 'WordPiece: encode, decode, train, load and save',
  'data': 'official files and TFDS to batches; every random stream',
  'models': 'embeddings, blocks, heads, losses, partitioning',
  'convert': 'one table of tensor names; load and save checkpoints',
  'reporting': 'metrics, reports, pictures',
  'tasks': 'what is learnt: examples, loss, scores, predictions',
  'training': 'the loop, step, optimizer, mesh, checkpoints',
  'pipelines': 'text in, results out',
  'pretraining_data': 'text to records of masked examples',
  'distillation': 'knowledge transfer from a teacher',
  'tpu_compile': 'programs for TPU slices without a TPU',
  'experiments': 'many runs: GLUE, sweeps, the whole recipe',
}
