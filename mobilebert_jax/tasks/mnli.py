"""MNLI: does a premise entail a hypothesis, contradict it, or neither?"""

from mobilebert_jax.tasks.classification import (
  Submission,
  classification_task,
  submission_writer,
)
from mobilebert_jax.tasks.glue import GlueTable
from mobilebert_jax.tasks.targets import SingleLabel
from mobilebert_jax.tasks.task import Splits

_LABELS = ('entailment', 'neutral', 'contradiction')

SPLITS = Splits(
  evaluation=('validation_matched', 'validation_mismatched'),
  test=('test_matched', 'test_mismatched'),
)

TABLE = GlueTable(
  tfds_name='glue/mnli',
  tfds_columns=('premise', 'hypothesis'),
  folder='MNLI',
  files={
    'train': 'train.tsv',
    'validation_matched': 'dev_matched.tsv',
    'validation_mismatched': 'dev_mismatched.tsv',
    'test_matched': 'test_matched.tsv',
    'test_mismatched': 'test_mismatched.tsv',
  },
  columns=('sentence1', 'sentence2'),
  label_column='gold_label',
  labels=_LABELS,
  no_label='-',
  splits=SPLITS,
)

_TARGET = SingleLabel(_LABELS)

MNLI = classification_task(
  'mnli',
  _TARGET,
  load=TABLE.load,
  write_predictions=submission_writer(
    _TARGET,
    Submission(
      files={
        'validation_matched': 'MNLI-m-validation.tsv',
        'validation_mismatched': 'MNLI-mm-validation.tsv',
        'test_matched': 'MNLI-m.tsv',
        'test_mismatched': 'MNLI-mm.tsv',
      },
      word=_LABELS.__getitem__,
    ),
  ),
  splits=SPLITS,
  primary_metric='validation_matched/accuracy',
)
