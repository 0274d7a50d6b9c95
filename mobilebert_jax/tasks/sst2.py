"""SST-2: is a sentence of a film review negative or positive?"""

from mobilebert_jax.tasks.classification import Submission, classification_task
from mobilebert_jax.tasks.glue import GlueTable

TABLE = GlueTable(
  tfds_name='glue/sst2',
  tfds_columns=('sentence',),
  folder='SST-2',
  files={'train': 'train.tsv', 'validation': 'dev.tsv', 'test': 'test.tsv'},
  columns=('sentence',),
  label_column='label',
  labels=('0', '1'),
)

SST2 = classification_task(
  'sst2',
  labels=('negative', 'positive'),
  load=TABLE.load,
  submission=Submission(
    files={'validation': 'SST-2-validation.tsv', 'test': 'SST-2.tsv'},
    labels=TABLE.labels,
  ),
)
