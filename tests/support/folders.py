"""The package's folders, lowest first, and what each holds.

A folder imports only from those above it here, and from itself; the commands at
the package's root import from all. `test_layering` holds the order, and the
site's picture is drawn from it.
"""

FOLDERS = {
  'runtime': 'the machine and its processes',
  'config': 'settings, config files, command lines',
  'tokenizer': 'WordPiece, as transformers has it',
  'metrics': 'scores of predictions',
  'losses': 'losses as sums and weights',
  'reporting': 'what a run tells: numbers, curves, report',
  'models': 'the architecture, and names of array axes',
  'inference': 'the model as it is served, for any backend',
  'convert': 'weights in and out, one table of names',
  'data': 'readers, records, examples, batches',
  'tasks': 'what is learnt and how it is scored',
  'training': 'one run: loop, step, mesh, checkpoints',
  'pipelines': 'ready-made uses',
  'export': 'files that other programs load',
  'pretraining_data': 'text to examples for pre-training',
  'distillation': 'the method that learns from a teacher',
  'launch': 'a run from its config, by its method',
  'tpu_compile': 'programs for TPUs that are not at hand',
  'experiments': 'several runs: GLUE, searches, recipes',
}
