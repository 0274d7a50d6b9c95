"""SST-2: is a sentence of a film review negative or positive?"""

from mobilebert_jax.tasks.classification import (
  Submission,
  classification_task,
  submission_writer,
)
from mobilebert_jax.tasks.glue import GlueTable
from mobilebert_jax.tasks.targets import SingleLabel

TABLE = GlueTable(
  tfds_name='glue/sst2',
  tfds_columns=('sentence',),
  folder='SST-2',
  files={'train': 'train.tsv', 'validation': 'dev.tsv', 'test': 'test.tsv'},
  columns=('sentence',),
  label_column='label',
  labels=('0', '1'),
)

_TARGET = SingleLabel(('negative', 'positive'))

SST2 = classification_task(
  'sst2',
  _TARGET,
  load=TABLE.load,
  write_predictions=submission_writer(
    _TARGET,
    Submission(
      files={'validation': 'SST-2-validation.tsv', 'test': 'SST-2.tsv'},
      word=TABLE.labels.__getitem__,
    ),
  ),
)
